"""EXIF orientations 1 to 8: arrays and sizes turned upright, and back to how they are stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def turn_upright(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Undo an EXIF orientation on (H, W) or (H, W, C); 5 to 8 exchange height and width."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    # What is left are mirrorings: of the columns, then of the rows.
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return np.ascontiguousarray(array)


def turn_back(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """The array that `turn_upright` made `array` of: quarter turns go the other way, the others are their own."""
    return turn_upright(array, {6: 8, 8: 6}.get(orientation, orientation))


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """(width, height) after `turn_upright` or `turn_back` by this EXIF orientation."""
    return (size[1], size[0]) if orientation >= 5 else size
