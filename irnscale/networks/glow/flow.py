"""Glow without its multi-scale structure, which 8x8 pixels do not need: the likelihood, and sampling."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from irnscale.freia import SequenceINN
from irnscale.networks.families.glow import GlowConfig
from irnscale.networks.flow import InvertibleConv, Squeeze, standard_normal
from irnscale.networks.glow.actnorm import ActNorm
from irnscale.networks.glow.coupling import AffineCoupling, SubnetConstructor
from irnscale.networks.glow.permutation import Permutation
from irnscale.networks.glow.subnets import convolutional, fully_connected
from irnscale.networks.network import Network


class Glow(Network):
    """A normalising flow between pictures (N, 1, size, size), any real values, and latents (N, *dims) ~ N(0, 1).

    Steps of ActNorm, mixing of the channels and affine coupling, from our blocks or FrEIA's. The first batch forward
    initialises every ActNorm. Source: the dissertation's section 3.2.1 and figures 3.1 and 3.2.
    """

    config: GlowConfig

    def __init__(self, config: GlowConfig) -> None:
        super().__init__()
        self.config = config
        subnet = partial(fully_connected if config.subnet == "fc" else convolutional, hidden=config.hidden)
        self.squeeze = None if config.subnet == "fc" else Squeeze([(1, config.size, config.size)])
        self.inn = SequenceINN(*config.dims)
        if config.backend == "torch":
            _append_own(self.inn, config, subnet)
        else:
            from irnscale.networks.glow.freia_steps import append_freias

            append_freias(self.inn, config, subnet)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures -> latents (N, *dims) and log|det dz/dx| (N,)."""
        # Neither the reshaping nor the squeeze changes a volume.
        z, log_det = self.inn(x.flatten(1) if self.squeeze is None else self.squeeze((x,))[0][0])
        return z, log_det

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents -> pictures and log|det dx/dz| (N,)."""
        x, log_det = self.inn(z, rev=True)
        size = self.config.size
        return x.reshape(-1, 1, size, size) if self.squeeze is None else self.squeeze((x,), rev=True)[0][0], log_det

    def forward(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (N,), by the change of variables (the dissertation's equation 2.16)."""
        z, log_det = self.encode(x)
        return log_det + standard_normal([z])

    @torch.no_grad()
    def sample(self, count: int, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """(count, 1, size, size): decoded latents of standard deviation `temperature`; `generator`: of the CPU."""
        first = next(self.parameters())
        z = torch.randn(count, *self.config.dims, generator=generator, dtype=first.dtype).to(first.device)
        return self.decode(z * temperature)[0]


def _append_own(inn: Any, config: GlowConfig, subnet: SubnetConstructor) -> None:
    for _ in range(config.steps):
        inn.append(ActNorm)
        if config.mixing == "permutation":
            inn.append(Permutation)
        else:
            inn.append(InvertibleConv, learned=config.mixing == "conv")
        inn.append(AffineCoupling, subnet_constructor=subnet, clamp=config.clamp)
