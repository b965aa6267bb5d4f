"""The grid of tiles, each with a stream of its own, so that an edit in one place costs one tile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

LARGE_SIDE = 1024
"""Pixels of the original that a tile has on a side at most: enough for the codec to spread its bytes well."""
UNIT = 16
"""Sides of tiles are stored in units of so many pixels of the small picture."""


@dataclass(frozen=True)
class Tile:
    """Rows [top, bottom) and columns [left, right) of the small picture, and its place in raster order."""

    index: int
    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        """How many pixels of the small picture it covers."""
        return (self.right - self.left) * (self.bottom - self.top)

    @property
    def small(self) -> tuple[slice, slice]:
        """Its (rows, columns) of the small picture, as slices."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def large(self, scale: int, width: int, height: int) -> tuple[slice, slice]:
        """(rows, columns) of the original, which is width x height."""
        return (
            slice(self.top * scale, min(self.bottom * scale, height)),
            slice(self.left * scale, min(self.right * scale, width)),
        )


def side_for(scale: int) -> int:
    """The largest side of a tile, in pixels of the small picture."""
    return max(UNIT, LARGE_SIDE // scale // UNIT * UNIT)


def grid(width: int, height: int, side: int) -> Iterator[Tile]:
    """The tiles of a small picture, in raster order: the fewest of at most `side` pixels a side, of nearly one size.

    Boundary k of n along a length is at floor(k * length / n).
    """
    across, down = max(1, -(-width // side)), max(1, -(-height // side))
    for row in range(down):
        top, bottom = row * height // down, (row + 1) * height // down
        for column in range(across):
            left, right = column * width // across, (column + 1) * width // across
            yield Tile(row * across + column, left, top, right, bottom)
