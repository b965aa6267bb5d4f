"""How the kernels walk over (N, C, H, W) tensors, and the small helpers they share.

Every kernel works on tiles of ROWS x COLS elements of one sample. In contiguous memory a row is one
(c, h) line and its columns are w; in channels-last memory a row is one h and its columns are (w, c) with
c fastest, so that neighbouring lanes touch neighbouring addresses in either layout, whatever C and W.
All tensors are read and written through their own strides, so slices and mixed layouts are served; only their speed
differs. What makes a variant of a kernel is the kind of its layout and nothing else: shapes of tiles are fixed, and
sizes and strides are plain numbers to the compiler, so that no picture's size makes it compile anything again.

Samples and rows have 64-bit offsets, places within a row 32-bit ones, since 64-bit arithmetic on every element would
take as long as the memory. Tiles wholly inside the tensor have no masks, which would forbid vector accesses.
"""

# ruff: noqa: N803  (compile-time arguments and sizes in capitals, as everywhere in Triton)
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from inspect import signature
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from irnscale.kernels import dispatch
from irnscale.kernels.compiling import launch

Steps = tuple[int, int, int, int]
"""Strides of an image tensor, or what kernels are given of them."""
TILE = 1024
"""Elements per program: two 128-bit float32 accesses per lane with the default four warps."""

OPTIONS = {"enable_fp_fusion": False}
"""Compiler options of every kernel: no fused multiply-add, so that all devices round as the reference does.
The kernels wait for memory, not for arithmetic, so it costs nothing."""


_SIZES = {"H", "W", "WIDTH", "tiles", "count", "bias_stride", "partial_stride", "log_det_stride"}
NUMBERS = _SIZES | {"n0", "c0", "y0", "x0", "key0", "key1"}
"""Arguments of kernels that are numbers, and so are all tuples: strides."""


def jit(function: Callable[..., Any]) -> Any:
    """`triton.jit` as type checkers understand it; neither sizes and strides nor addresses make another variant."""
    arguments = [p for p in signature(function).parameters.values() if p.annotation != "tl.constexpr"]
    numbers = [p.name for p in arguments if p.annotation == "tl.tuple" or p.name in NUMBERS]
    addresses = [p.name for p in arguments if p.name not in numbers]
    return triton.jit(do_not_specialize=numbers, do_not_specialize_on_alignment=addresses)(function)


@jit
def tile_index(
    C: tl.constexpr,
    H: tl.tensor,
    W: tl.tensor,
    tiles: tl.tensor,
    CHANNELS_LAST: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
) -> Any:
    """(n, first, c, h, w) of this program's tile, the mask of those inside the tensor, and whether all are.

    n and first, the column that w counts from, are int64 scalars; c, h and w broadcast to (ROWS, COLS), h in int64 and
    c too, but in channels-last memory, where its and w's places in a row of pixels are int32.
    """
    pid = tl.program_id(0)
    n = (pid // tiles).to(tl.int64)
    tile = pid % tiles
    if CHANNELS_LAST:
        width = W * C
        height = H
    else:
        width = W
        height = C * H
    col_tiles = tl.cdiv(width, COLS)
    top = (tile // col_tiles).to(tl.int32) * ROWS
    row = top + tl.arange(0, ROWS)[:, None]
    lane = tl.arange(0, COLS)[None, :]
    if CHANNELS_LAST:
        # One row of pixels has far fewer than 2^31 elements.
        left = (tile % col_tiles).to(tl.int32) * COLS
        col = left + lane
        first = n * 0
        c, h, w = col % C, row.to(tl.int64), col // C
        if GROUP > 1:
            # The compiler cannot see through % and //: so many neighbours share a pixel and lie in a row.
            c = tl.max_contiguous(tl.multiple_of(c, (1, GROUP)), (1, GROUP))
            w = tl.max_constancy(w, (1, GROUP))
    else:
        # A tensor collapsed to one row (see `plan`) may have more than 2^31 columns.
        left = (tile % col_tiles).to(tl.int64) * COLS
        col = left + lane
        first = left
        c, h, w = (row // H).to(tl.int64), (row % H).to(tl.int64), lane
    inside = (row < height) & (col < width)
    whole = (top + ROWS <= height) & (left + COLS <= width)
    return (n, first, c, h, w), inside, whole


@jit
def step(steps: tl.tuple, k: tl.constexpr) -> Any:
    """A stride, out of what `strides` made of it."""
    return (steps[k] - 3) >> 1


@jit
def at(
    base: tl.tensor,
    steps: tl.tuple,
    place: tl.tuple,
    CHANNELS_LAST: tl.constexpr,
    UNIT: tl.constexpr,
    GROUP: tl.constexpr,
) -> Any:
    """Pointers to `place`, as `tile_index` has it, in a tensor that begins at `base`; constants: `Tiling`."""
    n, first, c, h, w = place[0], place[1], place[2], place[3], place[4]
    if not UNIT:
        across = c.to(tl.int64) * step(steps, 1) + (first + w) * step(steps, 3)
        pointers = base + (n * step(steps, 0) + h * step(steps, 2)) + across
    elif CHANNELS_LAST:
        pointers = base + (n * step(steps, 0) + h * step(steps, 2)) + (c + w * step(steps, 3))
    else:
        pointers = base + (n * step(steps, 0) + first) + (c * step(steps, 1) + h * step(steps, 2)) + w
    if GROUP > 1:
        pointers = tl.multiple_of(pointers, (1, min(16, GROUP * base.dtype.element_ty.primitive_bitwidth // 8)))
    return pointers


@jit
def read(pointers: tl.tensor, inside: tl.tensor, whole: tl.tensor) -> Any:
    """What is there, zero where it is not `inside`; `whole`: everything is."""
    if whole:  # noqa: SIM108  (a branch, which the compiler keeps: no mask where none is needed)
        value = tl.load(pointers)
    else:
        value = tl.load(pointers, mask=inside, other=0)
    return value


@jit
def write(pointers: tl.tensor, value: tl.tensor, inside: tl.tensor, whole: tl.tensor) -> None:
    """`value`, in the type of the tensor, to what is `inside`."""
    rounded = value.to(pointers.dtype.element_ty)
    if whole:
        tl.store(pointers, rounded)
    else:
        tl.store(pointers, rounded, mask=inside)


@jit
def to_grey_level(value: tl.tensor, LEVELS: tl.constexpr) -> Any:
    """round(LEVELS value), half to even, with `value` clamped to [0, 1], still as a float; NaN becomes 0.

    The clamp comes after the product, so that no compiler can fuse the product into the rounding (an FMA
    rounds once and would move ties); it is the same clamp, since LEVELS x is monotone and exact at 0 and 1.
    """
    # What a maximum makes of NaN depends on the version of Triton's interpreter.
    scaled = tl.minimum(tl.maximum(tl.where(value == value, value * LEVELS, 0.0), 0.0), LEVELS)
    # Adding 1.5 * 2^(mantissa bits) leaves no fraction bits: IEEE addition itself rounds half to even.
    if value.dtype == tl.float64:
        return (scaled + 6755399441055744.0) - 6755399441055744.0
    else:
        return (scaled + 12582912.0) - 12582912.0


@jit
def _sum_rows(partial: tl.tensor, total: tl.tensor, count: tl.tensor, BLOCK: tl.constexpr) -> None:
    """total[i] = sum of partial[i, :count], in an order that depends on nothing but `count`."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK)
    acc = tl.zeros([BLOCK], dtype=partial.dtype.element_ty)
    for start in range(0, count, BLOCK):
        acc += tl.load(partial + row * count + start + lane, mask=start + lane < count, other=0.0)
    tl.store(total + row, tl.sum(acc, axis=0).to(total.dtype.element_ty))


def sum_rows(partial: Tensor, dtype: torch.dtype) -> Tensor:
    """(M, K) contiguous partial sums -> (M,) totals; deterministic, unlike atomics."""
    rows, count = partial.shape
    total = torch.empty(rows, dtype=dtype, device=partial.device)
    if rows:
        dispatch.count("sum_rows")
        launch(_sum_rows, (rows,), partial, total, count, BLOCK=TILE, **OPTIONS)
    return total


@dataclass(frozen=True)
class Tiling:
    """A grid over a tensor: the effective sizes (after collapsing), the tile shape and the strides."""

    n: int
    c: int
    h: int
    w: int
    channels_last: bool
    unit: bool
    """Neighbours in the fast direction, w or c, are neighbours in every tensor, and a row of pixels has less than 2^31
    elements."""
    group: int
    """So many neighbours in a row lie together in every tensor, the first at a multiple of their size or 16 bytes."""
    rows: int
    cols: int
    tiles: int
    """Tiles per sample; a tile never spans two samples."""
    strides: tuple[Steps, ...]
    """Of each tensor, see `strides`."""

    @property
    def grid(self) -> tuple[int]:
        """The launch grid: one program for each tile of each sample."""
        return (self.n * self.tiles,)

    @property
    def index(self) -> tuple[int, int, int, int]:
        """C, H, W and tiles, the leading arguments of `tile_index`."""
        return self.c, self.h, self.w, self.tiles

    @property
    def meta(self) -> dict[str, Any]:
        """The compile-time arguments of `tile_index` and `at`, and the compiler's options."""
        return {
            "CHANNELS_LAST": self.channels_last,
            "UNIT": self.unit,
            "GROUP": self.group,
            "ROWS": self.rows,
            "COLS": self.cols,
            **OPTIONS,
        }


def strides(x: Tensor) -> Steps:
    """The four strides of an image tensor, as kernels take them; see `step`."""
    return _encoded(_steps(x))


def _steps(x: Tensor) -> Steps:
    n, c, h, w = x.stride()
    return n, c, h, w


def _encoded(steps: Steps) -> Steps:
    """Triton makes variants of ones and multiples of 16 in tuples, whatever it is told: there are none among these."""
    n, c, h, w = (2 * step + 3 for step in steps)
    return n, c, h, w


def is_channels_last(x: Tensor) -> bool:
    """Whether walking (w, c) is the fast order: channels-last memory or a channel slice of it."""
    _, c, h, w = x.shape
    return c > 1 and h * w > 1 and x.stride(1) == 1 and not x.is_contiguous()


def like(x: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised dense tensor on the device and in the memory format of `x`."""
    layout = torch.channels_last if is_channels_last(x) else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=layout)


def _dense(sizes: Sequence[int], steps: Sequence[int]) -> bool:
    """Whether these dimensions fill one gapless stretch of memory."""
    expected = 1
    for step, size in sorted((step, size) for size, step in zip(sizes, steps, strict=True) if size > 1):
        if step != expected:
            return False
        expected *= size
    return True


def tile_plan(n: int, c: int, h: int, w: int, channels_last: bool, *tensors: Tensor) -> Tiling:
    """A grid of tiles over (n, c, h, w), with the strides of `tensors`, whose sizes may be multiples of these."""
    return _plan(n, c, h, w, channels_last, tuple(map(_steps, tensors)), tuple(map(_alignment, tensors)), TILE)


def plan(x: Tensor, *others: Tensor, per_sample: bool = False) -> Tiling:
    """A grid for an elementwise operation on tensors of one shape, collapsed to long rows where possible.

    Where every tensor stores its samples without gaps and in the same order, a sample is one row; where
    that holds for the whole batch, and no tile needs to know its sample (`per_sample`), the batch is.
    """
    tensors = (x, *others)
    n, c, h, w = x.shape
    steps, aligned = tuple(map(_steps, tensors)), tuple(map(_alignment, tensors))
    # Strides of dimensions of size 1 mean nothing.
    varying = [k for k, size in enumerate((n, c, h, w)) if size > 1 and k]
    same = all(own[k] == steps[0][k] for own in steps for k in varying)
    if same and _dense((c, h, w), steps[0][1:]):
        sample = c * h * w
        if n == 1 or (not per_sample and all(own[0] == sample for own in steps)):
            return _plan(1, 1, 1, n * sample, False, ((0, 0, 0, 1),) * len(tensors), aligned, TILE)
        return _plan(n, 1, 1, sample, False, tuple((own[0], 0, 0, 1) for own in steps), aligned, TILE)
    return _plan(n, c, h, w, is_channels_last(x), steps, aligned, TILE)


def _alignment(x: Tensor) -> tuple[int, bool]:
    """Bytes of an element, and whether the first lies at a multiple of 16."""
    return x.element_size(), x.data_ptr() % 16 == 0


@lru_cache(maxsize=1024)
def _plan(
    n: int,
    c: int,
    h: int,
    w: int,
    channels_last: bool,
    steps: tuple[Steps, ...],
    aligned: tuple[tuple[int, bool], ...],
    tile: int,
) -> Tiling:
    """The grid of these sizes, strides, elements and tile; there are few of them in a run, and each is wanted often."""
    height, width = (h, w * c) if channels_last else (c * h, w)
    rows = 1 if height == 1 else min(4 if channels_last else 16, tile)
    cols = tile // rows
    if channels_last:
        unit = all(own[1] == 1 and own[3] * 2 * w < 2**31 for own in steps)
        group = next(size for size in (16, 8, 4, 1) if c % size == 0)
        outer = (0, 2, 3)
    else:
        unit = all(own[3] == 1 for own in steps)
        group, outer = min(16, cols), (0, 1, 2)
    for own, (size, at_16) in zip(steps, aligned, strict=True):
        if not (unit and at_16 and all(own[k] * size % min(16, group * size) == 0 for k in outer)):
            group = 1
    tiles = triton.cdiv(height, rows) * triton.cdiv(width, cols)
    return Tiling(n, c, h, w, channels_last, unit, group, rows, cols, tiles, tuple(map(_encoded, steps)))


def arithmetic(*tensors: Tensor) -> Any:
    """The Triton type to compute in: float32, or float64 where an operand is."""
    return tl.float64 if any(t.dtype == torch.float64 for t in tensors) else tl.float32


def on_device(x: Tensor) -> AbstractContextManager[Any]:
    """Make the device of `x` current: Triton launches on the current device, not on the tensor's."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
