"""Invertible modules without spatial context: activation normalisation and a change of channel order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from irnscale.networks.haar import Shape
from irnscale.networks.step import Layer

SMALLEST_SPREAD = 1e-3
"""A standard deviation that normalisation does not go below: a quarter of a grey level."""


class ActNorm(Layer):
    """y = (x + bias) exp(log_scale) per channel; (N, C, H, W) <-> (N, C, H, W), any H and W.

    An untrained one is the identity. `initialise` gives a batch zero mean and unit variance per channel, as in
    the dissertation's equations 3.1 and 3.2 (Kingma and Dhariwal 2018, section 3.1), except in the first `keep`
    channels, which hold an image in [0, 1]. FrEIA 0.2's has no such exception, becomes infinite on a constant
    channel and counts pixels of the size it was built for.
    """

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = (), *, keep: int = 0) -> None:
        super().__init__(dims_in, dims_c)
        channels = dims_in[0][0]
        self.keep = keep
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set bias and scale from a batch (N, C, H, W)."""
        values = x.transpose(0, 1).flatten(1)[self.keep :]
        std = values.std(1, unbiased=False).clamp(min=SMALLEST_SPREAD)
        self.bias[self.keep :] = -values.mean(1)
        self.log_scale[self.keep :] = -std.log()

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """Transform `x[0]`; returns ((result,), log-determinant per sample (N,))."""
        (x0,) = x
        bias, log_scale = (p.to(x0.dtype).view(1, -1, 1, 1) for p in (self.bias, self.log_scale))
        result = x0 * (-log_scale).exp() - bias if rev else (x0 + bias) * log_scale.exp()
        log_det = log_scale.sum() * (x0.shape[2] * x0.shape[3])
        return (result,), (-log_det if rev else log_det).expand(x0.shape[0])


class ChannelRotation(Layer):
    """Channel k becomes channel k + `by`, cyclically: a permutation without weights, (N, C, H, W) <-> the same."""

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = (), *, by: int = 1) -> None:
        super().__init__(dims_in, dims_c)
        self.by = by

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """Permute `x[0]`; returns ((result,), zeros (N,))."""
        (x0,) = x
        return (x0.roll(-self.by if rev else self.by, dims=1),), x0.new_zeros(x0.shape[0])
