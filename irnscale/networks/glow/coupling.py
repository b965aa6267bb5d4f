"""Affine coupling."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from irnscale.networks.glow.clamps import LOG_SCALES
from irnscale.networks.glow.layer import FlowLayer

SubnetConstructor = Callable[[int, int], nn.Module]


class AffineCoupling(FlowLayer):
    """y1 = x1; y2 = x2 g(s(y1)) + t(y1), with x1 the first half of the channels and s, t the halves of one subnet.

    log|det dy/dx| = sum(log g(s(y1))). Source: the dissertation's equations 3.4 to 3.6; its 3.7 sums s itself, which is
    the determinant only where g is exp. `clamp` names g: "glow" or "behrmann".
    """

    def __init__(self, channels: int, subnet_constructor: SubnetConstructor, clamp: str = "glow") -> None:
        super().__init__()
        self.split = channels // 2
        self.rest = channels - self.split
        self.log_g = LOG_SCALES[clamp]
        self.subnet = subnet_constructor(self.split, 2 * self.rest)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (y, log|det dy/dx|), of the shape of x and (N,)."""
        x1, x2 = x[:, : self.split], x[:, self.split :]
        log_g, t = self._coefficients(x1)
        return torch.cat((x1, x2 * log_g.exp() + t), dim=1), log_g.flatten(1).sum(1)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y -> (x, log|det dx/dy|), of the shape of y and (N,)."""
        y1, y2 = y[:, : self.split], y[:, self.split :]
        log_g, t = self._coefficients(y1)
        return torch.cat((y1, (y2 - t) * (-log_g).exp()), dim=1), -log_g.flatten(1).sum(1)

    def _coefficients(self, y1: Tensor) -> tuple[Tensor, Tensor]:
        st = self.subnet(y1)
        return self.log_g(st[:, : self.rest]), st[:, self.rest :]
