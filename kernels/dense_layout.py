"""Where the weights, features and gradients of a dense block lie for the Triton kernels; plain torch.

One channels-last buffer per group holds, at each position, the input padded to a multiple of 16 channels and then
the features; another holds the gradients of the layers' outputs, the last layer's first. A block's weights are one
flat vector (layer, out, in, ky, kx), the way the parameters are stored; index maps take it to either direction's
packed layout, in which the three taps of a row lie beside one another, and gradients back.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

LAYERS = 5
MULTIPLE = 16
"""Channels of a matrix product's step, and at least of its result."""


def padded(channels: int) -> int:
    """The next multiple of MULTIPLE."""
    return -(-channels // MULTIPLE) * MULTIPLE


@dataclass(frozen=True)
class DenseLayout:
    """A dense block of `channels` -> `out` channels with features of `growth` channels each, a multiple of 16."""

    channels: int
    out: int
    growth: int

    @property
    def entry(self) -> int:
        """Channels of the padded input."""
        return padded(self.channels)

    @property
    def exit(self) -> int:
        """Channels of the padded output."""
        return padded(self.out)

    @property
    def features(self) -> int:
        """Channels per position of the buffer of input and features."""
        return self.entry + (LAYERS - 1) * self.growth

    @property
    def gradients(self) -> int:
        """Channels per position of the buffer of the layers' gradients."""
        return self.exit + (LAYERS - 1) * self.growth

    @property
    def biases(self) -> int:
        """Length of the packed biases: those of the layers in order, the last padded."""
        return self.gradients

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        """Padded input channels of each layer."""
        return tuple(self.entry + k * self.growth for k in range(LAYERS))

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        """Padded output channels of each layer."""
        return (self.growth,) * (LAYERS - 1) + (self.exit,)

    @cached_property
    def sources(self) -> tuple[int, ...]:
        """Padded channels of each source: the input, then the features."""
        return (self.entry,) + (self.growth,) * (LAYERS - 1)

    @cached_property
    def later(self) -> tuple[int, ...]:
        """Channels of gradients of all layers that read each source: the first so many of their buffer."""
        return tuple(self.exit + (LAYERS - 1 - j) * self.growth for j in range(LAYERS))

    def source(self, j: int) -> int:
        """First channel of source j in the buffer of features."""
        return 0 if j == 0 else self.entry + (j - 1) * self.growth

    def gradient(self, k: int) -> int:
        """First channel of layer k's gradient in the buffer of gradients."""
        return 0 if k == LAYERS - 1 else self.exit + (LAYERS - 2 - k) * self.growth

    @cached_property
    def forward_starts(self) -> tuple[int, ...]:
        """Where each layer begins in the packed weights (ky, in, kx, out), and their length."""
        return _starts([9 * i * o for i, o in zip(self.inputs, self.outputs, strict=True)])

    @cached_property
    def backward_starts(self) -> tuple[int, ...]:
        """Where each source begins in the packed weights (ky, later, kx, channel), flipped, and their length.

        Gradients by the weights are (ky, channel, kx, later) at the same places, not flipped.
        """
        return _starts([9 * n * c for n, c in zip(self.later, self.sources, strict=True)])

    @cached_property
    def shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Shapes (out, in, 3, 3) of the five weights, in order."""
        outs = (self.growth,) * (LAYERS - 1) + (self.out,)
        return tuple((o, self.channels + k * self.growth, 3, 3) for k, o in enumerate(outs))

    @cached_property
    def weights(self) -> int:
        """Length of the flat weights."""
        return sum(o * i * 9 for o, i, _, _ in self.shapes)

    @cached_property
    def maps(self) -> tuple[Tensor, Tensor, Tensor]:
        """Indices (forward, backward, gradients), int64 on the CPU.

        The first two take the flat weights with a zero behind them to the packed ones of either direction; the
        third takes the packed gradients to the flat order.
        """
        forward = torch.full((self.forward_starts[-1],), self.weights)
        backward = torch.full((self.backward_starts[-1],), self.weights)
        gradients = torch.empty(self.weights, dtype=torch.int64)
        sources, later = torch.tensor(self.sources), torch.tensor(self.later)
        starts, begin = torch.tensor(self.backward_starts[:-1]), 0
        for k, shape in enumerate(self.shapes):
            o, i, ky, kx = torch.meshgrid(*(torch.arange(size) for size in shape), indexing="ij")
            flat = begin + torch.arange(o.numel()).view(shape)
            begin += o.numel()
            feature = i - self.channels
            place = torch.where(feature < 0, i, self.entry + feature)
            at = self.forward_starts[k] + ((ky * self.inputs[k] + place) * 3 + kx) * self.outputs[k] + o
            forward[at.flatten()] = flat.flatten()
            j = torch.where(feature < 0, 0, feature.div(self.growth, rounding_mode="floor") + 1)
            c = torch.where(feature < 0, i, feature % self.growth)
            reader = self.gradient(k) + o
            at = starts[j] + (((2 - ky) * later[j] + reader) * 3 + (2 - kx)) * sources[j] + c
            backward[at.flatten()] = flat.flatten()
            at = starts[j] + ((ky * sources[j] + c) * 3 + kx) * later[j] + reader
            gradients[flat.flatten()] = at.flatten()
        return forward, backward, gradients

    @cached_property
    def bias_map(self) -> Tensor:
        """Where each bias, in the order of the parameters, stands in sums over the buffer of gradients."""
        outs = [shape[0] for shape in self.shapes]
        return torch.cat([self.gradient(k) + torch.arange(n) for k, n in enumerate(outs)])


def _starts(sizes: list[int]) -> tuple[int, ...]:
    return tuple(sum(sizes[:k]) for k in range(len(sizes) + 1))


@lru_cache(maxsize=64)
def layout_of(channels: int, out: int, growth: int) -> DenseLayout:
    """The one layout of these sizes, whose maps are computed once."""
    return DenseLayout(channels, out, growth)


@lru_cache(maxsize=64)
def maps_on(layout: DenseLayout, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`maps` and `bias_map` on a device."""
    forward, backward, gradients = layout.maps
    return forward.to(device), backward.to(device), gradients.to(device), layout.bias_map.to(device)
