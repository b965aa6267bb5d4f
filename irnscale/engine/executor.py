"""Runs a network in one sweep over the image, tile by tile inside each step, so that tiling changes nothing.

An invertible network's whole state between two steps is as large as the image and no larger, and a step sees but few
pixels around each place: one of an IRN, a dense block, 5. So each step runs on tiles with a halo of as many, clipped at
the image's border, where the network's own zero padding applies: the same result as without tiles, where overlapping
tiles of the whole network would need a halo of 480 pixels at x4.

Nor does the state have to be kept whole. A step needs its source its halo further than what it changes, so all steps
run staggered behind a front that moves down the image: each goes on to as many rows behind the one before, or to that
one's halo where it is larger. Changing rows in place is safe, because the one behind never reaches the rows that the
one before still has to read. What is in memory is a window of so many rows per step and the band that was read last,
480 rows of the image at x4, and the image itself passes through once. A band as high as the image is the plain order,
one step after the other.

Tiles of one step read nothing that the others change. On a CPU `at_once` of them are computed at the same time, each on
one thread, as long as there are so many; the others one after the other, on all threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from irnscale.engine.memory import is_out_of_memory
from irnscale.engine.prepared import Prepared
from irnscale.engine.subnets import Border, Results, Subnets
from irnscale.engine.window import Allocate, Window
from irnscale.engine.workers import Workers
from irnscale.errors import InputError
from irnscale.networks.network import IMAGE_CHANNELS, Flow
from irnscale.networks.step import Level, Step, factor_of

Progress = Callable[[int, int], None]
Read = Callable[[int, int], Tensor]
Write = Callable[[int, Tensor, Tensor], None]
Warn = Callable[[str], None]
Shrink = Callable[[int, BaseException], int]
"""(tile, error) -> the smaller tile to go on with; raises where there is none."""

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
        """How many positions it has: rows times columns."""
        return (self.bottom - self.top) * (self.right - self.left)

    def with_halo(self, halo: int, length: int, width: int) -> Region:
        """With `halo` more on each side, in a level of this size: what the subnets read for it."""
        top, left = max(0, self.top - halo), max(0, self.left - halo)
        return Region(top, min(length, self.bottom + halo), left, min(width, self.right + halo))

    def tiles(self, tile: int) -> Iterator[tuple[Region, Region]]:
        """(computed, target) per tile: regions of one size, and the parts of them that cover this region once."""
        y, x = self.top, self.left
        for top, bottom, new_y in spans(self.bottom - self.top, tile):
            for left, right, new_x in spans(self.right - self.left, tile):
                yield (
                    Region(y + top, y + bottom, x + left, x + right),
                    Region(y + new_y, y + bottom, x + new_x, x + right),
                )


Tiles = list[tuple[Region, Region]]
"""(computed, target) of each, see `Region.tiles`."""


@dataclass
class LevelState:
    """A level of the program while it runs: its window of the state, and how far each step has come."""

    level: Level
    window: Window
    done: list[int]
    sent: int = 0

    @property
    def complete(self) -> int:
        """How many rows, from the first, all steps are done with."""
        return self.done[-1] if self.done else self.window.filled


class Sweep:
    """One run of a network over an image; see the module's docstring.

    shape: (N, H, W) of the large image. tile: positions per side at the level being computed; band: rows of the
    *small* image that are read at once (its height: the plain order). columns: sweep from left to right rather
    than from top to bottom, for images much wider than high. levels: where the last layer can
    round to grey levels itself, it does, so that `write` is given uint8. at_once: tiles that are computed at the same
    time. `shrink` is asked for a smaller tile where memory runs out, and `warn` told what the user should know; they
    and `progress` are called in the thread that calls `run`.
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
        at_once: int = 1,
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
        self._at_once = at_once
        self._workers: Workers | None = None
        self._shrink, self._warn, self._progress = shrink, warn, progress
        length, across = (width, height) if columns else (height, width)
        self._length, self._band, self._scale = length // scale, min(band, length // scale), scale
        # on a GPU a look at each tile would wait for it; only float16 has so little range that it is needed
        self._checks = prepared.device.type == "cpu" or prepared.dtype == torch.float16
        program = prepared.programs[rev]
        self._worked, self._work = 0, program.work(height, width)
        self._levels: list[LevelState] = []
        for level in program.levels:
            window = Window(
                allocate or self._allocate,
                samples=samples,
                length=self._length * level.ratio,
                width=across // scale * level.ratio,
                planes=level.planes,
                capacity=level.rows(self._band * level.ratio),
            )
            self._levels.append(LevelState(level, window, [0] * len(level.steps)))
        self._first, last = program.levels[0].before, program.levels[-1].after
        self._rounds = levels and rev and last is not None and last.takes_levels

    def _allocate(self, shape: Sequence[int]) -> Tensor:
        return torch.empty(tuple(shape), dtype=self._prepared.trunk_dtype, device=self._prepared.device)

    @torch.inference_mode()
    def run(self, read: Read, write: Write) -> None:
        """From the first row to the last. Raises InputError where the result is not finite.

        read(first, last): rows of the input, (N, C, rows, W), or its columns; grey levels, uint8, only where the
        first layer takes them. write(first, head, rest): rows of the output from `first` on; head
        (N, 3, rows, W), rest the other channels, in the trunk's dtype. They are views of memory that is used
        again once it returns.
        """
        per_row = 1 if self._rev else self._scale
        with Workers(self._at_once) if self._at_once > 1 else nullcontext() as self._workers:
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
        running = self._levels[index]
        window = running.window
        self._run_steps(running)
        while running.sent < running.complete and self._hand_on(running, index + 1, write):
            pass
        if window.capacity < window.length:
            window.forget(max(window.top, min(running.sent, running.complete - running.level.last_halo)))

    def _hand_on(self, running: LevelState, index: int, write: Write) -> bool:
        """Give complete rows to the next level, as many as it has room for, or to the caller. False: none to give."""
        following = self._levels[index] if index < len(self._levels) else None
        factor = factor_of(running.level.after)
        take, make = (1, factor) if self._rev else (factor, 1)
        ready = (running.complete - running.sent) // take * take
        if following is not None:
            ready = min(ready, following.window.room // make * take)
        if not ready:
            return False
        end = running.sent + ready
        while running.sent < end:
            stop = min(end, running.sent + _piece(take, running.window))
            x = self._to_image(running.window.joined(running.sent, stop))
            if following is not None:
                following.window.append(self._from_image(self._resampled(running.level, x)))
            else:
                if not are_finite((x,)):  # before it is rounded, which makes NaN black
                    raise InputError("the network's result is not finite, nothing is written", EXTREME)
                x = self._resampled(running.level, x, rounded=self._rounds)
                write(running.sent * make, x[:, :IMAGE_CHANNELS], x[:, IMAGE_CHANNELS:])
            running.sent = stop
        if following is not None:
            self._advance(index, write)
        return True

    def _resampled(self, level: Level, x: Tensor, *, rounded: bool = False) -> Tensor:
        """`x` as the next level has it; rounded: to grey levels, by the layer after the last."""
        if level.after is None:
            return x
        if rounded:
            return level.after.to_levels(x)
        (y,), _ = level.after((x,), rev=self._rev, jac=False)
        return y  # type: ignore[no-any-return]

    def _run_steps(self, running: LevelState) -> None:
        window = running.window
        ready = window.filled
        for index, (step, gap) in enumerate(zip(running.level.steps, running.level.gaps, strict=True)):
            # behind what the step before has done, see `Level.gaps`; at the end of the image nothing more will come
            limit = ready if ready == window.length else ready - gap
            if running.done[index] < limit:
                region = Region(running.done[index], limit, 0, window.width)
                for computed, target in self._run_side_by_side(window, step, list(region.tiles(self._tile))):
                    self._run_tile(window, step, computed, target)
                running.done[index] = limit
            ready = running.done[index]

    def _run_side_by_side(self, window: Window, step: Step, tiles: Tiles) -> Tiles:
        """Change as many tiles as give every worker the same number; returns the rest, and where memory was short."""
        if self._workers is None:
            return tiles
        fair = len(tiles) // self._workers.count * self._workers.count
        left, short = tiles[fair:], []
        for index, result in self._workers.each([partial(self._change, window, step, *tile) for tile in tiles[:fair]]):
            if isinstance(result, bool):
                self._finish(step, tiles[index][1], exact=result)
            elif self._shrink is not None and is_out_of_memory(result):
                short.append(tiles[index])
            else:
                raise result
        if short:
            self._tell(f"out of memory with {self._workers.count} tiles at once: going on with one after the other")
            self._workers = None
        return short + left

    def _finish(self, step: Step, target: Region, *, exact: bool) -> None:
        """Say what has become of a tile; exact: it had to be computed in float32."""
        if exact:
            self._tell("a tile came out not finite and is computed again in float32")
        self._worked += step.cost * target.positions
        if self._progress is not None:
            self._progress(self._worked, self._work)

    def _tell(self, text: str) -> None:
        if self._warn is not None:
            self._warn(text)

    def _run_tile(self, window: Window, step: Step, computed: Region, target: Region) -> None:
        """Change one tile, or in smaller tiles where memory is short; only those are then done again."""
        largest = max(computed.bottom - computed.top, computed.right - computed.left)
        if largest > self._tile:  # memory has run out meanwhile
            for part in target.tiles(self._tile):
                self._run_tile(window, step, *part)
            return
        failure: BaseException | None = None
        exact = False
        try:
            exact = self._change(window, step, computed, target)
        except (RuntimeError, MemoryError) as error:
            if self._shrink is None or not is_out_of_memory(error):
                raise
            failure = error.with_traceback(None)  # whose frames hold the memory
        if failure is not None:
            assert self._shrink is not None
            self._tile = self._shrink(largest, failure)
            self._run_tile(window, step, computed, target)
            return
        self._finish(step, target, exact=exact)

    def _change(self, window: Window, step: Step, computed: Region, target: Region) -> bool:
        """Replace the target's part of the planes that the step changes by what it makes of them.

        Returns whether it had to be computed in float32. Keeps nothing: several threads are here at the same time.
        """
        operands: Results = ()
        again = False
        if step.subnets:
            operands = self._operands(window, step, self._prepared.subnets[step.subnets], computed, target)
            if self._checks and not are_finite(operands):
                exact = self._prepared.exact.get(step.subnets)
                if exact is None:
                    raise InputError("the network's result is not finite, nothing is written", EXTREME)
                again = True
                operands = self._operands(window, step, exact, computed, target)
                if not are_finite(operands):
                    raise InputError("the network's result is not finite, in float32 too; nothing is written", EXTREME)
        names = step.changes or tuple(window.planes)
        step.run([self._to_image(_cut(window, name, target)) for name in names], operands)
        return again

    def _operands(self, window: Window, step: Step, subnets: Subnets, computed: Region, target: Region) -> Results:
        """What the subnets make of the target: (N, C, H, W) each."""
        outer = computed.with_halo(step.halo, window.length, window.width)
        sources = [self._to_image(_cut(window, name, outer)) for name in step.reads]
        source = sources[0] if len(sources) == 1 else torch.cat(sources, dim=1)
        border, own = self._border(computed, outer), self._border(target, computed)
        return tuple(own.crop(operand) for operand in subnets(source, border))

    def _border(self, inner: Region, outer: Region) -> Border:
        """How far `outer` reaches beyond `inner`, in the directions of the image."""
        along = inner.top - outer.top, outer.bottom - inner.bottom
        across = inner.left - outer.left, outer.right - inner.right
        return Border(*across, *along) if self._columns else Border(*along, *across)


def _piece(multiple: int, window: Window) -> int:
    """How many rows to resample at once: a multiple, and little, so that the temporaries stay in the cache."""
    return max(1, PIECE // (multiple * window.width * window.channels)) * multiple


def _cut(window: Window, plane: str, region: Region) -> Tensor:
    return window.view(plane, region.top, region.bottom, region.left, region.right)


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
    at_once: int = 1,
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
        at_once=at_once,
        progress=progress,
    )
    small = IMAGE_CHANNELS * scale**2, height // scale, width // scale
    shape = (n, IMAGE_CHANNELS, height, width) if rev else (n, *small)
    result = torch.empty(shape, dtype=prepared.trunk_dtype, device=prepared.device)
    axis = 3 if columns else 2

    def write(first: int, head: Tensor, rest: Tensor) -> None:
        rows = result.narrow(axis, first, head.shape[axis])
        rows[:, :IMAGE_CHANNELS] = head
        rows[:, IMAGE_CHANNELS:] = rest

    sweep.run(lambda first, last: x.narrow(axis, first, last - first), write)
    return result
