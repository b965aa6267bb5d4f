"""The conditional flow of what a rescaling network throws away: HCFlow's, and that of the assistant of IRN."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from irnscale.freia import SequenceINN
from irnscale.networks.flow.actnorm import ActNorm
from irnscale.networks.flow.coupling import ConditionalCoupling
from irnscale.networks.flow.mixing import InvertibleConv
from irnscale.networks.flow.prior import standard_normal
from irnscale.networks.flow.standardise import Standardise
from irnscale.networks.flow.subnet import Subnet


class ConditionalFlow(SequenceINN):
    """(N, channels, H, W) <-> noise of the same shape, given a condition (N or 1, condition, H, W).

    `steps` times `ActNorm`, `InvertibleConv` and a `ConditionalCoupling` of scale "atan", then `Standardise`. Source:
    HCFlow's code (Liang et al. 2021), for rescaling.
    """

    def __init__(self, channels: int, condition: int, *, steps: int, hidden: int) -> None:
        super().__init__(channels, 2, 2)
        given = {"cond": 0, "cond_shape": (condition, 2, 2)}
        for _ in range(steps):
            self.append(ActNorm)
            self.append(InvertibleConv)
            self.append(ConditionalCoupling, **given, hidden=hidden, scale="atan")
        self.append(Standardise, **given)
        self.support = Subnet.support * steps + 1
        """Positions on each side that a result depends on."""

    def noise_of(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (N, channels, H, W) -> noise of N(0, 1) of the same shape."""
        return cast(Tensor, self(x, [condition], jac=False)[0])

    def from_noise(self, noise: Tensor, condition: Tensor) -> Tensor:
        """The inverse of `noise_of`: noise -> x."""
        return cast(Tensor, self(noise, [condition], rev=True, jac=False)[0])

    def log_density(self, x: Tensor, condition: Tensor) -> Tensor:
        """log p(x | condition) in nats, (N,)."""
        noise, log_det = self(x, [condition])
        return cast(Tensor, standard_normal([noise]) + log_det)

    @torch.no_grad()
    def initialise(self, x: Tensor, condition: Tensor) -> None:
        """Give every normalisation, in the trunk and in the subnets, the statistics of this batch there."""
        for module in self.module_list:
            if isinstance(module, ActNorm | ConditionalCoupling):
                module.initialise(x, [condition])
            (x,), _ = module((x,), c=[condition], jac=False)
