"""Bias and LeakyReLU in one pass, written into a channel slice of a dense block's buffer.

With all features of a dense block in one preallocated buffer, the concatenations of the dense block
(dissertation, figure 3.3) copy nothing: each convolution reads `out[:, :k]` and its activation lands in
`out[:, k : k + C]`.

A tile is PIXELS x CHANNELS: one channel and many pixels in contiguous memory, all channels of some pixels
in channels-last memory, so that the bias gradient is a sum over the tile's first axis in both.
"""

# ruff: noqa: N803  (compile-time arguments and sizes in capitals, as everywhere in Triton)
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from irnscale.kernels import tiling
from irnscale.kernels.compiling import launch
from irnscale.kernels.dispatch import count
from irnscale.kernels.tiling import (
    OPTIONS,
    arithmetic,
    is_channels_last,
    jit,
    like,
    on_device,
    read,
    step,
    strides,
    sum_rows,
    write,
)


@jit
def _pixel_index(
    C: tl.constexpr, H: tl.tensor, W: tl.tensor, tiles: tl.tensor, PIXELS: tl.constexpr, CHANNELS: tl.constexpr
) -> Any:
    """(n, c, h, w) of this program's tile, the mask of those inside, and whether all are; pixels run down, c across."""
    pid = tl.program_id(0)
    channel_tiles = tl.cdiv(C, CHANNELS)
    n = (pid // tiles).to(tl.int64)
    tile = pid % tiles
    left, top = (tile % channel_tiles) * CHANNELS, (tile // channel_tiles) * PIXELS
    c = left + tl.arange(0, CHANNELS)[None, :]
    pixel = top + tl.arange(0, PIXELS)[:, None]
    inside = (c < C) & (pixel < H * W)
    whole = (left + CHANNELS <= C) & (top + PIXELS <= H * W)
    return (n, c, (pixel // W).to(tl.int64), (pixel % W).to(tl.int64)), inside, whole


@jit
def _at(base: tl.tensor, steps: tl.tuple, place: tl.tuple, UNIT: tl.constexpr, ALIGNED: tl.constexpr) -> Any:
    """Pointers to `place`. UNIT: channels are neighbours; ALIGNED: those of a pixel begin at a multiple of 16 bytes."""
    n, c, h, w = place[0], place[1], place[2], place[3]
    pixels = base + (n * step(steps, 0) + h * step(steps, 2) + w * step(steps, 3))
    if ALIGNED:
        pixels = tl.multiple_of(pixels, (16, 16))
    if UNIT:
        return pixels + c
    else:
        return pixels + c.to(tl.int64) * step(steps, 1)


@jit
def _forward(
    x: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    C: tl.constexpr,
    H: tl.tensor,
    W: tl.tensor,
    tiles: tl.tensor,
    bias_stride: tl.tensor,
    xs: tl.tuple,
    os: tl.tuple,
    SLOPE: tl.constexpr,
    ACC: tl.constexpr,
    UNIT: tl.constexpr,
    ALIGNED: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """out = leaky_relu(x + bias); `out` points to the first channel of the slice."""
    place, inside, whole = _pixel_index(C, H, W, tiles, PIXELS, CHANNELS)
    c = place[1]
    value = read(_at(x, xs, place, UNIT, ALIGNED), inside, whole).to(ACC)
    value += tl.load(bias + c * bias_stride, mask=c < C, other=0).to(ACC)
    value = tl.where(value > 0, value, value * SLOPE)
    write(_at(out, os, place, UNIT, ALIGNED), value, inside, whole)


@jit
def _backward(
    x: tl.tensor,
    bias: tl.tensor,
    grad: tl.tensor,
    dx: tl.tensor,
    partial: tl.tensor,
    C: tl.constexpr,
    H: tl.tensor,
    W: tl.tensor,
    tiles: tl.tensor,
    bias_stride: tl.tensor,
    partial_stride: tl.tensor,
    xs: tl.tuple,
    gs: tl.tuple,
    ds: tl.tuple,
    SLOPE: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    ACC: tl.constexpr,
    UNIT: tl.constexpr,
    ALIGNED: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """dx = grad leaky_relu'(x + bias) and, per tile, its sum over the pixels of each channel."""
    place, inside, whole = _pixel_index(C, H, W, tiles, PIXELS, CHANNELS)
    c = place[1]
    value = read(_at(x, xs, place, UNIT, ALIGNED), inside, whole).to(ACC)
    if HAS_BIAS:
        value += tl.load(bias + c * bias_stride, mask=c < C, other=0).to(ACC)
    g = read(_at(grad, gs, place, UNIT, ALIGNED), inside, whole).to(ACC)
    g = tl.where(value > 0, g, g * SLOPE)
    write(_at(dx, ds, place, UNIT, ALIGNED), g, inside, whole)
    # The sums of one channel lie side by side, one for each tile of pixels in each sample.
    channel_tiles = tl.cdiv(C, CHANNELS)
    part = place[0] * (tiles // channel_tiles) + (tl.program_id(0) % tiles) // channel_tiles
    channel = (tl.program_id(0) % tiles % channel_tiles) * CHANNELS + tl.arange(0, CHANNELS)
    sums = tl.sum(g, axis=0)
    tl.store(partial + channel.to(tl.int64) * partial_stride + part, sums, mask=channel < C)


def _tiling(x: Tensor, out: Tensor) -> tuple[int, int, int, int]:
    """PIXELS, CHANNELS, tiles per sample and tiles of pixels per sample."""
    _, c, h, w = x.shape
    if h * w >= 2**31:
        raise ValueError(f"x must have fewer than 2^31 pixels per sample, got {h} x {w}")
    channels = min(64, tiling.TILE, triton.next_power_of_2(c)) if is_channels_last(x) or is_channels_last(out) else 1
    pixels = tiling.TILE // channels
    pixel_tiles = triton.cdiv(h * w, pixels)
    return pixels, channels, pixel_tiles * triton.cdiv(c, channels), pixel_tiles


def _layout(*tensors: Tensor) -> dict[str, bool]:
    """The constants of `_at`, for all of them."""
    unit = all(x.stride(1) == 1 for x in tensors)
    bytes_of = [(x, x.element_size()) for x in tensors]
    aligned = all(x.data_ptr() % 16 == 0 and all(x.stride(k) * b % 16 == 0 for k in (0, 2, 3)) for x, b in bytes_of)
    return {"UNIT": unit, "ALIGNED": unit and aligned}


def bias_lrelu_backward(
    grad: Tensor,
    x: Tensor,
    bias: Tensor | None,
    negative_slope: float = 0.2,
    bias_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """The gradients by x (N, C, H, W) and by the bias (C,) of leaky_relu(x + bias).

    Without `bias`, `x` may be the activation's own output, whose sign is the same where the slope is not
    negative; a dense block that keeps its buffer needs to keep nothing else. The gradient by the bias has
    `bias_dtype`, or the dtype of the bias, or of x.
    """
    n, c, h, w = x.shape
    dx = like(grad, x.shape, x.dtype)
    dtype = bias_dtype or (x.dtype if bias is None else bias.dtype)
    if not x.numel():
        return dx, torch.zeros(c, dtype=dtype, device=x.device)
    pixels, channels, tiles, pixel_tiles = _tiling(x, grad)
    acc = arithmetic(x, grad)
    sums = torch.float64 if acc == tl.float64 else torch.float32
    partial = torch.empty(c, n * pixel_tiles, dtype=sums, device=x.device)
    count("bias_lrelu_into_backward")
    with on_device(x):
        launch(
            _backward,
            (n * tiles,),
            x,
            x if bias is None else bias,
            grad,
            dx,
            partial,
            c,
            h,
            w,
            tiles,
            0 if bias is None else bias.stride(0),
            partial.stride(0),
            strides(x),
            strides(grad),
            strides(dx),
            SLOPE=float(negative_slope),
            HAS_BIAS=bias is not None,
            ACC=acc,
            **_layout(x, grad, dx),
            PIXELS=pixels,
            CHANNELS=channels,
            **OPTIONS,
        )
        return dx, sum_rows(partial, dtype)


class _BiasLReLUInto(torch.autograd.Function):
    """Writes into `view`, the first argument, as autograd's treatment of views of a buffer requires."""

    @staticmethod
    def forward(ctx: Any, view: Tensor, x: Tensor, bias: Tensor, slope: float) -> Tensor:
        ctx.mark_dirty(view)
        # The input and not the written slice: later writes to the buffer would invalidate that.
        ctx.save_for_backward(x, bias)
        ctx.slope = slope
        n, c, h, w = x.shape
        if x.numel():
            pixels, channels, tiles, _ = _tiling(x, view)
            count("bias_lrelu_into")
            with on_device(x):
                launch(
                    _forward,
                    (n * tiles,),
                    x,
                    bias,
                    view,
                    c,
                    h,
                    w,
                    tiles,
                    bias.stride(0),
                    strides(x),
                    strides(view),
                    SLOPE=slope,
                    ACC=arithmetic(x, bias),
                    **_layout(x, view),
                    PIXELS=pixels,
                    CHANNELS=channels,
                    **OPTIONS,
                )
        return view

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x, bias = ctx.saved_tensors
        dx, dbias = bias_lrelu_backward(grad, x, bias, ctx.slope)
        # What the slice held before is overwritten: its gradient is zero, not absent, or autograd would
        # take the gradient of the whole buffer for absent.
        return torch.zeros_like(grad), dx, dbias, None


def bias_lrelu_into(x: Tensor, bias: Tensor, out: Tensor, channel: int, negative_slope: float = 0.2) -> Tensor:
    """Write leaky_relu(x + bias) into `out[:, channel : channel + C]`; see `reference.bias_lrelu_into`."""
    view = out[:, channel : channel + x.shape[1]]
    result: Tensor = _BiasLReLUInto.apply(view, x, bias, float(negative_slope))  # type: ignore[no-untyped-call]
    return result
