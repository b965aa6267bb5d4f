"""PIQE: how many of a picture's busy blocks look blocky or noisy, from 0 to 100. Lower is better; no model.

Venkatanath et al., "Blind image quality evaluation using perception based features", NCC 2015, with the constants of
MATLAB's `piqe`, which the paper leaves open.
"""

from __future__ import annotations

import numpy as np

from irnscale.metrics.statistics import Array, blocks, normalised

BLOCK = 16
_SEGMENT = 6
_ACTIVE = 0.1
_IMPAIRED = 0.1
_GRAY = (0.298936021293775, 0.587043074451121, 0.114020904255103)


def piqe(rgb255: Array) -> float:
    """Of a picture (H, W, 3) in 0..255, mirrored to whole blocks of 16; 100 where no block is busy."""
    gray = np.round(rgb255 @ np.array(_GRAY))
    rest = [(0, -side % BLOCK) for side in gray.shape]
    values = normalised(np.pad(gray, rest, mode="symmetric")).values
    whole = blocks(values, BLOCK)
    variance = whole.var(axis=(1, 2), ddof=1)
    active = variance > _ACTIVE
    busy, variance = whole[active], variance[active]
    distortion = _impaired(busy) * (1 - variance) + _noisy(busy, np.sqrt(variance)) * variance
    return float(100 * (distortion.sum() + 1) / (len(busy) + 1))


def _impaired(busy: Array) -> Array:
    """Whether any six pixels in a row along an edge of a block are nearly equal."""
    edges = np.stack([busy[:, 0], busy[:, -1], busy[:, :, 0], busy[:, :, -1]], axis=1)
    segments = np.lib.stride_tricks.sliding_window_view(edges, _SEGMENT, axis=2)
    found: Array = (segments.std(axis=3, ddof=1) < _IMPAIRED).any(axis=(1, 2)).astype(np.float64)
    return found


def _noisy(busy: Array, deviation: Array) -> Array:
    """Whether the two middle columns vary about as much as what surrounds them, for the block's deviation.

    The second column that is left out is not the second middle one but the one behind it: so MATLAB has it.
    """
    middle = BLOCK // 2 - 1
    center = busy[:, :, middle : middle + 2].std(axis=(1, 2), ddof=1)
    around = np.delete(busy, [middle, middle + 2], axis=2).std(axis=(1, 2), ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.nan_to_num(center / around, nan=0.0)
        found: Array = (deviation > 2 * np.abs(deviation - ratio) / np.maximum(deviation, ratio)).astype(np.float64)
    return found
