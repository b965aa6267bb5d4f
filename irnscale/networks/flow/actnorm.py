"""Activation normalisation that starts from data: in the trunk of a flow, and inside its subnets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from irnscale.freia import SameShape
from irnscale.networks.haar import Shape

EPSILON = 1e-6
"""Added to a standard deviation: a constant channel is scaled by a million, not by infinity."""


class ChannelNorm(nn.Module):
    """bias and log_scale of y = (x + bias) exp(log_scale) per channel; zeros until `initialise`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Give this batch (N, C, H, W) zero mean and unit (biased) variance per channel."""
        set_statistics(x, self.bias, self.log_scale)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) in and out."""
        return (x + self.bias.view(1, -1, 1, 1)) * self.log_scale.exp().view(1, -1, 1, 1)


class ActNorm(SameShape):
    """y = (x + bias) exp(log_scale) per channel, (N, C) or (N, C, H, W) <-> the same; log-determinant
    H W sum(log_scale).

    An untrained one is the identity; `initialise` makes bias = -mean and log_scale = -log(std + 1e-6) of a batch.
    Source: Kingma and Dhariwal 2018, section 3.1; constants of SRFlow's code. FrEIA 0.2's becomes infinite on a
    constant channel and counts pixels of the size that it was built for; IRN's `pointwise.ActNorm` leaves an image in
    the first channels as it is and has a spread that it does not go below.
    """

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = ()) -> None:
        super().__init__(dims_in, dims_c)
        channels = dims_in[0][0]
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    @torch.no_grad()
    def initialise(self, x: Tensor, c: Sequence[Tensor] = ()) -> None:
        """Set bias and scale from a batch (N, C, H, W)."""
        set_statistics(x, self.bias, self.log_scale)

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor | float]:
        """Transform `x[0]`; returns ((result,), log-determinant per sample (N,), or 0.0 without `jac`)."""
        (x0,) = x
        shape = (1, -1, *(1 for _ in x0.shape[2:]))
        bias, log_scale = (p.to(x0.dtype).view(shape) for p in (self.bias, self.log_scale))
        y = x0 * (-log_scale).exp() - bias if rev else (x0 + bias) * log_scale.exp()
        if not jac:
            return (y,), 0.0
        log_det = log_scale.sum() * x0.shape[2:].numel()
        return (y,), (-log_det if rev else log_det).expand(x0.shape[0])


def set_statistics(x: Tensor, bias: Tensor, log_scale: Tensor) -> None:
    """bias = -mean, log_scale = -log(std + 1e-6) of each channel of (N, C, H, W), in place."""
    values = x.transpose(0, 1).flatten(1).double()
    bias.copy_(-values.mean(1))
    log_scale.copy_(-(values.std(1, unbiased=False) + EPSILON).log())
