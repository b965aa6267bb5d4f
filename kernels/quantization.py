"""Rounding to the 8-bit grid with the straight-through gradient (dissertation 3.12 and 3.13)."""

# ruff: noqa: N803  (compile-time arguments and sizes in capitals, as everywhere in Triton)
from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from irnscale.kernels.dispatch import count
from irnscale.kernels.tiling import arithmetic, jit, on_device, plan, tile_index, to_grey_level


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
    ACC: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
) -> None:
    """y = round(255 clamp(x, 0, 1)) / 255, half to even; NaN stays NaN."""
    n, c, h, w, inside = tile_index(C, H, W, tiles, CHANNELS_LAST, ROWS, COLS)
    value = tl.load(x + n * xs[0] + c * xs[1] + h * xs[2] + w * xs[3], mask=inside, other=0).to(ACC)
    level = to_grey_level(value)
    # Plain float32 division is approximate on the GPU; a grey level must be the same float everywhere.
    level = level / 255.0 if value.dtype == tl.float64 else tl.math.div_rn(level, 255.0)
    # A NaN is evidence of an overflow in the network and must not pass as black.
    level = tl.where(value == value, level, value)
    target = y + n * ys[0] + c * ys[1] + h * ys[2] + w * ys[3]
    tl.store(target, level.to(y.dtype.element_ty), mask=inside)


class _StraightThrough(torch.autograd.Function):
    """The gradient is the identity, also where the value was clamped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        if y.numel():
            p = plan(x, y)
            count("quantize")
            with on_device(x):
                _quantize[p.grid](x, y, *p.index, *p.strides, ACC=arithmetic(x), **p.meta)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def quantize(x: Tensor) -> Tensor:
    """(N, C, H, W) -> the same, on multiples of 1/255; see `reference.quantize`."""
    y: Tensor = _StraightThrough.apply(x)  # type: ignore[no-untyped-call]
    return y
