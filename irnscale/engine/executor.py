"""Runs an IRN in one sweep over the image, tile by tile inside each half-step, so that tiling changes nothing.

An invertible network's whole state between two steps is as large as the image and no larger, and one dense
block sees 5 pixels. So each half-step of each coupling runs on tiles with a halo of 5, clipped at the image's
border, where the network's own zero padding applies: the same result as without tiles, where overlapping tiles
of the whole network would need a halo of 480 pixels at x4.

Nor does the state have to be kept whole. Half-step k needs its source 5 rows further than what it changes, so
all half-steps run staggered behind a front that moves down the image: each goes on to 5 rows behind the one
before. Changing rows in place is safe, because the one behind never reaches the rows that the one before still
has to read. What is in memory is a window of 5 rows per half-step and the band that was read last, 480 rows
of the image at x4, and the image itself passes through once. A band as high as the image is the plain order,
one half-step after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from irnscale.engine.memory import is_out_of_memory
from irnscale.engine.prepared import Prepared, Step, factor_of, segments, steps_of
from irnscale.engine.subnets import Border, Subnets
from irnscale.engine.window import Allocate, Window
from irnscale.errors import InputError
from irnscale.freia import InvertibleModule
from irnscale.kernels import additive_forward, additive_inverse, haar_inverse
from irnscale.networks import DenseBlock, EnhancedAffineCoupling, HaarTransform
from irnscale.networks.network import IMAGE_CHANNELS, Flow

Progress = Callable[[int, int], None]
Read = Callable[[int, int], Tensor]
Write = Callable[[int, Tensor, Tensor], None]
Warn = Callable[[str], None]
Shrink = Callable[[int, BaseException], int]
"""(tile, error) -> the smaller tile to go on with; raises where there is none."""

HALO = DenseBlock.support
EXTREME = "the model is damaged or the input extreme"
PIECE = 2**20
"""Elements that are resampled at once: little, so that their temporaries stay in the cache."""


def spans(length: int, tile: int) -> Iterator[tuple[int, int, int]]:
    """Cut [0, length) into the fewest pieces of at most `tile`, all of one size: (first, last, new).

    The last is shifted inwards to end at `length`, not ragged: pieces of one size let the device reuse its
    plans. From `new` on a piece is its own; what is before it belongs to its neighbour.
    """
    count = max(1, -(-length // tile))
    size = -(-length // count)
    done = 0
    for k in range(count):
        last = min(k * size + size, length)
        yield last - size, last, done
        done = last


@dataclass(frozen=True)
class Region:
    """Rows [top, bottom) and columns [left, right) of a level, in the directions along and across the sweep."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def positions(self) -> int:
        """How many."""
        return (self.bottom - self.top) * (self.right - self.left)

    def with_halo(self, length: int, width: int) -> Region:
        """What the subnets read for it, in a level of this size."""
        top, left = max(0, self.top - HALO), max(0, self.left - HALO)
        return Region(top, min(length, self.bottom + HALO), left, min(width, self.right + HALO))

    def tiles(self, tile: int) -> Iterator[tuple[Region, Region]]:
        """(computed, target) per tile: regions of one size, and the parts of them that cover this region once."""
        y, x = self.top, self.left
        for top, bottom, new_y in spans(self.bottom - self.top, tile):
            for left, right, new_x in spans(self.right - self.left, tile):
                yield (
                    Region(y + top, y + bottom, x + left, x + right),
                    Region(y + new_y, y + bottom, x + new_x, x + right),
                )


@dataclass
class Level:
    """What lies between two resamplings: a window of the state, the steps that change it, and the resampling after."""

    steps: list[Step]
    done: list[int]
    window: Window
    after: InvertibleModule | None
    factor: int
    sent: int = 0

    @property
    def complete(self) -> int:
        """Rows that all steps are done with."""
        return self.done[-1] if self.steps else self.window.filled


def window_rows(steps: int, band: int, factor: int) -> int:
    """Rows that a level's window holds: 5 per step, 5 more to read, the band that comes in, and what waits to go on."""
    return HALO * (steps + 1) + band + factor


class Sweep:
    """One run of a network over an image; see the module's docstring.

    shape: (N, H, W) of the large image. tile: positions per side at the level being computed; band: rows of the
    *small* image that are read at once (its height: the plain order). columns: sweep from left to right rather
    than from top to bottom, for images much wider than high. levels: where a Haar transform is the last step, it
    rounds to grey levels itself, so that `write` is given uint8. `shrink` is asked for a smaller tile where
    memory runs out, and `warn` told what the user should know.
    """

    def __init__(
        self,
        prepared: Prepared,
        shape: tuple[int, int, int],
        *,
        rev: bool,
        tile: int,
        band: int,
        columns: bool = False,
        levels: bool = False,
        allocate: Allocate | None = None,
        shrink: Shrink | None = None,
        warn: Warn | None = None,
        progress: Progress | None = None,
    ) -> None:
        if tile < 1 or band < 1:
            raise ValueError(f"tile and band must be at least 1, got {tile} and {band}")
        samples, height, width = shape
        scale = prepared.net.scale
        if height % scale or width % scale:
            raise ValueError(f"height and width must be multiples of {scale}, got {height} x {width}")
        self._prepared, self._rev, self._tile, self._columns = prepared, rev, tile, columns
        self._shrink, self._warn, self._progress = shrink, warn, progress
        length, across = (width, height) if columns else (height, width)
        self._length, self._band, self._scale = length // scale, min(band, length // scale), scale
        self._work = self._worked = 0
        # on a GPU a look at each tile would wait for it; only float16 has so little range that it is needed
        self._checks = prepared.device.type == "cpu" or prepared.dtype == torch.float16
        self._first: InvertibleModule | None = None
        self._levels: list[Level] = []
        for part in segments(prepared.net, rev):
            ratio, channels, modules, after = part.ratio, part.channels, part.modules, part.after
            self._first = part.before if not self._levels else self._first
            steps = steps_of(prepared, modules, rev)
            split = next((m.split_len1 for m in modules if isinstance(m, EnhancedAffineCoupling)), IMAGE_CHANNELS)
            window = Window(
                allocate or self._allocate,
                samples=samples,
                length=self._length * ratio,
                width=across // scale * ratio,
                channels=(split, channels - split),
                capacity=window_rows(len(steps), self._band * ratio, factor_of(after)),
            )
            self._levels.append(Level(steps, [0] * len(steps), window, after, factor_of(after)))
            self._work += sum(step.cost for step in steps) * window.length * window.width
        self._rounds = levels and rev and isinstance(self._levels[-1].after, HaarTransform)

    def _allocate(self, shape: Sequence[int]) -> Tensor:
        return torch.empty(tuple(shape), dtype=self._prepared.trunk_dtype, device=self._prepared.device)

    @torch.inference_mode()
    def run(self, read: Read, write: Write) -> None:
        """From the first row to the last. Raises InputError where the result is not finite.

        read(first, last): rows of the input, (N, C, rows, W), or its columns; grey levels, uint8, only where a
        Haar transform is first. write(first, head, rest): rows of the output from `first` on; head
        (N, 3, rows, W), rest the other channels, in the trunk's dtype. They are views of memory that is used
        again once it returns.
        """
        per_row = 1 if self._rev else self._scale
        for first in range(0, self._length, self._band):
            last = min(first + self._band, self._length)
            self._feed(read, first * per_row, last * per_row)
            self._advance(0, write)

    def _to_image(self, x: Tensor) -> Tensor:
        """(N, along, across, C) -> (N, C, H, W), a view."""
        return x.permute(0, 3, 2, 1) if self._columns else x.permute(0, 3, 1, 2)

    def _from_image(self, x: Tensor) -> Tensor:
        """The inverse of `_to_image`."""
        return x.permute(0, 3, 2, 1) if self._columns else x.permute(0, 2, 3, 1)

    def _feed(self, read: Read, first: int, last: int) -> None:
        """Rows [first, last) of the input into the first level."""
        window = self._levels[0].window
        rows = _piece(factor_of(self._first), window)
        for start in range(first, last, rows):
            x = read(start, min(start + rows, last)).to(self._prepared.device)
            if x.dtype != torch.uint8:
                x = x.to(self._prepared.trunk_dtype)
            if self._first is not None:
                (x,), _ = self._first((x,), jac=False)
            window.append(self._from_image(x))

    def _advance(self, index: int, write: Write) -> None:
        """Run the steps of a level as far as its rows allow, hand on what is complete, and forget it."""
        level = self._levels[index]
        window = level.window
        self._run_steps(level)
        while level.sent < level.complete and self._hand_on(level, index + 1, write):
            pass
        if window.capacity < window.length:
            window.forget(max(window.top, min(level.sent, level.complete - HALO)))

    def _hand_on(self, level: Level, index: int, write: Write) -> bool:
        """Give complete rows to the next level, as many as it has room for, or to the caller. False: none to give."""
        following = self._levels[index] if index < len(self._levels) else None
        take, make = (1, level.factor) if self._rev else (level.factor, 1)
        ready = (level.complete - level.sent) // take * take
        if following is not None:
            ready = min(ready, following.window.room // make * take)
        if not ready:
            return False
        end = level.sent + ready
        while level.sent < end:
            stop = min(end, level.sent + _piece(take, level.window))
            x = self._to_image(level.window.joined(level.sent, stop))
            if following is None and not are_finite((x,)):  # before it is rounded, which makes NaN black
                raise InputError("the network's result is not finite, nothing is written", EXTREME)
            if following is None and self._rounds:
                x = haar_inverse(x, to_uint8=True)
            elif level.after is not None:
                (x,), _ = level.after((x,), rev=self._rev, jac=False)
            if following is not None:
                following.window.append(self._from_image(x))
            else:
                write(level.sent * make, x[:, :3], x[:, 3:])
            level.sent = stop
        if following is not None:
            self._advance(index, write)
        return True

    def _run_steps(self, level: Level) -> None:
        ready = level.window.filled
        for index, step in enumerate(level.steps):
            # short of what the step before has done, which is what this one reads and its successor may not change
            limit = ready if ready == level.window.length else ready - HALO
            if level.done[index] < limit:
                region = Region(level.done[index], limit, 0, level.window.width)
                for computed, target in region.tiles(self._tile):
                    self._run_tile(level, step, computed, target)
                level.done[index] = limit
            ready = level.done[index]

    def _run_tile(self, level: Level, step: Step, computed: Region, target: Region) -> None:
        """Change one tile, or in smaller tiles where memory is short; only those are then done again."""
        largest = max(computed.bottom - computed.top, computed.right - computed.left)
        if largest > self._tile:  # memory has run out meanwhile
            for part in target.tiles(self._tile):
                self._run_tile(level, step, *part)
            return
        failure: BaseException | None = None
        try:
            self._change(level, step, computed, target)
        except (RuntimeError, MemoryError) as error:
            if self._shrink is None or not is_out_of_memory(error):
                raise
            failure = error.with_traceback(None)  # whose frames hold the memory
        if failure is not None:
            assert self._shrink is not None
            self._tile = self._shrink(largest, failure)
            self._run_tile(level, step, computed, target)
            return
        self._worked += step.cost * target.positions
        if self._progress is not None:
            self._progress(self._worked, self._work)

    def _change(self, level: Level, step: Step, computed: Region, target: Region) -> None:
        """Replace the target's part of one half (of both, without spatial context) by what the step makes of it."""
        window = level.window
        if step.subnets is None:
            x = torch.cat([self._to_image(_cut(window, half, target)) for half in (0, 1)], dim=1)
            (y,), _ = step.module((x,), rev=self._rev, jac=False)
            split = window.halves[0].shape[3]
            for half, channels in ((0, y[:, :split]), (1, y[:, split:])):
                _cut(window, half, target).copy_(self._from_image(channels))
            return
        operands = self._operands(window, step, step.subnets, computed, target)
        if self._checks and not are_finite(operands):
            if step.exact is None:
                raise InputError("the network's result is not finite, nothing is written", EXTREME)
            if self._warn is not None:
                self._warn("a tile came out not finite and is computed again in float32")
            operands = self._operands(window, step, step.exact, computed, target)
            if not are_finite(operands):
                raise InputError("the network's result is not finite, in float32 too; nothing is written", EXTREME)
        assert isinstance(step.module, EnhancedAffineCoupling)
        changing = self._to_image(_cut(window, 1 if step.affine else 0, target))
        if step.affine:
            step.module.affine(changing, *operands, rev=self._rev, inplace=True)
        else:
            (additive_inverse if self._rev else additive_forward)(changing, *operands, inplace=True)

    def _operands(
        self, window: Window, step: Step, subnets: Subnets, computed: Region, target: Region
    ) -> tuple[Tensor, ...]:
        """p, or s and t, of the target: (N, C, H, W) each."""
        outer = computed.with_halo(window.length, window.width)
        source = self._to_image(_cut(window, 0 if step.affine else 1, outer))
        border, own = self._border(computed, outer), self._border(target, computed)
        found = subnets.st(source, border) if step.affine else (subnets.p(source, border),)
        return tuple(own.crop(operand) for operand in found)

    def _border(self, inner: Region, outer: Region) -> Border:
        """How far `outer` reaches beyond `inner`, in the directions of the image."""
        along = inner.top - outer.top, outer.bottom - inner.bottom
        across = inner.left - outer.left, outer.right - inner.right
        return Border(*across, *along) if self._columns else Border(*along, *across)


def _piece(multiple: int, window: Window) -> int:
    """How many rows to resample at once: a multiple, and little, so that the temporaries stay in the cache."""
    return max(1, PIECE // (multiple * window.width * window.channels)) * multiple


def _cut(window: Window, half: int, region: Region) -> Tensor:
    return window.view(half, region.top, region.bottom, region.left, region.right)


def are_finite(operands: Sequence[Tensor]) -> bool:
    """Whether no value is NaN or infinite."""
    # the sum is one pass without a temporary; only where it is not finite does one have to look closer
    return all(bool(torch.isfinite(x.sum())) or bool(torch.isfinite(x).all()) for x in operands)


def run(
    net: Flow | Prepared,
    x: Tensor,
    *,
    rev: bool,
    tile: int,
    band: int | None = None,
    columns: bool = False,
    progress: Progress | None = None,
) -> Tensor:
    """The network's forward (image -> LR and z) or inverse on a whole image, tile by tile.

    x: (N, 3, H, W), H and W multiples of the scale; in reverse (N, 3 s^2, h, w). Other arguments as for
    `Sweep`; band None is the whole image. Equals `net(x, rev)` up to floating-point order.
    """
    prepared: Prepared = net if isinstance(net, Prepared) else Prepared(net)
    scale = prepared.net.scale
    n, _, h, w = x.shape
    height, width = (h * scale, w * scale) if rev else (h, w)
    sweep = Sweep(
        prepared,
        (n, height, width),
        rev=rev,
        tile=tile,
        band=max(h, w) if band is None else band,
        columns=columns,
        progress=progress,
    )
    shape = (n, 3, height, width) if rev else (n, 3 * scale**2, height // scale, width // scale)
    result = torch.empty(shape, dtype=prepared.trunk_dtype, device=prepared.device)
    axis = 3 if columns else 2

    def write(first: int, head: Tensor, rest: Tensor) -> None:
        rows = result.narrow(axis, first, head.shape[axis])
        rows[:, :3] = head
        rows[:, 3:] = rest

    sweep.run(lambda first, last: x.narrow(axis, first, last - first), write)
    return result
