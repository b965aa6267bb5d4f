"""Activation normalisation that the first batch through it initialises."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from irnscale.errors import InputError
from irnscale.networks import flow
from irnscale.networks.haar import Shape

SMALLEST_SPREAD = 1e-6  # of a channel, beside its mean: below it, float32 rounding is all there is


class ActNorm(flow.ActNorm):
    """`flow.ActNorm`; the first batch forward through it becomes zero mean and unit variance (N - 1).

    Source: the dissertation's equations 3.1 and 3.2; Kingma and Dhariwal 2018, section 3.1. Forward raises InputError
    where a channel of the first batch is constant; the inverse raises RuntimeError before there was one.
    """

    initialised: Tensor

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = ()) -> None:
        super().__init__(dims_in, dims_c)
        self.register_buffer("initialised", torch.tensor(False))  # in the state dict, so that loading ends it too

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor | float]:
        """See `flow.ActNorm.forward`."""
        if not self.initialised:
            if rev:
                raise RuntimeError("ActNorm has no statistics yet: run a batch forward first, or load weights")
            self.initialise(x[0].detach())
        return super().forward(x, c, rev, jac)

    @torch.no_grad()
    def initialise(self, x: Tensor, c: Sequence[Tensor] = ()) -> None:
        """Set bias and scale from a batch (N, C) or (N, C, H, W)."""
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
