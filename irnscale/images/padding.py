"""Padding to a multiple of the scale, so that every size can be halved as often as the network needs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def reflected_indices(size: int, total: int) -> npt.NDArray[np.intp]:
    """Indices (total,) into an axis of `size`: itself, then its mirror image without repeating the edge.

    The mirror ends at index 0; what is still missing after that repeats it. An axis of one pixel
    therefore is simply repeated.
    """
    indices = np.arange(total)
    return np.where(indices < size, indices, np.maximum(2 * (size - 1) - indices, 0))


def pad_to_multiple(array: npt.NDArray[Any], multiple: int) -> tuple[npt.NDArray[Any], tuple[int, int]]:
    """Pad (H, W) or (H, W, C) at the right and the bottom to multiples of `multiple`.

    Returns the padded array and (right, bottom), each in 0..multiple-1; the array itself where
    nothing is to be padded. Raises ValueError for another rank, an empty axis or a multiple below 1.
    """
    if array.ndim not in (2, 3):
        raise ValueError(f"expected (H, W) or (H, W, C), not {array.shape}")
    if multiple < 1:
        raise ValueError(f"multiple must be at least 1, not {multiple}")
    height, width = array.shape[:2]
    if not height or not width:
        raise ValueError(f"cannot pad an empty picture {array.shape}")
    right, bottom = -width % multiple, -height % multiple
    if bottom:
        array = np.take(array, reflected_indices(height, height + bottom), axis=0)
    if right:
        array = np.take(array, reflected_indices(width, width + right), axis=1)
    return array, (right, bottom)
