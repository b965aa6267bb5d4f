"""The part of the trunk that is in memory: a window of rows that slides along the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from irnscale.networks.step import Plane

Allocate = Callable[[Sequence[int]], Tensor]


class Window:
    """Rows [top, filled) of one level's state, channels last, its planes apart.

    Each plane is (N, capacity, width, channels): rows along the direction of the sweep, `width` across it. Planes are
    apart, so that what a subnet reads and what its result is added to are dense in memory.
    """

    def __init__(
        self, allocate: Allocate, *, samples: int, length: int, width: int, planes: Sequence[Plane], capacity: int
    ) -> None:
        self.length, self.width, self.capacity = length, width, min(length, capacity)
        self.planes = {name: allocate((samples, self.capacity, width, channels)) for name, channels in planes}
        self.top = 0
        self.filled = 0

    @property
    def channels(self) -> int:
        """Channels of all planes together, for each position."""
        return sum(plane.shape[3] for plane in self.planes.values())

    @property
    def room(self) -> int:
        """How many rows can be appended now."""
        return self.capacity - (self.filled - self.top)

    def view(self, plane: str, first: int, last: int, left: int = 0, right: int | None = None) -> Tensor:
        """Rows [first, last) and columns [left, right) of a plane, as a view."""
        assert self.top <= first <= last <= self.filled, (self.top, first, last, self.filled)
        return self.planes[plane][:, first - self.top : last - self.top, left : self.width if right is None else right]

    def append(self, x: Tensor) -> None:
        """Add rows (N, rows, width, channels of all planes); there must be room."""
        first = self.filled
        self.filled += x.shape[1]
        assert self.filled - self.top <= self.capacity, (self.filled, self.top, self.capacity)
        parts = torch.split(x, [plane.shape[3] for plane in self.planes.values()], dim=3)
        for name, part in zip(self.planes, parts, strict=True):
            self.view(name, first, self.filled).copy_(part)

    def joined(self, first: int, last: int) -> Tensor:
        """Rows [first, last) of all planes, (N, rows, width, channels)."""
        return torch.cat([self.view(name, first, last) for name in self.planes], dim=3)

    def forget(self, first: int) -> None:
        """Give up the rows before `first` and move the others to the top."""
        step, keep = first - self.top, self.filled - first
        if step <= 0:
            return
        for plane in self.planes.values():
            # piece by piece: a copy onto itself must not overlap
            for start in range(0, keep, step):
                rows = min(step, keep - start)
                plane[:, start : start + rows] = plane[:, start + step : start + step + rows]
        self.top = first
