"""The Haar transform: Triton kernels, forward and inverse, each the other's transpose.

With the 2 x 2 block [a b; c d] and a factor f = 1/4, the forward matrix M (dissertation 2.21) is
LL = f (a+b+c+d), LH = f (a-b+c-d), HL = f (a+b-c-d), HH = f (a-b-c+d). Without f, M is symmetric and
M M = 4, so the inverse is the same matrix with factor 1, the forward's backward is the inverse kernel
with factor 1/4, and the inverse's backward is the forward kernel with factor 1.
"""

# ruff: noqa: N803  (compile-time arguments and sizes in capitals, as everywhere in Triton)
from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from irnscale.kernels.compiling import launch
from irnscale.kernels.dispatch import count
from irnscale.kernels.tiling import (
    arithmetic,
    at,
    is_channels_last,
    jit,
    like,
    on_device,
    read,
    tile_index,
    tile_plan,
    to_grey_level,
    write,
)


@jit
def _forward(
    x: tl.tensor,
    y: tl.tensor,
    C: tl.constexpr,
    H: tl.tensor,
    W: tl.tensor,
    tiles: tl.tensor,
    xs: tl.tuple,
    ys: tl.tuple,
    FACTOR: tl.constexpr,
    FROM_UINT8: tl.constexpr,
    ACC: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    UNIT: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
) -> None:
    """x (N, C, 2H, 2W) -> y (N, 4C, H, W)."""
    place, inside, whole = tile_index(C, H, W, tiles, CHANNELS_LAST, GROUP, ROWS, COLS)
    n, first, ch, i, j = place[0], place[1], place[2], place[3], place[4]
    if CHANNELS_LAST:
        a = read(at(x, xs, (n, first, ch, 2 * i, 2 * j), CHANNELS_LAST, UNIT, GROUP), inside, whole)
        b = read(at(x, xs, (n, first, ch, 2 * i, 2 * j + 1), CHANNELS_LAST, UNIT, GROUP), inside, whole)
        c = read(at(x, xs, (n, first, ch, 2 * i + 1, 2 * j), CHANNELS_LAST, UNIT, GROUP), inside, whole)
        d = read(at(x, xs, (n, first, ch, 2 * i + 1, 2 * j + 1), CHANNELS_LAST, UNIT, GROUP), inside, whole)
    else:
        # Whole lines, split in registers: full-width loads instead of pairs of strided ones.
        line = tl.arange(0, 2 * COLS)[None, :]
        on_line = (ch < C) & (2 * first + line < 2 * W)
        upper = at(x, xs, (n, 2 * first, ch, 2 * i, line), CHANNELS_LAST, UNIT, GROUP)
        lower = at(x, xs, (n, 2 * first, ch, 2 * i + 1, line), CHANNELS_LAST, UNIT, GROUP)
        a, b = tl.split(tl.reshape(read(upper, on_line, whole), [ROWS, COLS, 2]))
        c, d = tl.split(tl.reshape(read(lower, on_line, whole), [ROWS, COLS, 2]))
    a, b, c, d = a.to(ACC), b.to(ACC), c.to(ACC), d.to(ACC)
    if FROM_UINT8:
        # Correctly rounded: the same float32 as torch's x / 255.
        a, b = tl.math.div_rn(a, 255.0), tl.math.div_rn(b, 255.0)
        c, d = tl.math.div_rn(c, 255.0), tl.math.div_rn(d, 255.0)
    top, bottom, left, right = a + b, c + d, a - b, c - d
    ll, lh = (top + bottom) * FACTOR, (left + right) * FACTOR
    hl, hh = (top - bottom) * FACTOR, (left - right) * FACTOR
    write(at(y, ys, place, CHANNELS_LAST, UNIT, GROUP), ll, inside, whole)
    write(at(y, ys, (n, first, C + ch, i, j), CHANNELS_LAST, UNIT, GROUP), lh, inside, whole)
    write(at(y, ys, (n, first, 2 * C + ch, i, j), CHANNELS_LAST, UNIT, GROUP), hl, inside, whole)
    write(at(y, ys, (n, first, 3 * C + ch, i, j), CHANNELS_LAST, UNIT, GROUP), hh, inside, whole)


@jit
def _inverse(
    y: tl.tensor,
    x: tl.tensor,
    C: tl.constexpr,
    H: tl.tensor,
    W: tl.tensor,
    tiles: tl.tensor,
    ys: tl.tuple,
    xs: tl.tuple,
    FACTOR: tl.constexpr,
    TO_UINT8: tl.constexpr,
    ACC: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    UNIT: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
) -> None:
    """y (N, 4C, H, W) -> x (N, C, 2H, 2W)."""
    place, inside, whole = tile_index(C, H, W, tiles, CHANNELS_LAST, GROUP, ROWS, COLS)
    n, first, ch, i, j = place[0], place[1], place[2], place[3], place[4]
    ll = read(at(y, ys, place, CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    lh = read(at(y, ys, (n, first, C + ch, i, j), CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    hl = read(at(y, ys, (n, first, 2 * C + ch, i, j), CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    hh = read(at(y, ys, (n, first, 3 * C + ch, i, j), CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    top, bottom, top_step, bottom_step = ll + hl, ll - hl, lh + hh, lh - hh
    a, b = (top + top_step) * FACTOR, (top - top_step) * FACTOR
    c, d = (bottom + bottom_step) * FACTOR, (bottom - bottom_step) * FACTOR
    if TO_UINT8:
        a, b = to_grey_level(a, 255.0), to_grey_level(b, 255.0)
        c, d = to_grey_level(c, 255.0), to_grey_level(d, 255.0)
        # Through int32: not every backend converts floats to 8-bit integers directly.
        a, b, c, d = a.to(tl.int32), b.to(tl.int32), c.to(tl.int32), d.to(tl.int32)
    kind = x.dtype.element_ty
    a, b, c, d = a.to(kind), b.to(kind), c.to(kind), d.to(kind)
    if CHANNELS_LAST:
        write(at(x, xs, (n, first, ch, 2 * i, 2 * j), CHANNELS_LAST, UNIT, GROUP), a, inside, whole)
        write(at(x, xs, (n, first, ch, 2 * i, 2 * j + 1), CHANNELS_LAST, UNIT, GROUP), b, inside, whole)
        write(at(x, xs, (n, first, ch, 2 * i + 1, 2 * j), CHANNELS_LAST, UNIT, GROUP), c, inside, whole)
        write(at(x, xs, (n, first, ch, 2 * i + 1, 2 * j + 1), CHANNELS_LAST, UNIT, GROUP), d, inside, whole)
    else:
        line = tl.arange(0, 2 * COLS)[None, :]
        on_line = (ch < C) & (2 * first + line < 2 * W)
        upper = at(x, xs, (n, 2 * first, ch, 2 * i, line), CHANNELS_LAST, UNIT, GROUP)
        lower = at(x, xs, (n, 2 * first, ch, 2 * i + 1, line), CHANNELS_LAST, UNIT, GROUP)
        write(upper, tl.reshape(tl.join(a, b), [ROWS, 2 * COLS]), on_line, whole)
        write(lower, tl.reshape(tl.join(c, d), [ROWS, 2 * COLS]), on_line, whole)


def _launch_forward(x: Tensor, factor: float, operation: str) -> Tensor:
    """Run the forward kernel with any factor; a uint8 `x` gives float32."""
    n, c, h, w = x.shape
    eight_bit = x.dtype == torch.uint8
    y = like(x, (n, 4 * c, h // 2, w // 2), torch.float32 if eight_bit else x.dtype)
    if y.numel():
        p = tile_plan(n, c, h // 2, w // 2, is_channels_last(x), x, y)
        count(operation)
        with on_device(x):
            launch(
                _forward,
                p.grid,
                x,
                y,
                *p.index,
                *p.strides,
                FACTOR=factor,
                FROM_UINT8=eight_bit,
                ACC=arithmetic(x),
                **p.meta,
            )
    return y


def _launch_inverse(y: Tensor, factor: float, to_uint8: bool, operation: str) -> Tensor:
    """Run the inverse kernel with any factor."""
    n, c4, h, w = y.shape
    x = like(y, (n, c4 // 4, 2 * h, 2 * w), torch.uint8 if to_uint8 else y.dtype)
    if x.numel():
        # Strides of y and x; the tile walks over the positions of one band.
        p = tile_plan(n, c4 // 4, h, w, is_channels_last(y), y, x)
        count(operation)
        with on_device(y):
            launch(
                _inverse,
                p.grid,
                y,
                x,
                *p.index,
                *p.strides,
                FACTOR=factor,
                TO_UINT8=to_uint8,
                ACC=arithmetic(y),
                **p.meta,
            )
    return x


class _Forward(torch.autograd.Function):
    """Forward matrix times a factor; its gradient is the inverse matrix times the same factor."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float, operation: str) -> Tensor:
        ctx.factor, ctx.operation = factor, operation
        return _launch_forward(x, factor, operation)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        # Through the Function and not the bare kernel, so that it can be differentiated again.
        return _Inverse.apply(grads[0], ctx.factor, f"{ctx.operation}_backward"), None, None  # type: ignore[no-untyped-call]


class _Inverse(torch.autograd.Function):
    """Inverse matrix times a factor; its gradient is the forward matrix times the same factor."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, factor: float, operation: str) -> Tensor:
        ctx.factor, ctx.operation = factor, operation
        return _launch_inverse(y, factor, False, operation)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Forward.apply(grads[0], ctx.factor, f"{ctx.operation}_backward"), None, None  # type: ignore[no-untyped-call]


def haar_forward(x: Tensor) -> Tensor:
    """(N, C, H, W) float or uint8, H and W even -> (N, 4C, H/2, W/2); see `reference.haar_forward`."""
    y: Tensor = _Forward.apply(x, 0.25, "haar_forward")  # type: ignore[no-untyped-call]
    return y


def haar_inverse(y: Tensor, *, to_uint8: bool = False) -> Tensor:
    """(N, 4C, H, W) -> (N, C, 2H, 2W), as 8-bit grey levels if asked; see `reference.haar_inverse`."""
    if to_uint8:
        return _launch_inverse(y.detach(), 1.0, True, "haar_inverse")
    x: Tensor = _Inverse.apply(y, 1.0, "haar_inverse")  # type: ignore[no-untyped-call]
    return x
