"""The part of the trunk that is in memory: a window of rows that slides along the image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Allocate = Callable[[Sequence[int]], Tensor]


class Window:
    """Rows [top, filled) of one level's state, channels last, its two halves apart.

    Each half is (N, capacity, width, channels): rows along the direction of the sweep, `width` across it. Halves
    apart, so that what a subnet reads and what its result is added to are dense in memory.
    """

    def __init__(
        self, allocate: Allocate, *, samples: int, length: int, width: int, channels: tuple[int, int], capacity: int
    ) -> None:
        self.length, self.width, self.capacity = length, width, min(length, capacity)
        self.halves = tuple(allocate((samples, self.capacity, width, c)) for c in channels)
        self.top = 0
        self.filled = 0

    @property
    def channels(self) -> int:
        """Of both halves together."""
        return sum(half.shape[3] for half in self.halves)

    @property
    def room(self) -> int:
        """Rows that can be appended."""
        return self.capacity - (self.filled - self.top)

    def view(self, half: int, first: int, last: int, left: int = 0, right: int | None = None) -> Tensor:
        """Rows [first, last) and columns [left, right) of a half, as a view."""
        assert self.top <= first <= last <= self.filled, (self.top, first, last, self.filled)
        return self.halves[half][:, first - self.top : last - self.top, left : self.width if right is None else right]

    def append(self, x: Tensor) -> None:
        """Add rows (N, rows, width, channels of both halves); there must be room."""
        first = self.filled
        self.filled += x.shape[1]
        assert self.filled - self.top <= self.capacity, (self.filled, self.top, self.capacity)
        split = self.halves[0].shape[3]
        self.view(0, first, self.filled).copy_(x[..., :split])
        self.view(1, first, self.filled).copy_(x[..., split:])

    def joined(self, first: int, last: int) -> Tensor:
        """Rows [first, last) of both halves, (N, rows, width, channels)."""
        return torch.cat((self.view(0, first, last), self.view(1, first, last)), dim=3)

    def forget(self, first: int) -> None:
        """Give up the rows before `first` and move the others to the top."""
        step, keep = first - self.top, self.filled - first
        if step <= 0:
            return
        for half in self.halves:
            # piece by piece: a copy onto itself must not overlap
            for start in range(0, keep, step):
                rows = min(step, keep - start)
                half[:, start : start + rows] = half[:, start + step : start + step + rows]
        self.top = first
