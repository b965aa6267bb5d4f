"""An experiment: the dense block as five matrix products without concatenation. No network uses it.

A convolution of a concatenation is the sum of convolutions of its parts. So each source (the input, then each
feature) is convolved once, when it appears, with the filters of all later layers side by side: products of width
4 g + o, 3 g + o, ..., o for growth g and o outputs, where cuDNN has g, and every source is read once. The sums wait
in a float32 buffer; the launch that completes a layer adds its bias, applies LeakyReLU and writes the next source.

It ships only if `irnscale bench kernels` finds it 1.2 times as fast as cuDNN in channels-last bfloat16 in the same
run. That has not been measured yet: it has run in Triton's interpreter only. There is no backward pass.
"""

# ruff: noqa: N803  (compile-time arguments and sizes in capitals, as everywhere in Triton)
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from irnscale.kernels.dispatch import count, interpreted, require_image
from irnscale.kernels.tiling import OPTIONS, jit, on_device, strides


class Tile(NamedTuple):
    """What one program computes: pixels and output channels (16 at least, for the matrix units), and its warps."""

    pixels: int = 128
    columns: int = 32
    warps: int = 4


TILES = (Tile(), Tile(128, 64, 4), Tile(128, 128, 8), Tile(64, 64, 4), Tile(256, 32, 8))
"""What the benchmark tries."""


@jit
def _add_source(
    source: tl.tensor,
    filters: tl.tensor,
    bias: tl.tensor,
    sums: tl.tensor,
    out: tl.tensor,
    S: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    tiles: tl.tensor,
    width: tl.tensor,
    total: tl.tensor,
    first: tl.tensor,
    done: tl.tensor,
    ss: tl.tuple,
    os: tl.tuple,
    SLOPE: tl.constexpr,
    FIRST: tl.constexpr,
    LAST: tl.constexpr,
    WIDEN: tl.constexpr,
    DEPTH: tl.constexpr,
    PIXELS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """sums[..., first : first + width] += source * filters; the first `done` of these columns are complete.

    Complete columns go, with their bias and activation, to `out` (N, done, H, W); the others to `sums`
    (N, H, W, total), which holds nothing yet for the FIRST source. `filters` is (9, S, width).
    """
    n = (tl.program_id(0) // tiles).to(tl.int64)
    pixel = (tl.program_id(0) % tiles) * PIXELS + tl.arange(0, PIXELS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    h, w = pixel // W, pixel % W
    acc = tl.zeros([PIXELS, COLUMNS], dtype=tl.float32)
    for tap in range(9):
        y, x = h + tap // 3 - 1, w + tap % 3 - 1
        inside = (pixel < H * W) & (y >= 0) & (y < H) & (x >= 0) & (x < W)
        line = source + n * ss[0] + y.to(tl.int64) * ss[2] + x.to(tl.int64) * ss[3]
        for start in range(0, S, DEPTH):
            c = start + tl.arange(0, DEPTH)
            a = tl.load(line[:, None] + c[None, :] * ss[1], mask=inside[:, None] & (c[None, :] < S), other=0)
            b = tl.load(
                filters + (tap * S + c)[:, None] * width + column[None, :],
                mask=(c[:, None] < S) & (column[None, :] < width),
                other=0,
            )
            if WIDEN:
                a, b = a.to(tl.float32), b.to(tl.float32)
            acc = tl.dot(a, b, acc, input_precision="ieee")
    here = (pixel < H * W)[:, None]
    complete = here & (column < done)[None, :]
    pending = here & ((column >= done) & (column < width))[None, :]
    place = (n * H * W + pixel.to(tl.int64))[:, None] * total + (first + column)[None, :]
    if not FIRST:
        acc += tl.load(sums + place, mask=complete | pending, other=0)
    if not LAST:
        tl.store(sums + place, acc, mask=pending)
    value = acc + tl.load(bias + column, mask=column < done, other=0).to(tl.float32)[None, :]
    if not LAST:
        value = tl.where(value > 0, value, value * SLOPE)
    target = out + n * os[0] + column[None, :] * os[1] + h.to(tl.int64)[:, None] * os[2] + w[:, None] * os[3]
    tl.store(target, value.to(out.dtype.element_ty), mask=complete)


def pack(weights: Sequence[Tensor]) -> list[Tensor]:
    """The weights of a dense block (out_k, C + k growth, 3, 3), regrouped by source: (9, S_j, sum of out_k, k >= j)."""
    ends = [weight.shape[1] for weight in weights]
    starts = [0, *ends[:-1]]
    packed = []
    for j, (start, end) in enumerate(zip(starts, ends, strict=True)):
        later = torch.cat([weight[:, start:end] for weight in weights[j:]])
        packed.append(later.permute(2, 3, 1, 0).reshape(9, end - start, later.shape[0]).contiguous())
    return packed


def dense_block(
    x: Tensor, packed: Sequence[Tensor], biases: Sequence[Tensor], negative_slope: float = 0.2, tile: Tile = TILES[0]
) -> Tensor:
    """x (N, C, H, W) and the `pack`ed weights, in the dtype of x -> (N, out, H, W); see `reference.dense_block`.

    Raises ValueError naming an argument that does not fit.
    """
    require_image("x", x)
    n, channels, height, width = x.shape
    outs = [bias.shape[0] for bias in biases]
    sizes = [channels, *outs[:-1]]
    for j, (filters, size) in enumerate(zip(packed, sizes, strict=True)):
        wanted = (9, size, sum(outs[j:]))
        if filters.shape != wanted or filters.dtype != x.dtype or filters.device != x.device:
            raise ValueError(f"packed[{j}] must be {wanted} {x.dtype} on {x.device}, got {tuple(filters.shape)}")
    total, first = sum(outs), 0
    sums = torch.empty((n, height, width, total), dtype=torch.float32, device=x.device)
    source = x
    for j, (filters, bias, done) in enumerate(zip(packed, biases, outs, strict=True)):
        kind = {"dtype": x.dtype, "device": x.device, "memory_format": torch.channels_last}
        out = torch.empty((n, done, height, width), **kind)  # type: ignore[call-overload]
        tiles = triton.cdiv(height * width, tile.pixels)
        if out.numel():
            count("dense_block")
            with on_device(x):
                _add_source[(n * tiles, triton.cdiv(total - first, tile.columns))](
                    source,
                    filters,
                    bias,
                    sums,
                    out,
                    *(source.shape[1], height, width, tiles),
                    *(total - first, total, first, done),
                    strides(source),
                    strides(out),
                    SLOPE=float(negative_slope),
                    FIRST=j == 0,
                    LAST=j == len(outs) - 1,
                    WIDEN=interpreted(),  # the interpreter cannot multiply 16-bit matrices
                    DEPTH=min(64, max(16, triton.next_power_of_2(source.shape[1]))),
                    PIXELS=tile.pixels,
                    COLUMNS=tile.columns,
                    num_warps=tile.warps,
                    **OPTIONS,
                )
        source, first = out, first + done
    return source
