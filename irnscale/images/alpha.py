"""Colour under transparency, so that resampling mixes no hidden colour into visible edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def seen_alpha(alpha: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
    """An alpha plane as who reads the file sees it: one that hides nothing is none."""
    return None if alpha is None or bool((alpha == np.iinfo(alpha.dtype).max).all()) else alpha


def opaque_alpha(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(H, W), the alpha that hides nothing of unsigned pixels (H, W, C), at their depth."""
    return np.full(pixels.shape[:2], np.iinfo(pixels.dtype).max, pixels.dtype)


def bleed(pixels: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Replace the colour of fully transparent pixels by that of visible pixels near them.

    `pixels` (H, W, C) and `alpha` (H, W) of unsigned integers; returns the shape and dtype of
    `pixels`. Pixels with alpha above 0 stay as they are. Nothing changes where all or none is
    visible. Raises ValueError where the shapes do not agree.

    A pyramid of means over visible pixels is built until a level has no hole; holes are then filled
    from the next coarser level. The cost is linear, and no hole is too wide.
    """
    if pixels.ndim != 3 or alpha.shape != pixels.shape[:2]:
        raise ValueError(f"alpha {alpha.shape} does not fit pixels {pixels.shape}")
    visible = alpha > 0
    if visible.all() or not visible.any():
        return pixels
    colour = np.where(visible[..., None], pixels, 0).astype(np.float32)
    filled = _fill(colour, visible.astype(np.float32))
    nearest = np.rint(filled).clip(0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    return np.where(visible[..., None], pixels, nearest)


def _fill(colour: npt.NDArray[np.float32], weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Fill `colour` (H, W, C) where `weight` (H, W) is 0; at least one weight must not be."""
    hidden = weight == 0
    if not hidden.any():
        return colour
    sums, weights = _halve(colour * weight[..., None]), _halve(weight[..., None])[..., 0]
    means = np.divide(sums, np.maximum(weights, 1)[..., None], dtype=np.float32)
    coarse = _fill(means, np.minimum(weights, 1, dtype=np.float32))
    rows, columns = np.nonzero(hidden)
    filled = colour.copy()
    filled[rows, columns] = coarse[rows // 2, columns // 2]
    return filled


def _halve(array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Sums over blocks of 2x2: (H, W, C) -> (ceil(H/2), ceil(W/2), C)."""
    height, width = array.shape[:2]
    if height % 2 or width % 2:
        array = np.pad(array, ((0, height % 2), (0, width % 2), (0, 0)))
    return array[0::2, 0::2] + array[1::2, 0::2] + array[0::2, 1::2] + array[1::2, 1::2]
