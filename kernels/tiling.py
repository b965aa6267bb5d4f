"""How the kernels walk over (N, C, H, W) tensors, and the small helpers they share.

Every kernel works on tiles of ROWS x COLS elements of one sample. In contiguous memory a row is one
(c, h) line and its columns are w; in channels-last memory a row is one h and its columns are (w, c) with
c fastest, so that neighbouring lanes touch neighbouring addresses in either layout, whatever C and W.
All tensors are read and written through their own strides (int64), so slices and mixed layouts are
served; only their speed differs.
"""

# ruff: noqa: N803  (compile-time arguments and sizes in capitals, as everywhere in Triton)
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from irnscale.kernels import dispatch

TILE = 1024
"""Elements per program: two 128-bit float32 accesses per lane with the default four warps."""

OPTIONS = {"enable_fp_fusion": False}
"""Compiler options of every kernel: no fused multiply-add, so that all devices round as the reference does.
The kernels wait for memory, not for arithmetic, so it costs nothing."""


def jit(function: Callable[..., Any]) -> Any:
    """`triton.jit` as type checkers understand it."""
    return triton.jit(function)


@jit
def tile_index(
    C: tl.constexpr,
    H: tl.tensor,
    W: tl.tensor,
    tiles: tl.tensor,
    CHANNELS_LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
) -> Any:
    """The (n, c, h, w) of this program's tile, int64, and the mask of those inside the tensor.

    n is a scalar; c, h and w broadcast to (ROWS, COLS).
    """
    pid = tl.program_id(0)
    n = (pid // tiles).to(tl.int64)
    tile = pid % tiles
    if CHANNELS_LAST:
        col_tiles = tl.cdiv(W * C, COLS)
        row = (tile // col_tiles) * ROWS + tl.arange(0, ROWS)[:, None]
        # One image row has far fewer than 2^31 elements, and 64-bit division is slow.
        col = (tile % col_tiles) * COLS + tl.arange(0, COLS)[None, :]
        c, h, w = col % C, row, col // C
        if C % 4 == 0:
            # The compiler cannot see through % and //: four neighbours share a pixel and lie in a row.
            c = tl.max_contiguous(tl.multiple_of(c, (1, 4)), (1, 4))
            w = tl.max_constancy(w, (1, 4))
        inside = (row < H) & (col < W * C)
    else:
        col_tiles = tl.cdiv(W, COLS)
        row = (tile // col_tiles) * ROWS + tl.arange(0, ROWS)[:, None]
        # A tensor collapsed to one row (see `plan`) may have more than 2^31 columns.
        col = (tile % col_tiles).to(tl.int64) * COLS + tl.arange(0, COLS)[None, :]
        c, h, w = row // H, row % H, col
        inside = (row < C * H) & (col < W)
    return n, c.to(tl.int64), h.to(tl.int64), w.to(tl.int64), inside


@jit
def to_grey_level(value: tl.tensor, LEVELS: tl.constexpr) -> Any:
    """round(LEVELS value), half to even, with `value` clamped to [0, 1], still as a float; NaN becomes 0.

    The clamp comes after the product, so that no compiler can fuse the product into the rounding (an FMA
    rounds once and would move ties); it is the same clamp, since LEVELS x is monotone and exact at 0 and 1.
    """
    scaled = tl.minimum(tl.maximum(value * LEVELS, 0.0), LEVELS)
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
        _sum_rows[(rows,)](partial, total, count, BLOCK=min(TILE, triton.next_power_of_2(max(count, 1))), **OPTIONS)
    return total


@dataclass(frozen=True)
class Plan:
    """A grid over a tensor: the effective sizes (after collapsing), the tile shape and the strides."""

    n: int
    c: int
    h: int
    w: int
    channels_last: bool
    rows: int
    cols: int
    tiles: int
    """Tiles per sample; a tile never spans two samples."""
    strides: tuple[tuple[int, int, int, int], ...]

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
        """The compile-time arguments of `tile_index` and the compiler's options."""
        return {"CHANNELS_LAST": self.channels_last, "ROWS": self.rows, "COLS": self.cols, **OPTIONS}


def strides(x: Tensor) -> tuple[int, int, int, int]:
    """The four strides of an image tensor."""
    n, c, h, w = x.stride()
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


def tile_plan(n: int, c: int, h: int, w: int, channels_last: bool, *tensors: Tensor) -> Plan:
    """A grid of tiles over (n, c, h, w), with the strides of `tensors`."""
    height, width = (h, w * c) if channels_last else (c * h, w)
    cols = min(TILE, triton.next_power_of_2(width))
    # Narrower tiles where wide ones would leave more than an eighth of the lanes outside.
    while cols > 64 and -width % cols > width // 8:
        cols //= 2
    rows = min(TILE // cols, triton.next_power_of_2(height))
    tiles = triton.cdiv(height, rows) * triton.cdiv(width, cols)
    return Plan(n, c, h, w, channels_last, rows, cols, tiles, tuple(strides(x) for x in tensors))


def plan(x: Tensor, *others: Tensor, per_sample: bool = False) -> Plan:
    """A grid for an elementwise operation on tensors of one shape, collapsed to long rows where possible.

    Where every tensor stores its samples without gaps and in the same order, a sample is one row; where
    that holds for the whole batch, and no tile needs to know its sample (`per_sample`), the batch is.
    """
    tensors = (x, *others)
    n, c, h, w = x.shape
    inner = [t.stride()[1:] for t in tensors]
    # Strides of dimensions of size 1 mean nothing.
    varying = [k for k, size in enumerate((c, h, w)) if size > 1]
    same = all([steps[k] for k in varying] == [inner[0][k] for k in varying] for steps in inner)
    if same and _dense((c, h, w), inner[0]):
        sample = c * h * w
        if n == 1 or (not per_sample and all(t.stride(0) == sample for t in tensors)):
            base = tile_plan(1, 1, 1, n * sample, False)
            return _with_strides(base, [(0, 0, 0, 1)] * len(tensors))
        base = tile_plan(n, 1, 1, sample, False)
        return _with_strides(base, [(t.stride(0), 0, 0, 1) for t in tensors])
    return tile_plan(n, c, h, w, is_channels_last(x), *tensors)


def _with_strides(base: Plan, steps: list[tuple[int, int, int, int]]) -> Plan:
    return Plan(base.n, base.c, base.h, base.w, base.channels_last, base.rows, base.cols, base.tiles, tuple(steps))


def arithmetic(*tensors: Tensor) -> Any:
    """The Triton type to compute in: float32, or float64 where an operand is."""
    return tl.float64 if any(t.dtype == torch.float64 for t in tensors) else tl.float32


def on_device(x: Tensor) -> AbstractContextManager[Any]:
    """Make the device of `x` current: Triton launches on the current device, not on the tensor's."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()
