"""The conditional flow of what an IRN threw away."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from irnscale.networks.families.assisted import AssistedConfig
from irnscale.networks.flow import ConditionalFlow
from irnscale.networks.network import IMAGE_CHANNELS, CompletingNetwork
from irnscale.networks.rrdb import CHANNELS, RRDBEncoder


class LatentFlow(CompletingNetwork):
    """p(z | LR): z (N, 3 s^2 - 3, h, w) <-> noise of N(0, 1) of the same shape, given LR (N, 3, h, w), any h and w.

    A `ConditionalFlow`, whose condition, 64 channels, is an `RRDBEncoder`'s of LR as it was stored. Source: the
    dissertation's appendix C.1, "assisted" disentanglement; layers and widths are ours.
    """

    config: AssistedConfig

    def __init__(self, config: AssistedConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or AssistedConfig()
        self.encoder = RRDBEncoder(config.rrdb_blocks, config.rrdb_growth, 0)
        self.flow = ConditionalFlow(self.channels, CHANNELS, steps=config.flow_steps, hidden=config.flow_hidden)

    @property
    def support(self) -> int:
        """Small pixels on each side that a value of z depends on."""
        return self.flow.support + self.encoder.support

    @property
    def channels_alive(self) -> int:
        """The features and the condition, which are more than z and a subnet's."""
        return 7 * CHANNELS + 3 * self.config.flow_hidden + 3 * self.channels

    def set_compute_dtype(self, dtype: torch.dtype | None) -> None:
        """Precision of the encoder's convolutions; the flow keeps its own, as in `SRFlow`."""
        self.compute_dtype = dtype
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
        return self.flow.from_noise(noise, self.condition(lr))

    def log_density(self, z: Tensor, lr: Tensor) -> Tensor:
        """See `CompletingNetwork`."""
        return self.flow.log_density(z, self.condition(lr))

    @torch.no_grad()
    def start(self, z: Tensor, lr: Tensor) -> None:
        """See `CompletingNetwork`: every normalisation gets the statistics that this batch has there."""
        self.flow.initialise(z, self.condition(lr))

    @property
    def channels(self) -> int:
        """Channels of z, 3 scale^2 - 3."""
        return IMAGE_CHANNELS * (self.config.scale**2 - 1)
