"""Activation normalisation with data-dependent initialisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from irnscale.errors import InputError
from irnscale.networks.glow.layer import FlowLayer, per_channel, positions

SMALLEST_SPREAD = 1e-6  # of a channel, beside its mean: below it, float32 rounding is all there is


class ActNorm(FlowLayer):
    """y = (x + bias) scale per channel; the first batch that it sees becomes zero mean and unit variance.

    Afterwards bias and log(scale) are ordinary parameters. log|det dy/dx| = H W sum(log scale). Source: the
    dissertation's equations 3.1 and 3.2; Kingma and Dhariwal 2018, section 3.1. `forward` raises InputError where a
    channel of the first batch is constant; `inverse` raises RuntimeError before there was one.
    """

    initialised: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialised", torch.tensor(False))  # in the state dict, so that loading ends it too

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (y, log|det dy/dx|); the first batch sets bias and scale."""
        if not self.initialised:
            self._initialise(x.detach())
        y = (x + per_channel(self.bias, x)) * per_channel(self.log_scale, x).exp()
        return y, self._log_det(x)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y -> (x, log|det dx/dy|). Raises RuntimeError before there were statistics."""
        if not self.initialised:
            raise RuntimeError("ActNorm has no statistics yet: run a batch forward first, or load weights")
        x = y * (-per_channel(self.log_scale, y)).exp() - per_channel(self.bias, y)
        return x, -self._log_det(y)

    def _log_det(self, x: Tensor) -> Tensor:
        return (positions(x) * self.log_scale.sum()).expand(x.shape[0])

    @torch.no_grad()
    def _initialise(self, x: Tensor) -> None:
        mean, std = channel_statistics(x)
        self.bias.copy_(-mean)
        self.log_scale.copy_(-std.log())
        self.initialised.fill_(True)


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (N - 1) of each channel of (N, C) or (N, C, H, W).

    Raises InputError naming a channel that is constant, or where the batch has one value per channel.
    """
    values = x.transpose(0, 1).flatten(1)
    if values.shape[1] < 2:
        raise InputError("ActNorm: one value per channel has no variance", "give it a larger first batch")
    mean, std = values.mean(1), values.std(1)
    constant = ~(std > SMALLEST_SPREAD * mean.abs().clamp(min=1))  # the negation catches NaN as well
    if constant.any():
        first = int(constant.nonzero()[0])
        raise InputError(
            f"ActNorm: {int(constant.sum())} of {std.numel()} channels are constant in the first batch, "
            f"the first is channel {first}",
            "add noise to the data (dequantize=true) or take a larger batch",
        )
    return mean, std
