"""The coupling's first half-step, y = x + p and its inverse x = y - p (dissertation 2.22)."""

# ruff: noqa: N803  (compile-time arguments and sizes in capitals, as everywhere in Triton)
from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from irnscale.kernels.compiling import launch
from irnscale.kernels.dispatch import count
from irnscale.kernels.tiling import arithmetic, at, jit, on_device, plan, read, tile_index, write


@jit
def _add(
    x: tl.tensor,
    p: tl.tensor,
    y: tl.tensor,
    C: tl.constexpr,
    H: tl.tensor,
    W: tl.tensor,
    tiles: tl.tensor,
    xs: tl.tuple,
    ps: tl.tuple,
    ys: tl.tuple,
    SIGN: tl.constexpr,
    HAS_X: tl.constexpr,
    ACC: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    UNIT: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
) -> None:
    """y = x + SIGN p, or y = SIGN p without x; y may be x."""
    place, inside, whole = tile_index(C, H, W, tiles, CHANNELS_LAST, GROUP, ROWS, COLS)
    value = SIGN * read(at(p, ps, place, CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    if HAS_X:
        value += read(at(x, xs, place, CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    write(at(y, ys, place, CHANNELS_LAST, UNIT, GROUP), value, inside, whole)


def _launch(x: Tensor | None, p: Tensor, y: Tensor, sign: float, operation: str) -> Tensor:
    """Write x + sign p (sign p where `x` is None) into `y`."""
    if y.numel():
        source = y if x is None else x
        grid = plan(y, source, p)
        ys, xs, ps = grid.strides
        count(operation)
        with on_device(y):
            launch(
                _add,
                grid.grid,
                source,
                p,
                y,
                *grid.index,
                xs,
                ps,
                ys,
                SIGN=sign,
                HAS_X=x is not None,
                ACC=arithmetic(y, p),
                **grid.meta,
            )
    return y


class _Additive(torch.autograd.Function):
    """x + sign p, into x itself if `inplace`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: Tensor, sign: float, inplace: bool) -> Tensor:
        ctx.sign, ctx.p_dtype = sign, p.dtype
        ctx.operation = "additive_forward" if sign > 0 else "additive_inverse"
        if inplace:
            ctx.mark_dirty(x)
        return _launch(x, p, x if inplace else torch.empty_like(x), sign, ctx.operation)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        return grads[0], _Scale.apply(grads[0], ctx.sign, ctx.p_dtype, ctx.operation), None, None  # type: ignore[no-untyped-call]


class _Scale(torch.autograd.Function):
    """sign x, as `dtype`: the gradient by p, itself differentiable."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sign: float, dtype: torch.dtype, operation: str) -> Tensor:
        ctx.sign, ctx.x_dtype, ctx.operation = sign, x.dtype, operation
        if sign == 1 and dtype == x.dtype:
            return x.view_as(x)
        return _launch(None, x, torch.empty_like(x, dtype=dtype), sign, f"{operation}_backward")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        return _Scale.apply(grads[0], ctx.sign, ctx.x_dtype, ctx.operation), None, None, None  # type: ignore[no-untyped-call]


def additive_forward(x: Tensor, p: Tensor, *, inplace: bool = False) -> Tensor:
    """y = x + p, (N, C, H, W); with `inplace`, x becomes y (autograd refuses where x is needed)."""
    y: Tensor = _Additive.apply(x, p, 1.0, inplace)  # type: ignore[no-untyped-call]
    return y


def additive_inverse(y: Tensor, p: Tensor, *, inplace: bool = False) -> Tensor:
    """x = y - p, (N, C, H, W); with `inplace`, y becomes x (autograd refuses where y is needed)."""
    x: Tensor = _Additive.apply(y, p, -1.0, inplace)  # type: ignore[no-untyped-call]
    return x
