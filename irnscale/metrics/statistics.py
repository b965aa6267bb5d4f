"""Natural scene statistics: contrast-normalised luminance and the distributions that are fitted to it.

Sources: Ruderman 1994 for the normalisation; Lasmar et al. 2009 for the asymmetric generalised Gaussian; both as
Mittal et al. use them (BRISQUE, TIP 2012, section III; NIQE, SPL 2013, section II).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]

_TAPS = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
_TAPS /= _TAPS.sum()
_SHAPES = 0.2 + 0.001 * np.arange(9801)
"""Where the shape of a distribution is looked for: from 0.2 to 10, between these by interpolation."""


class Normalised(NamedTuple):
    """Both (H, W): (x - mean) / (deviation + c), and the deviation, in the Gaussian window around each pixel."""

    values: Array
    deviation: Array


def normalised(gray: Array, *, c: float = 1.0, border: str = "edge") -> Normalised:
    """Mean-subtracted contrast-normalised luminance of (H, W): 7 x 7 Gaussian window with sigma 7/6.

    `c` keeps flat parts quiet; 1 where luminance is in 0..255. `border`: "edge" repeats the border's pixels beyond
    it, "constant" has zeros there.
    """
    mean = _blur(gray, border)
    deviation = np.sqrt(np.abs(_blur(gray * gray, border) - mean * mean))
    return Normalised((gray - mean) / (deviation + c), deviation)


def _blur(x: Array, border: str) -> Array:
    padded = np.pad(x, 3, mode=border)  # type: ignore[call-overload]
    rows = sum(tap * padded[k : k + x.shape[0]] for k, tap in enumerate(_TAPS))
    result: Array = sum(tap * rows[:, k : k + x.shape[1]] for k, tap in enumerate(_TAPS))
    return result


def blocks(x: Array, side: int) -> Array:
    """(rows * columns, side, side) of (H, W), both of which `side` divides."""
    rows, columns = x.shape[0] // side, x.shape[1] // side
    return x.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)


class Asymmetric(NamedTuple):
    """Asymmetric generalised Gaussians, (N,) each: shape, and the deviation of either side about zero."""

    shape: Array
    left: Array
    right: Array

    @property
    def scale(self) -> Array:
        """What a deviation is multiplied with to get the distribution's own width, beta."""
        return np.sqrt(_gamma(1 / self.shape) / _gamma(3 / self.shape))

    @property
    def mean(self) -> Array:
        """(beta_r - beta_l) gamma(2 / shape) / gamma(1 / shape)."""
        width = (self.right - self.left) * self.scale
        return np.asarray(width * _gamma(2 / self.shape) / _gamma(1 / self.shape))


def fitted(values: Array, *, zeros_above: bool = False) -> Asymmetric:
    """By moments, of each row of (N, values). NaN where a row has nothing on one side of zero.

    `zeros_above`: what is exactly zero, as in overexposed skies, counts as above it, and not as neither.
    """
    squares = values * values
    below, above = values < 0, values >= 0 if zeros_above else values > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.sqrt((squares * below).sum(axis=1) / below.sum(axis=1))
        right = np.sqrt((squares * above).sum(axis=1) / above.sum(axis=1))
        ratio = left / right
        moments = np.abs(values).mean(axis=1) ** 2 / squares.mean(axis=1)
        wanted = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = np.interp(wanted, _moment_ratios(), _SHAPES)  # NaN stays NaN
    return Asymmetric(shape, left, right)


@cache
def _moment_ratios() -> Array:
    """gamma(2/a)^2 / (gamma(1/a) gamma(3/a)), which grows with the shape a."""
    return np.asarray(_gamma(2 / _SHAPES) ** 2 / (_gamma(1 / _SHAPES) * _gamma(3 / _SHAPES)))


def _gamma(x: Array) -> Array:
    return np.asarray(np.vectorize(math.gamma, otypes=[np.float64])(x))
