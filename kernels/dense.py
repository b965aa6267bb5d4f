"""Dense blocks for callers: weights packed once for inference, or an operation with gradients for training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from irnscale.kernels import reference
from irnscale.kernels.dense_layout import LAYERS, MULTIPLE, DenseLayout, layout_of, maps_on
from irnscale.kernels.dispatch import kernel, require_image, use_triton

Block = Sequence[Tensor]
"""Five weights (growth, C + k growth, 3, 3) for k = 0..3 and (out, C + 4 growth, 3, 3), and the five biases."""
SLOPE = 0.2


def fits_dense(block: Block) -> bool:
    """Whether the kernels take a block of these sizes on its device: features of a multiple of 16 channels.

    Devices before Ampere have no matrix units for bfloat16, and stay with cuDNN.
    """
    able = not block[0].is_cuda or _capability(block[0].device) >= (8, 0)
    return able and len(block) == 2 * LAYERS and block[0].shape[0] % MULTIPLE == 0


@lru_cache(maxsize=16)
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def _layout(blocks: Sequence[Block]) -> DenseLayout:
    """The one layout of all blocks; ValueError naming the first that is none, or another."""
    if not blocks:
        raise ValueError("blocks must not be empty")
    first = blocks[0]
    growth, channels = first[0].shape[:2]
    layout = layout_of(channels, first[LAYERS - 1].shape[0], growth)
    if growth % MULTIPLE:
        raise ValueError(f"blocks[0] must have features of a multiple of {MULTIPLE} channels, got {growth}")
    shapes = [*layout.shapes, *((shape[0],) for shape in layout.shapes)]
    for number, block in enumerate(blocks):
        if [tuple(p.shape) for p in block] != shapes:
            raise ValueError(
                f"blocks[{number}] must have parameters of {shapes}, got {[tuple(p.shape) for p in block]}"
            )
    return layout


def _check(x: Tensor, layout: DenseLayout) -> None:
    require_image("x", x)
    if x.shape[1] != layout.channels:
        raise ValueError(f"x must have {layout.channels} channels, got {x.shape[1]}")
    if x.shape[0] * x.shape[2] * x.shape[3] >= 2**31 - 2**16:  # the last program's positions are counted in 32 bits
        raise ValueError(f"x must have fewer than 2^31 - 2^16 positions, got shape {tuple(x.shape)}")


def _flat(blocks: Sequence[Block], dtype: torch.dtype) -> Tensor:
    """(G, weights + 1) in `dtype`, the last of each a zero."""
    rows = []
    for block in blocks:
        weights = [w.detach().reshape(-1).to(dtype) for w in block[:LAYERS]]
        rows.append(torch.cat([*weights, weights[0].new_zeros(1)]))
    return torch.stack(rows)


def _biases(layout: DenseLayout, blocks: Sequence[Block]) -> Tensor:
    """(G, layout.biases), float32."""
    rows = [torch.cat([b.detach().float() for b in block[LAYERS:]]) for block in blocks]
    return F.pad(torch.stack(rows), (0, layout.exit - layout.out))


def _rows(x: Tensor, channels: int, total: int, groups: int, dtype: torch.dtype) -> Tensor:
    """(G, P, total) of which the first channels hold x (1 or G pictures of it), padded with zeros, the rest nothing."""
    n, c, height, width = x.shape[-4:]
    rows = torch.empty((groups, n * height * width, total), dtype=dtype, device=x.device)
    part = rows[:, :, :channels].view(groups, n, height, width, channels)
    part[..., :c].copy_(x.movedim(-3, -1))
    part[..., c:].zero_()
    return rows


def _pictures(rows: Tensor, channels: int, shape: Sequence[int]) -> list[Tensor]:
    """(G, P, padded) -> G views (N, channels, H, W), channels-last."""
    n, _, height, width = shape
    return [part.view(n, height, width, -1)[..., :channels].movedim(-1, 1) for part in rows]


@dataclass(frozen=True)
class DenseWeights:
    """Dense blocks of one shape that read the same input, packed for inference."""

    layout: DenseLayout
    packed: Tensor
    biases: Tensor
    result: torch.dtype
    slope: float = SLOPE

    @classmethod
    def pack(
        cls, blocks: Sequence[Block], dtype: torch.dtype, slope: float = SLOPE, *, result: torch.dtype | None = None
    ) -> DenseWeights:
        """For convolutions in `dtype`, whose sums are in float32 and are given in `result` (None: in `dtype`, too).

        Raises ValueError naming a block that does not fit.
        """
        layout = _layout(blocks)
        index = maps_on(layout, blocks[0][0].device)[0]
        return cls(layout, _flat(blocks, dtype)[:, index], _biases(layout, blocks), result or dtype, slope)

    def __call__(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) of any dtype and layout -> a (N, out, H, W) per block, channels-last, in `result`."""
        _check(x, self.layout)
        rows = _rows(x, self.layout.entry, self.layout.features, len(self.packed), self.packed.dtype)
        y = rows.new_empty((len(rows), 0, self.layout.exit), dtype=self.result)
        if rows.numel():
            run = kernel("dense_block").forward
            y = run(self.layout, rows, self.packed, self.biases, x.shape[2:], self.slope, self.result)
        return _pictures(y, self.layout.out, x.shape)


def _input_gradient(dx: Tensor | None, layout: DenseLayout, shape: Sequence[int], dtype: torch.dtype) -> Tensor | None:
    """(G, P, layout.entry), or None -> their sum over the blocks, (N, C, H, W) in `dtype`."""
    if dx is None:
        return None
    whole = dx[0] if len(dx) == 1 else dx.sum(0, dtype=torch.float32)
    (picture,) = _pictures(whole[None], layout.channels, shape)
    return picture.to(dtype)


class _DenseBlocks(torch.autograd.Function):
    """x, dtype, slope, number of blocks, and the ten parameters of each -> the results of all."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dtype: torch.dtype, slope: float, groups: int, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        blocks = [parameters[2 * LAYERS * g : 2 * LAYERS * (g + 1)] for g in range(groups)]
        layout = _layout(blocks)
        flat = _flat(blocks, dtype)
        index, _, _, _ = maps_on(layout, x.device)
        rows = _rows(x, layout.entry, layout.features, groups, dtype)
        run = kernel("dense_block").forward
        y = run(layout, rows, flat[:, index], _biases(layout, blocks), x.shape[2:], slope)
        ctx.save_for_backward(rows, flat)
        ctx.layout, ctx.slope, ctx.shape, ctx.dtype = layout, slope, x.shape, x.dtype
        ctx.kinds = [p.dtype for p in parameters]
        return tuple(_pictures(y, layout.out, x.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, flat = ctx.saved_tensors
        layout: DenseLayout = ctx.layout
        groups = len(rows)
        _, index, back, bias_map = maps_on(layout, rows.device)
        into, learning = ctx.needs_input_grad[0], any(ctx.needs_input_grad[4:])
        later = _rows(torch.stack(grads), layout.exit, layout.gradients, groups, rows.dtype)
        dx, weights, biases = kernel("dense_block").backward(
            layout, rows, later, flat[:, index], ctx.shape[2:], ctx.slope, into=into, learning=learning
        )
        dx = _input_gradient(dx, layout, ctx.shape, ctx.dtype)
        found: list[Tensor | None] = [None] * (2 * LAYERS * groups)
        if learning:
            sizes = [o * i * 9 for o, i, _, _ in layout.shapes]
            outs = [shape[0] for shape in layout.shapes]
            for g in range(groups):
                parts = [
                    *(w.view(shape) for w, shape in zip(weights[g][back].split(sizes), layout.shapes, strict=True)),
                    *biases[g][bias_map].split(outs),
                ]
                found[2 * LAYERS * g : 2 * LAYERS * (g + 1)] = parts
            found = [None if p is None else p.to(kind) for p, kind in zip(found, ctx.kinds, strict=True)]
        return (dx, None, None, None, *found)


def dense_blocks(
    x: Tensor, blocks: Sequence[Block], slope: float = SLOPE, *, dtype: torch.dtype | None = None
) -> tuple[Tensor, ...]:
    """Dense blocks of one shape that read the same x (N, C, H, W): a (N, out, H, W) each; `reference.dense_block`.

    Convolutions in `dtype` (None: that of the weights) with sums in float32, which the results have too. On Triton
    features are a multiple of 16 channels. Raises ValueError naming an argument that does not fit.
    """
    layout = _layout(blocks)
    _check(x, layout)
    dtype = dtype or blocks[0][0].dtype
    if use_triton(x) and x.numel():
        parameters = [p for block in blocks for p in block]
        found: tuple[Tensor, ...] = _DenseBlocks.apply(x, dtype, slope, len(blocks), *parameters)  # type: ignore[no-untyped-call]
        return found
    low = [[p.to(dtype) for p in block] for block in blocks]
    return tuple(reference.dense_block(x.to(dtype), b[:LAYERS], b[LAYERS:], slope) for b in low)
