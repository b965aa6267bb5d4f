"""The convolutional subnets of a flow's affine layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irnscale.networks.flow.actnorm import ChannelNorm

GAIN = 3.0
"""Factor of `ZeroConv.log_gain`, which lets it learn that much faster than the weights."""


class ZeroConv(nn.Module):
    """(3 x 3 convolution + bias) exp(3 log_gain), all zero at first. Source: Kingma and Dhariwal 2018's code.

    (N, inputs, H, W) -> (N, outputs, H, W), zero padding of 1.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.log_gain = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W), in the dtype of x."""
        gain = (GAIN * self.log_gain).exp()
        weight, bias = self.weight * gain.view(-1, 1, 1, 1), self.bias * gain
        return F.conv2d(x, weight.to(x.dtype), bias.to(x.dtype), padding=1)


class Subnet(nn.Module):
    """3 x 3 convolution, normalisation, ReLU, 1 x 1 convolution, normalisation, ReLU, `ZeroConv`.

    x (N, inputs, H, W), which is None where `inputs` is 0, and a condition (N or 1, condition, H, W), None where that
    is 0 -> (N, outputs, H, W). The first convolution reads both, x first, as the sum of two, so that a condition that
    several samples share is convolved once. The convolutions have no bias, the normalisations theirs; weights are at
    first N(0, 0.05^2). Source: SRFlow's code.

    `compute_dtype` is the precision of the convolutions (None: that of the weights); the result has the dtype of the
    input. Forward and inverse see inputs that differ by rounding, which less precision makes worse.
    """

    support = 2
    """Pixels on each side that one output pixel depends on."""

    def __init__(self, inputs: int, condition: int, outputs: int, hidden: int) -> None:
        super().__init__()
        self.inputs, self.condition = inputs, condition
        self.compute_dtype: torch.dtype | None = None
        self.conv1 = nn.Conv2d(inputs + condition, hidden, 3, padding=1, bias=False)
        self.norm1 = ChannelNorm(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 1, bias=False)
        self.norm2 = ChannelNorm(hidden)
        self.conv3 = ZeroConv(hidden, outputs)
        for conv in (self.conv1, self.conv2):
            nn.init.normal_(conv.weight, std=0.05)

    def forward(self, x: Tensor | None, condition: Tensor | None = None) -> Tensor:
        """Run it; see the class."""
        given = self._given(x, condition)
        dtype = self.compute_dtype or self.conv1.weight.dtype
        # Normalisation is part of the weights here: (conv(x) + b) exp(s) is a convolution with a bias.
        h = F.relu(self._first(x, condition, *_folded(self.conv1, self.norm1, dtype)))
        weight, bias = _folded(self.conv2, self.norm2, dtype)
        h = F.relu(F.conv2d(h, weight, bias))
        result: Tensor = self.conv3(h)
        return result.to(given.dtype)

    @torch.no_grad()
    def initialise(self, x: Tensor | None, condition: Tensor | None = None) -> None:
        """Give the normalisations the statistics that this input has there."""
        dtype = self.conv1.weight.dtype
        h = self._first(x, condition, self.conv1.weight, torch.zeros_like(self.norm1.bias))
        self.norm1.initialise(h)
        h = self.conv2(F.relu(self.norm1(h.to(dtype))))
        self.norm2.initialise(h)

    def _given(self, x: Tensor | None, condition: Tensor | None) -> Tensor:
        if (x is None) != (not self.inputs) or (condition is None) != (not self.condition):
            raise ValueError(f"this subnet reads {self.inputs} channels and a condition of {self.condition}")
        given = condition if x is None else x
        assert given is not None
        return given

    def _first(self, x: Tensor | None, condition: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
        parts: list[Tensor] = []
        start = 0
        for source in (x, condition):
            if source is not None:
                part = weight[:, start : start + source.shape[1]]
                laid = source.to(weight.dtype, memory_format=torch.channels_last)
                parts.append(F.conv2d(laid, part, bias if not parts else None, padding=1))
                start += source.shape[1]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _folded(conv: nn.Conv2d, norm: ChannelNorm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the normalisation after it."""
    scale = norm.log_scale.exp()
    return (conv.weight * scale.view(-1, 1, 1, 1)).to(dtype), (norm.bias * scale).to(dtype)
