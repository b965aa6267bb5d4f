"""The conditional flow of what an IRN threw away."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from irnscale.freia import SequenceINN
from irnscale.networks.families.assisted import AssistedConfig
from irnscale.networks.flow import ActNorm, ConditionalCoupling, InvertibleConv, Standardise, standard_normal
from irnscale.networks.flow.subnet import Subnet
from irnscale.networks.network import IMAGE_CHANNELS, CompletingNetwork
from irnscale.networks.rrdb import CHANNELS, RRDBEncoder


class LatentFlow(CompletingNetwork):
    """p(z | LR): z (N, 3 s^2 - 3, h, w) <-> noise of N(0, 1) of the same shape, given LR (N, 3, h, w), any h and w.

    `flow_steps` times activation normalisation, a learned 1 x 1 convolution and an affine coupling that sees a
    condition, then a Gaussian that the condition gives; the condition, 64 channels, is an `RRDBEncoder`'s of LR as it
    was stored. Source: the dissertation's appendix C.1, "assisted" disentanglement; layers and widths are ours.
    """

    config: AssistedConfig

    def __init__(self, config: AssistedConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AssistedConfig()
        self.encoder = RRDBEncoder(config.rrdb_blocks, config.rrdb_growth, 0)
        self.flow = SequenceINN(self.channels, 2, 2)
        given = {"cond": 0, "cond_shape": (CHANNELS, 2, 2)}
        for _ in range(config.flow_steps):
            self.flow.append(ActNorm)
            self.flow.append(InvertibleConv)
            self.flow.append(ConditionalCoupling, **given, hidden=config.flow_hidden, scale="atan")
        self.flow.append(Standardise, **given)

    @property
    def support(self) -> int:
        """Small pixels on each side that a value of z depends on."""
        return Subnet.support * self.config.flow_steps + 1 + self.encoder.support

    @property
    def channels_alive(self) -> int:
        """The features and the condition, which are more than z and a subnet's."""
        return 7 * CHANNELS + 3 * self.config.flow_hidden + 3 * self.channels

    def set_compute_dtype(self, dtype: torch.dtype | None) -> None:
        """Precision of the encoder's convolutions; the flow keeps its own, as in `SRFlow`."""
        for module in self.encoder.modules():
            if hasattr(module, "compute_dtype"):
                setattr(module, "compute_dtype", dtype)  # noqa: B010 - which type checkers take for a parameter

    def condition(self, lr: Tensor) -> Tensor:
        """LR (N, 3, h, w) -> (N, 64, h, w)."""
        (found,), _ = self.encoder(lr)
        return cast(Tensor, found)

    def complete(self, lr: Tensor, noise: Tensor | None = None) -> Tensor:
        """See `CompletingNetwork`."""
        if noise is None:
            noise = lr.new_zeros(lr.shape[0], self.channels, *lr.shape[2:])
        z, _ = self.flow(noise, [self.condition(lr)], rev=True, jac=False)
        return cast(Tensor, z)

    def log_density(self, z: Tensor, lr: Tensor) -> Tensor:
        """See `CompletingNetwork`."""
        noise, log_det = self.flow(z, [self.condition(lr)])
        return cast(Tensor, standard_normal([noise]) + log_det)

    @torch.no_grad()
    def start(self, z: Tensor, lr: Tensor) -> None:
        """See `CompletingNetwork`: every normalisation gets the statistics that this batch has there."""
        given = [self.condition(lr)]
        for module in self.flow.module_list:
            if isinstance(module, ActNorm | ConditionalCoupling):
                module.initialise(z, given)
            (z,), _ = module((z,), c=given, jac=False)

    @property
    def channels(self) -> int:
        """Of z."""
        return IMAGE_CHANNELS * (self.config.scale**2 - 1)
