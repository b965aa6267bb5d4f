"""The dense blocks of a network in training: packed for both directions once per step, gradients unpacked once.

A step runs every block twice and differentiates it twice. All parameters being one vector, a few `index_select` take it
to the layout of all blocks and both directions, and one takes the gradients of all back; nothing is done per block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from irnscale.kernels.dense import SLOPE, Block, _check, _input_gradient, _layout, _pictures, _rows
from irnscale.kernels.dense_layout import LAYERS, DenseLayout
from irnscale.kernels.dispatch import kernel


class PackedGroup:
    """Dense blocks of one shape that read the same input, among those of a `DensePacking`."""

    def __init__(self, layout: DenseLayout, forward: Tensor, backward: Tensor, biases: Tensor) -> None:
        self.layout = layout
        self.forward, self.backward, self.biases = forward, backward, biases
        """Weights for either direction, (G, n) in the dtype of the convolutions, and biases (G, layout.biases)."""
        self.leaves: tuple[Tensor, Tensor]
        """Stand for weights and biases in autograd, laid out as gradients are. Their values are never read."""

    def __call__(self, x: Tensor, slope: float = SLOPE) -> tuple[Tensor, ...]:
        """(N, C, H, W) -> a (N, out, H, W) per block in the dtype of the convolutions, see `kernels.dense_blocks`."""
        _check(x, self.layout)
        found: tuple[Tensor, ...] = _Packed.apply(x, *self.leaves, self, slope)  # type: ignore[no-untyped-call]
        return found


class DensePacking:
    """Some dense blocks whose parameters are views of the vector `values`, in groups as they run; gradients go to
    `grads`, laid out like it.

    Call `pack` before a step and `unpack` after its backward passes; in between the groups compute with what the values
    were. Raises ValueError where a parameter is no view of `values`.
    """

    def __init__(self, values: Tensor, grads: Tensor, groups: Sequence[Sequence[Block]], dtype: torch.dtype) -> None:
        self._values, self._grads, self.dtype = values, grads, dtype
        forward: list[Tensor] = []
        backward: list[Tensor] = []
        biases: list[Tensor] = []
        layouts = [(_layout(blocks), len(blocks)) for blocks in groups]
        sizes = [(count * layout.forward_starts[-1], count * layout.gradients) for layout, count in layouts]
        whole = sum(weights + sums for weights, sums in sizes)
        self._gradients = torch.zeros(whole + 1, device=values.device)  # the last is nobody's, and stays zero
        back = torch.full((len(values),), whole)
        begin = 0
        for (layout, _), blocks in zip(layouts, groups, strict=True):
            to_forward, to_backward, from_gradients = layout.maps
            weight_places = [_places(values, block[:LAYERS]) for block in blocks]
            bias_places = [_places(values, block[LAYERS:]) for block in blocks]
            for places in weight_places:
                padded = F.pad(places, (0, 1), value=len(values))
                forward.append(padded[to_forward])
                backward.append(padded[to_backward])
                back[places] = begin + from_gradients
                begin += layout.backward_starts[-1]
            for places in bias_places:
                biases.append(F.pad(places, (0, layout.exit - layout.out), value=len(values)))
                back[places] = begin + layout.bias_map
                begin += layout.gradients
        parts = [torch.cat(part) for part in (forward, backward, biases)]
        self._indices = [index.to(values.device, torch.int32) for index in parts]
        self._back = back.to(values.device, torch.int32)
        kinds = (dtype, dtype, torch.float32)
        self._packed = [
            torch.empty(len(index), dtype=kind, device=values.device) for index, kind in zip(parts, kinds, strict=True)
        ]
        self.groups = self._cut(layouts, sizes)

    def _cut(self, layouts: list[tuple[DenseLayout, int]], sizes: list[tuple[int, int]]) -> list[PackedGroup]:
        """The groups, as views of what is packed and of the gradients."""
        lengths = [weights for weights, _ in sizes], [count * layout.biases for layout, count in layouts]
        forward, backward = (torch.split(packed, lengths[0]) for packed in self._packed[:2])
        biases = torch.split(self._packed[2], lengths[1])
        found, begin = [], 0
        for k, ((layout, count), (weights, sums)) in enumerate(zip(layouts, sizes, strict=True)):
            group = PackedGroup(layout, *(part[k].view(count, -1) for part in (forward, backward, biases)))
            leaves = []
            for size in (weights, sums):
                grad = self._gradients[begin : begin + size].view(count, -1)
                leaf = torch.zeros((), device=grad.device).expand(grad.shape).requires_grad_()
                leaf.grad = grad
                leaves.append(leaf)
                begin += size
            group.leaves = leaves[0], leaves[1]
            found.append(group)
        return found

    @torch.no_grad()
    def pack(self) -> None:
        """Take over the values as they are now, and forget all gradients."""
        padded = F.pad(self._values, (0, 1))
        low = padded.to(self.dtype)
        for source, index, packed in zip((low, low, padded), self._indices, self._packed, strict=True):
            torch.index_select(source, 0, index, out=packed)
        self._gradients.zero_()

    @torch.no_grad()
    def unpack(self) -> None:
        """Add the gradients since `pack` to those of the vector."""
        self._grads.add_(torch.index_select(self._gradients, 0, self._back))


def _places(values: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Where the elements of parameters lie in `values`, int64 on the CPU."""
    found = []
    for p in parameters:
        if p.untyped_storage().data_ptr() != values.untyped_storage().data_ptr() or not p.is_contiguous():
            raise ValueError("parameters must be views of values")
        start = int(p.storage_offset() - values.storage_offset())
        found.append(torch.arange(start, start + p.numel()))
    return torch.cat(found)


class _Packed(torch.autograd.Function):
    """x, the leaves of a group, the group and LeakyReLU's slope -> the results of its blocks."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weights: Tensor, biases: Tensor, group: PackedGroup, slope: float
    ) -> tuple[Tensor, ...]:
        layout = group.layout
        rows = _rows(x, layout.entry, layout.features, len(group.forward), group.forward.dtype)
        y = kernel("dense_block").forward(layout, rows, group.forward, group.biases, x.shape[2:], slope)
        ctx.save_for_backward(rows)
        ctx.group, ctx.slope, ctx.shape, ctx.dtype = group, slope, x.shape, x.dtype
        return tuple(_pictures(y, layout.out, x.shape))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (rows,) = ctx.saved_tensors
        group: PackedGroup = ctx.group
        layout = group.layout
        later = _rows(torch.stack(grads), layout.exit, layout.gradients, len(rows), rows.dtype)
        into, *learning = ctx.needs_input_grad[:3]
        dx, weights, biases = kernel("dense_block").backward(
            layout, rows, later, group.backward, ctx.shape[2:], ctx.slope, into=into, learning=any(learning)
        )
        return _input_gradient(dx, layout, ctx.shape, ctx.dtype), weights, biases, None, None
