"""Rounding to the 8-bit or 16-bit grid with the straight-through gradient (dissertation 3.12 and 3.13)."""

# ruff: noqa: N803  (compile-time arguments and sizes in capitals, as everywhere in Triton)
from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from irnscale.kernels.compiling import launch
from irnscale.kernels.dispatch import count
from irnscale.kernels.tiling import arithmetic, at, jit, on_device, plan, read, tile_index, to_grey_level, write


@jit
def _quantize(
    x: tl.tensor,
    y: tl.tensor,
    C: tl.constexpr,
    H: tl.tensor,
    W: tl.tensor,
    tiles: tl.tensor,
    xs: tl.tuple,
    ys: tl.tuple,
    LEVELS: tl.constexpr,
    TO_INTEGER: tl.constexpr,
    ACC: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    UNIT: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
) -> None:
    """y = round(L clamp(x, 0, 1)) / L, half to even, NaN stays NaN; or the levels themselves, where NaN is 0."""
    place, inside, whole = tile_index(C, H, W, tiles, CHANNELS_LAST, GROUP, ROWS, COLS)
    value = read(at(x, xs, place, CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    level = to_grey_level(value, LEVELS)
    if TO_INTEGER:
        # Through int32: not every backend converts floats to small integers directly.
        level = level.to(tl.int32)
    else:
        # Plain float32 division is approximate on the GPU; a grey level must be the same float everywhere.
        level = level / LEVELS if value.dtype == tl.float64 else tl.math.div_rn(level, LEVELS)
        # A NaN is evidence of an overflow in the network and must not pass as black.
        level = tl.where(value == value, level, value)
    write(at(y, ys, place, CHANNELS_LAST, UNIT, GROUP), level, inside, whole)


def _launch(x: Tensor, y: Tensor, depth: int) -> Tensor:
    """Write the quantised `x` into `y`, which may be of an integer type."""
    if y.numel():
        p = plan(x, y)
        count("quantize")
        with on_device(x):
            launch(
                _quantize,
                p.grid,
                x,
                y,
                *p.index,
                *p.strides,
                LEVELS=float(2**depth - 1),
                TO_INTEGER=not y.is_floating_point(),
                ACC=arithmetic(x),
                **p.meta,
            )
    return y


class _StraightThrough(torch.autograd.Function):
    """The gradient is the identity, also where the value was clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, depth: int) -> Tensor:
        return _launch(x, torch.empty_like(x), depth)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def quantize(x: Tensor, *, depth: int = 8, to_integer: bool = False) -> Tensor:
    """(N, C, H, W) -> the same on the grid of `depth` bits, or its integers; see `reference.quantize`."""
    if to_integer:
        return _launch(x.detach(), torch.empty_like(x, dtype=torch.uint8 if depth == 8 else torch.uint16), depth)
    y: Tensor = _StraightThrough.apply(x, depth)  # type: ignore[no-untyped-call]
    return y
