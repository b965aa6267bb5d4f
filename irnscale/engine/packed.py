"""Dense blocks on the CPU, arranged for oneDNN: no work in the halo that is not needed, and nothing wasted on padding.

- Each convolution gives only the rows that the later ones still need: one less of the halo at the top and the bottom,
  but at the image's border, where zeros are padded. Columns beside the tile stay, and become wrong one by one from
  outside: without them, a feature would not be one piece of memory, and concatenations take four times as long.
- LeakyReLU is part of the convolution, where torch offers that (it is what its own compiler uses).
- Vector units compute 16 output channels at a time. The last convolution of p has 3, so its three columns of
  weights are laid side by side as 9 channels of a 3 x 1 convolution, and the results are added, shifted: a third of
  the work.
- Its result is one of float32 whatever the convolutions are, see `engine.precision`: in bfloat16, what rounding took
  is computed by the same convolution once more, see `convolve_finely`.
- A block whose last convolution has zero weights gives its bias and is not run: many a trained s is a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irnscale.engine.precision import result_of
from irnscale.engine.subnets import Border, Results, as_dense
from irnscale.networks import DenseBlock
from irnscale.networks.dense_block import SLOPE
from irnscale.networks.widening import missing_channels, widen

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


@cache
def has_adding_convolution() -> bool:
    """Whether torch has oneDNN's convolution that is added to what is there, and rounds to bfloat16 only after that.

    In channels-last; contiguous, it rounds before.
    """
    try:
        draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
        laid = partial(torch.Tensor.to, dtype=torch.bfloat16, memory_format=torch.channels_last)
        x, weight = laid(draw(1, 32, 5, 5)), laid(draw(9, 32, 3, 1))
        wanted = F.conv2d(x.float(), weight.float())
        got = _finely(x, weight, (0, 0))
    except (AttributeError, RuntimeError):
        return False
    return bool(torch.allclose(got, wanted, atol=1e-3, rtol=1e-4))


def _finely(x: Tensor, weight: Tensor, padding: tuple[int, int]) -> Tensor:
    rounded = F.conv2d(x, weight, padding=padding)
    rest = rounded.neg()
    torch.ops.mkldnn._convolution_pointwise_.binary(
        rest, x, weight, None, list(padding), [1, 1], [1, 1], 1, "add", 1.0, None, [], None
    )
    return rounded.float().add_(rest)


def convolve_finely(x: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, int]) -> Tensor:
    """A convolution with a result in float32, of bfloat16 or float32; `bias` is in float32.

    torch gives results in the dtype of the operands alone. The sums are of float32 inside, though: the same sums less
    the rounded ones are what rounding took, which has 8 bits of its own. Where a processor has AMX, that is a tenth of
    the time of the convolution in float32.
    """
    if weight.dtype == torch.bfloat16 and has_adding_convolution():
        return _finely(x, weight, padding).add_(bias.view(1, -1, 1, 1))
    x = x.to(torch.float32, memory_format=torch.channels_last)
    return F.conv2d(x, weight.float(), bias, padding=padding)


def reach(border: Border, layer: int) -> Sides:
    """How far beyond the target the result of this layer (0: the source) goes; rows only as far as they are needed."""
    top, bottom = (min(side, DenseBlock.support - layer) for side in border[:2])
    return top, bottom, border.left, border.right


def crop(x: Tensor, have: Sides, want: Sides) -> Tensor:
    """`x`, which reaches as far as `have`, as far as `want`."""
    top, bottom, left, right = (a - b for a, b in zip(have, want, strict=True))
    return x[:, :, top : x.shape[2] - bottom, left : x.shape[3] - right]


def concatenation(features: Sequence[Tensor], border: Border, have: Sides) -> Tensor:
    """The source and the first features, each as far as `have`."""
    cropped = [crop(feature, reach(border, layer), have) for layer, feature in enumerate(features)]
    return torch.cat(cropped, dim=1) if len(cropped) > 1 else cropped[0]


class PackedBlock:
    """The weights of a dense block in the layout and dtype of the convolutions."""

    def __init__(self, block: DenseBlock, dtype: torch.dtype) -> None:
        self.constant = block if block.is_constant else None
        self.extra = missing_channels(block.in_channels, dtype)
        self.weights = [self._widened(conv.weight.detach(), block.in_channels, dtype) for conv in block.convolutions]
        self.biases = [conv.bias.detach().to(dtype) for conv in block.convolutions if conv.bias is not None]
        self.out_channels = out = block.out_channels
        self.by_columns = 3 * out <= LANES  # with more channels the additions cost what the convolution saves
        if self.by_columns:
            columns = [self.weights[4][:, :, :, k : k + 1] for k in range(3)]
            self.weights[4] = torch.cat(columns).contiguous(memory_format=torch.channels_last)
            bias = block.parameter_list[9].detach().to(result_of(out, dtype))
            none = torch.zeros_like(bias)
            self.biases[4] = torch.cat((none, bias, none))

    def _widened(self, weight: Tensor, source: int, dtype: torch.dtype) -> Tensor:
        """`weight` for a source with `extra` channels more, which it does not read."""
        wide = torch.cat((widen(weight[:, :source], self.extra), weight[:, source:]), dim=1)
        return wide.to(dtype, memory_format=torch.channels_last)

    def __call__(self, source: Tensor, border: Border) -> Tensor:
        """(N, C, h + halo, w + halo) of any dtype -> (N, C', h, w)."""
        if self.constant is not None:
            height, width = border.crop(source).shape[2:]
            return self.constant.constant(source.shape[0], height, width, self.biases[4].dtype)
        features = [widen(source, self.extra).to(self.weights[0].dtype, memory_format=torch.channels_last)]
        for layer in range(1, 5):
            have, want = reach(border, layer - 1), reach(border, layer)
            read = concatenation(features, border, have)
            features.append(layer_of(read, self.weights[layer - 1], self.biases[layer - 1], have, want))
        have = reach(border, 4)
        return self._last(concatenation(features, border, have), have)

    def _last(self, source: Tensor, have: Sides) -> Tensor:
        """The fifth convolution, on the target."""
        left, right = have[2:]
        want = (0, 0, left, right)
        if not self.by_columns:
            y = layer_of(source, self.weights[4], self.biases[4], have, want, activate=False)
            return crop(y, want, (0, 0, 0, 0))
        padding, top, bottom = row_padding(have, want)
        y = convolve_finely(source, self.weights[4], self.biases[4], (padding, 0))
        y = crop(y, (top, bottom, left, right), (0, 0, min(left, 1), min(right, 1)))
        left, right = min(left, 1), min(right, 1)
        out, width = self.out_channels, y.shape[3] - left - right
        result = y[:, out : 2 * out, :, left : left + width].clone()
        # column x takes its neighbours' products from x - 1 and x + 1; beyond the image's border there are none
        result[..., 1 - left :].add_(y[:, :out, :, : width - 1 + left])
        result[..., : width - 1 + right].add_(y[:, 2 * out :, :, left + 1 : left + width + right])
        return result


def row_padding(have: Sides, want: Sides) -> tuple[int, int, int]:
    """Rows of zeros that oneDNN pads above and below, alike, and rows of the result that are too many above and below.

    Where a source reaches no further than its result is the image's border, beyond which there are zeros.
    """
    short = [int(a == b) for a, b in zip(have[:2], want[:2], strict=True)]
    padding = max(short)
    return padding, padding - short[0], padding - short[1]


def layer_of(source: Tensor, weight: Tensor, bias: Tensor, have: Sides, want: Sides, activate: bool = True) -> Tensor:
    """One 3 x 3 convolution from a source that reaches as far as `have` to a result whose rows reach as far as `want`.

    Its columns reach as far as those of the source, with zeros beyond.
    """
    padding, top, bottom = row_padding(have, want)
    y = convolve(source, weight, bias, (padding, 1), activate)
    return y[:, :, top : y.shape[2] - bottom]


class PackedSubnets:
    """Dense blocks that read the same x as `engine.subnets.Subnets`."""

    def __init__(self, blocks: Sequence[DenseBlock], dtype: torch.dtype) -> None:
        self._blocks = [PackedBlock(block, dtype) for block in blocks]

    def __call__(self, source: Tensor, border: Border) -> Results:
        """See `Subnets`."""
        return tuple(block(source, border) for block in self._blocks)


def packs(modules: Sequence[nn.Module], dtype: torch.dtype) -> bool:
    """Whether these subnets can be run by `PackedSubnets`."""
    on_cpu = all(w.device.type == "cpu" for net in modules for w in net.parameters())
    return on_cpu and dtype in (torch.float32, torch.bfloat16) and bool(as_dense(modules))
