"""Dense blocks on the CPU, arranged for oneDNN: no work in the halo that is not needed, and nothing wasted on padding.

- Each convolution gives only what the later ones still need: one row and column less of the halo on each side,
  but at the image's border, where zeros are padded.
- LeakyReLU is part of the convolution, where torch offers that (it is what its own compiler uses).
- Vector units compute 16 output channels at a time. The last convolution of p has 3, so its three columns of
  weights are laid side by side as 9 channels of a 3 x 1 convolution, and the results are added, shifted: a third of
  the work.
- It is one of float32 whatever the others are, see `engine.precision`.
- s and t read the same x, so that their first convolutions are one.
- A block whose last convolution has zero weights gives its bias and is not run: many a trained s is a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irnscale.engine.precision import result_of
from irnscale.engine.subnets import Border, Results, as_dense
from irnscale.networks import DenseBlock
from irnscale.networks.dense_block import SLOPE

LANES = 16
Sides = tuple[int, int, int, int]
"""Top, bottom, left, right."""


@cache
def has_fused_convolution(dtype: torch.dtype) -> bool:
    """Whether torch has oneDNN's convolution with an activation in it for this dtype, and it computes just that."""
    try:
        operation = torch.ops.mkldnn._convolution_pointwise
        x, weight = torch.randn(1, 3, 5, 5).to(dtype), torch.randn(4, 3, 3, 3).to(dtype)
        y = operation(x, weight, None, [1, 1], [1, 1], [1, 1], 1, "leaky_relu", [SLOPE], "")
        wanted = F.leaky_relu(F.conv2d(x, weight, padding=1), SLOPE)
    except (AttributeError, RuntimeError):
        return False
    return bool(torch.allclose(y.float(), wanted.float(), atol=0.1, rtol=0.02))


def convolve(x: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, int], activate: bool) -> Tensor:
    """A convolution, and LeakyReLU if asked for."""
    if activate and has_fused_convolution(x.dtype):
        y: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, bias, list(padding), [1, 1], [1, 1], 1, "leaky_relu", [SLOPE], ""
        )
        return y
    y = F.conv2d(x, weight, bias, padding=padding)
    return F.leaky_relu_(y, SLOPE) if activate else y


def reach(border: Border, layer: int) -> Sides:
    """How far beyond the target the result of this layer (0: the source) is needed."""
    left = DenseBlock.support - layer
    return tuple(min(side, left) for side in border)  # type: ignore[return-value]


def crop(x: Tensor, have: Sides, want: Sides) -> Tensor:
    """`x`, which reaches as far as `have`, as far as `want`."""
    top, bottom, left, right = (a - b for a, b in zip(have, want, strict=True))
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


class PackedBlock:
    """The weights of a dense block in the layout and dtype of the convolutions."""

    def __init__(self, block: DenseBlock, dtype: torch.dtype) -> None:
        self.constant = block if block.is_constant else None
        self.weights = [
            conv.weight.detach().to(dtype, memory_format=torch.channels_last) for conv in block.convolutions
        ]
        self.biases = [conv.bias.detach().to(dtype) for conv in block.convolutions if conv.bias is not None]
        self.out_channels = out = block.out_channels
        self.by_columns = 3 * out <= LANES  # with more channels the additions cost what the convolution saves
        if self.by_columns:
            last = result_of(out, dtype)
            weight, bias = block.conv5.weight.detach().to(last), block.parameter_list[9].detach().to(last)
            columns = [weight[:, :, :, k : k + 1] for k in range(3)]
            self.weights[4] = torch.cat(columns).contiguous(memory_format=torch.channels_last)
            none = torch.zeros_like(bias)
            self.biases[4] = torch.cat((none, bias, none))

    def rest(self, features: Sequence[Tensor], border: Border) -> Tensor:
        """The result on the target, from the source in the dtype of the weights and the first feature."""
        found = list(features)
        for layer in range(len(found), 6):
            have, want = reach(border, layer - 1), reach(border, layer)
            sources = [crop(f, reach(border, k), have) for k, f in enumerate(found)]
            source = torch.cat(sources, dim=1)
            if layer == 5:
                return self._last(source, have)
            found.append(layer_of(source, self.weights[layer - 1], self.biases[layer - 1], have, want))
        raise AssertionError("a dense block has five convolutions")

    def __call__(self, source: Tensor, border: Border) -> Tensor:
        """(N, C, h + halo, w + halo) of any dtype -> (N, C', h, w)."""
        if self.constant is not None:
            height, width = border.crop(source).shape[2:]
            return self.constant.constant(source.shape[0], height, width, self.weights[4].dtype)
        x = source.to(self.weights[0].dtype, memory_format=torch.channels_last)
        first = layer_of(x, self.weights[0], self.biases[0], reach(border, 0), reach(border, 1))
        return self.rest((x, first), border)

    def _last(self, source: Tensor, have: Sides) -> Tensor:
        """The fifth convolution, on the target."""
        none = (0, 0, 0, 0)
        if not self.by_columns:
            return layer_of(source, self.weights[4], self.biases[4], have, none, activate=False)
        rows = (*have[:2], 0, 0)
        source = source.to(self.weights[4].dtype, memory_format=torch.channels_last)
        y = layer_of(source, self.weights[4], self.biases[4], rows, none, activate=False)
        out, (left, right) = self.out_channels, have[2:]
        width = y.shape[3] - left - right
        result = y[:, out : 2 * out, :, left : left + width].clone()
        # column x takes its neighbours' products from x - 1 and x + 1; beyond the image's border there are none
        result[..., 1 - left :].add_(y[:, :out, :, : width - 1 + left])
        result[..., : width - 1 + right].add_(y[:, 2 * out :, :, left + 1 : left + width + right])
        return result


def layer_of(source: Tensor, weight: Tensor, bias: Tensor, have: Sides, want: Sides, activate: bool = True) -> Tensor:
    """One convolution from a source that reaches as far as `have` to a result that reaches as far as `want`.

    Where both reach equally far is the image's border, and zeros are padded. oneDNN pads both sides alike; the surplus
    is cropped.
    """
    short = [int(a == b) for a, b in zip(have, want, strict=True)]
    if weight.shape[3] == 1:
        short[2:] = 0, 0
    padding = max(short[:2]), max(short[2:])
    y = convolve(source, weight, bias, padding, activate)
    extra = [pad - own for pad, own in zip((padding[0],) * 2 + (padding[1],) * 2, short, strict=True)]
    return crop(y, (extra[0], extra[1], extra[2], extra[3]), (0, 0, 0, 0)) if any(extra) else y


class PackedSubnets:
    """Dense blocks that read the same x as `engine.subnets.Subnets`."""

    def __init__(self, blocks: Sequence[DenseBlock], dtype: torch.dtype) -> None:
        self._blocks = [PackedBlock(block, dtype) for block in blocks]
        self._apart = len(blocks) == 1 or any(block.constant is not None for block in self._blocks)
        first = torch.cat([block.weights[0] for block in self._blocks])
        self._first = first.contiguous(memory_format=torch.channels_last)
        self._bias = torch.cat([block.biases[0] for block in self._blocks])

    def __call__(self, source: Tensor, border: Border) -> Results:
        """See `Subnets`."""
        if self._apart:
            return tuple(block(source, border) for block in self._blocks)
        x = source.to(self._first.dtype, memory_format=torch.channels_last)
        all_first = layer_of(x, self._first, self._bias, reach(border, 0), reach(border, 1))
        firsts = torch.split(all_first, [block.weights[0].shape[0] for block in self._blocks], dim=1)
        return tuple(block.rest((x, first), border) for block, first in zip(self._blocks, firsts, strict=True))


def packs(modules: Sequence[nn.Module], dtype: torch.dtype) -> bool:
    """Whether these subnets can be run by `PackedSubnets`."""
    on_cpu = all(w.device.type == "cpu" for net in modules for w in net.parameters())
    return on_cpu and dtype in (torch.float32, torch.bfloat16) and bool(as_dense(modules))
