"""NIQE: how far the statistics of a picture's patches are from those of good photographs. Lower is better.

Mittal, Soundararajan and Bovik, "Making a completely blind image quality analyzer", SPL 2013; the details (patches,
borders, the half size) are those of the authors' MATLAB code. A score belongs to the photographs that the model was
fitted on: `house()` is ours and compares with itself alone; the scores that papers quote need the authors' file. (The
files in the package sk-video are neither: one was fitted anew by code that repeats features, one on frames of videos.)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from irnscale.errors import InputError, UsageError
from irnscale.images.bicubic import bicubic_down
from irnscale.jsontext import parsed
from irnscale.metrics.statistics import Array, blocks, fitted, normalised

PATCH = 96
"""Side of a patch, in pixels; at half size it is half of that."""
SHARPNESS = 0.75
"""A model is fitted on patches at least this sharp, as a share of the picture's sharpest."""
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_GRAY = (0.2989, 0.5870, 0.1140)


@dataclass(frozen=True, eq=False)
class Naturalness:
    """Mean (36,) and covariance (36, 36) of the features of good photographs' patches."""

    mean: Array
    covariance: Array

    def __post_init__(self) -> None:
        if self.mean.shape != (36,) or self.covariance.shape != (36, 36):
            shapes = f"{self.mean.shape}, {self.covariance.shape}"
            raise ValueError(f"expected 36 means and 36 x 36 covariances, not {shapes}")

    @property
    def digest(self) -> str:
        """The first 8 digits of the sha256 of its numbers."""
        numbers = np.concatenate([self.mean, self.covariance.ravel()]).astype("<f4")
        return hashlib.sha256(numbers.tobytes()).hexdigest()[:8]

    def distance(self, rgb255: Array) -> float:
        """NIQE of a picture (H, W, 3) in 0..255; NaN where it has no whole patch or is flat."""
        found = _known(features(rgb255))
        if not len(found):
            return float("nan")
        spread = np.cov(found, rowvar=False) if len(found) > 1 else np.zeros((36, 36))
        off = self.mean - found.mean(axis=0)
        return float(np.sqrt(off @ np.linalg.pinv((self.covariance + spread) / 2) @ off))

    def to_json(self) -> str:
        """For `from_json`. A covariance is symmetric: its upper half is kept."""
        upper = self.covariance[np.triu_indices(36)]
        rounded = {"mean": self.mean, "covariance": upper}
        return json.dumps({k: [float(f"{value:.7g}") for value in v] for k, v in rounded.items()}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Naturalness:
        """Raises ValueError, KeyError or TypeError where the text is not what `to_json` makes."""
        values = parsed(text)
        covariance = np.zeros((36, 36))
        covariance[np.triu_indices(36)] = values["covariance"]
        return cls(np.array(values["mean"], np.float64), covariance + np.triu(covariance, 1).T)


def features(rgb255: Array, *, sharp: float = 0.0) -> Array:
    """(patches, 36) of a picture (H, W, 3) in 0..255, cropped to whole patches; 18 features at each of two sizes.

    Only of patches whose deviation is above `sharp` times the sharpest one's. Rows of flat patches have NaN.
    """
    gray = np.round(rgb255 @ np.array(_GRAY))
    height, width = (side // PATCH * PATCH for side in gray.shape)
    if not height or not width:
        return np.empty((0, 36))
    gray = gray[:height, :width]
    values, deviation = normalised(gray)
    parts = [_of_patches(blocks(values, PATCH))]
    sharpness = blocks(deviation, PATCH).mean(axis=(1, 2))
    half = bicubic_down(torch.from_numpy(gray)[None, None], 2)[0, 0].numpy()
    parts.append(_of_patches(blocks(normalised(half).values, PATCH // 2)))
    found: Array = np.concatenate(parts, axis=1)[sharpness >= sharp * sharpness.max()]
    return found


def _of_patches(patches: Array) -> Array:
    """(N, 18): the shape and width of the values, and those of the products of neighbours in four directions."""

    def flat(x: Array) -> Array:
        return x.reshape(len(x), -1)

    whole = fitted(flat(patches))
    columns = [whole.shape, (whole.left + whole.right) * whole.scale / 2]
    for shift in _SHIFTS:
        pair = fitted(flat(patches * np.roll(patches, shift, axis=(1, 2))))
        columns += [pair.shape, pair.mean, pair.left * pair.scale, pair.right * pair.scale]
    return np.stack(columns, axis=1)


def _known(rows: Array) -> Array:
    return rows[np.isfinite(rows).all(axis=1)]


def fit(pictures: Iterable[Array]) -> Naturalness:
    """A model of photographs (H, W, 3) in 0..255, from their sharp patches.

    Raises UsageError where fewer than 37 patches are found, whose covariance would say nothing.
    """
    rows = _known(np.concatenate([np.empty((0, 36)), *(features(p, sharp=SHARPNESS) for p in pictures)]))
    if len(rows) <= 36:
        what = f"{len(rows)} sharp patches of {PATCH} x {PATCH} pixels are too few for NIQE's 36 features"
        raise UsageError(what, "give more photographs, or larger ones")
    return Naturalness(rows.mean(axis=0), np.cov(rows, rowvar=False))


@cache
def house() -> Naturalness:
    """Fitted on the photographs that irnscale's models are trained on (train/NOTES.md)."""
    return Naturalness.from_json((resources.files("irnscale") / "assets" / "niqe.json").read_text(encoding="utf-8"))


def from_file(path: Path) -> Naturalness:
    """A model from `Naturalness.to_json`'s text, or from the authors' numbers as .mat or .npz.

    Raises InputError naming the file.
    """
    from scipy.io import loadmat

    try:
        if path.suffix == ".json":
            return Naturalness.from_json(path.read_text(encoding="utf-8"))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                return _of_names(dict(stored))
        return _of_names(loadmat(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}", "give a model of NIQE") from error
    except Exception as error:  # a damaged or foreign file makes numpy and scipy raise anything
        hint = "give a .json by `irnscale evaluate --fit-niqe`, or the authors' .mat or .npz"
        raise InputError(f"{path}: is not a model of NIQE", hint) from error


def _of_names(values: Mapping[str, Any]) -> Naturalness:
    """By the names in the authors' file, or in that of BasicSR."""
    mean = values["mu_prisparam"] if "mu_prisparam" in values else values["mu_pris_param"]
    covariance = values["cov_prisparam"] if "cov_prisparam" in values else values["cov_pris_param"]
    return Naturalness(np.asarray(mean, np.float64).ravel(), np.asarray(covariance, np.float64))
