"""BRISQUE: a regression from 36 natural scene statistics to people's opinions, about 0 to 100. Lower is better.

Mittal, Moorthy and Bovik, "No-reference image quality assessment in the spatial domain", TIP 2012. A regression belongs
to the features that it was made with, so these are computed as the package `brisque` 0.2 does, whose regression this
is: its data file is read, its code (which needs OpenCV) is not imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np

from irnscale.errors import UsageError
from irnscale.metrics.statistics import Array, fitted, normalised

_GRAY = (0.2125, 0.7154, 0.0721)
_HALVING = (-0.09375, 0.59375, 0.59375, -0.09375)
"""Bicubic interpolation with a = -0.75 in the middle between two pixels, without antialiasing."""
# Least and greatest of each feature over the pictures of the regression: `normalize.pickle` of the same package.
_LEAST = (
    *(0.336999, 0.019667, 0.23, -0.125959, 0.000167, 0.000616, 0.231, -0.125873, 0.000165, 0.0006, 0.241, -0.128814),
    *(0.000179, 0.000386, 0.243, -0.13308, 0.000182, 0.000421, 0.436998, 0.016929, 0.247, -0.200231, 0.000104),
    *(0.000834, 0.257, -0.200017, 0.000112, 0.000876, 0.257, -0.155072, 0.000112, 0.000356, 0.258, -0.154374),
    *(0.000117, 0.000351),
)
_GREATEST = (
    *(9.999411, 0.807472, 1.644021, 0.202917, 0.712384, 0.468672, 1.644021, 0.169548, 0.713132, 0.467896, 1.553016),
    *(0.101368, 0.687324, 0.533087, 1.554016, 0.101, 0.689177, 0.533133, 3.639918, 0.800955, 1.096995, 0.175286),
    *(0.755547, 0.39927, 1.095995, 0.155928, 0.751488, 0.402398, 1.041992, 0.093209, 0.623516, 0.532925, 1.042992),
    *(0.093714, 0.621958, 0.534484),
)


@dataclass(frozen=True, eq=False)
class Regression:
    """A support vector machine with a Gaussian kernel: vectors (N, 36), their weights (N,), gamma and rho."""

    vectors: Array
    weights: Array
    gamma: float
    rho: float

    def score(self, rgb255: Array) -> float:
        """BRISQUE of a picture (H, W, 3) in 0..255; NaN where it is flat or smaller than 2 x 2 pixels."""
        found = features(rgb255)
        if not np.isfinite(found).all():
            return float("nan")
        least, greatest = np.array(_LEAST), np.array(_GREATEST)
        scaled = 2 * (found - least) / (greatest - least) - 1
        likeness = np.exp(-self.gamma * ((self.vectors - scaled) ** 2).sum(axis=1))
        return float(likeness @ self.weights - self.rho)


def features(rgb255: Array) -> Array:
    """(36,) of a picture (H, W, 3) in 0..255: 18 at its size, 18 at half of it. NaN where it is flat."""
    if min(rgb255.shape[:2]) < 4:
        return np.full(36, np.nan)
    gray = rgb255 @ np.array(_GRAY) / 255
    return np.concatenate([_of_plane(gray), _of_plane(_halved(gray))])


def _of_plane(gray: Array) -> Array:
    x = normalised(gray, c=1 / 255, border="constant").values
    pairs = x[:, :-1] * x[:, 1:], x[:-1] * x[1:], x[:-1, :-1] * x[1:, 1:], x[1:, :-1] * x[:-1, 1:]
    whole = fitted(x.reshape(1, -1), zeros_above=True)
    parts = [whole.shape, (whole.left**2 + whole.right**2) / 2]
    for pair in pairs:
        of = fitted(pair.reshape(1, -1), zeros_above=True)
        parts += [of.shape, of.mean, of.left**2, of.right**2]
    return np.concatenate(parts)


def _halved(x: Array) -> Array:
    for _ in range(2):
        half = round(len(x) / 2)
        starts = 2 * np.arange(half)
        rows = [x[np.clip(starts + k - 1, 0, len(x) - 1)] * tap for k, tap in enumerate(_HALVING)]
        x = sum(rows[1:], rows[0]).T
    return x


@cache
def installed() -> Regression:
    """The regression of the installed package `brisque`.

    Raises UsageError where it is not installed.
    """
    try:
        found = [file for file in files("brisque") or () if file.name == "svm.txt"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise UsageError("BRISQUE's regression is not installed", "pip install 'irnscale[iqa]'")
    return parsed(Path(str(found[0].locate())).read_text(encoding="ascii"))


def parsed(text: str) -> Regression:
    """From libsvm's text. Raises ValueError where it is not a Gaussian regression over 36 features."""
    head, _, body = text.partition("\nSV\n")
    said = dict(line.split(" ", 1) for line in head.splitlines())
    if (said.get("svm_type"), said.get("kernel_type")) != ("epsilon_svr", "rbf"):
        raise ValueError("not a Gaussian regression by libsvm")
    lines = [line.split() for line in body.splitlines()]
    vectors = np.zeros((len(lines), 36))
    for row, (_, *cells) in zip(vectors, lines, strict=True):
        for cell in cells:  # counted from 1; those that are zero may be left out
            place, value = cell.split(":")
            row[int(place) - 1] = float(value)
    weights = np.array([float(line[0]) for line in lines])
    return Regression(vectors, weights, float(said["gamma"]), float(said["rho"]))
