"""Affine coupling."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from irnscale.freia import SameShape
from irnscale.networks.flow.scales import LogScale, log_squish
from irnscale.networks.haar import Shape

SubnetConstructor = Callable[[int, int], nn.Module]


def log_glow(u: Tensor) -> Tensor:
    """log g(u) of Glow's g(u) = sigmoid(u + 2), between 0 and 1. The dissertation's equation 3.5."""
    return nn.functional.logsigmoid(u + 2)


LOG_SCALES: dict[str, LogScale] = {"glow": log_glow, "behrmann": log_squish}
"""log g by the names of `clamp`, without FrEIA's own "tanh", which lives inside its AllInOneBlock."""


class AffineCoupling(SameShape):
    """y1 = x1; y2 = x2 g(s(y1)) + t(y1), with x1 the first half of the channels and s, t the halves of one subnet.

    log|det dy/dx| = sum(log g(s(y1))). Source: the dissertation's equations 3.4 to 3.6; its 3.7 sums s itself, which is
    the determinant only where g is exp. `clamp` names g: "glow" or "behrmann". It scales first, then shifts, as the
    dissertation writes it; `flow.ConditionalCoupling` the other way, as Glow's code.
    """

    def __init__(
        self,
        dims_in: Sequence[Shape],
        dims_c: Sequence[Shape] = (),
        *,
        subnet_constructor: SubnetConstructor,
        clamp: str = "glow",
    ) -> None:
        super().__init__(dims_in, dims_c)
        self.split = dims_in[0][0] // 2
        self.rest = dims_in[0][0] - self.split
        self.log_g = LOG_SCALES[clamp]
        self.subnet = subnet_constructor(self.split, 2 * self.rest)

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor | float]:
        """Transform `x[0]`; returns ((result,), log-determinant per sample (N,), or 0.0 without `jac`)."""
        x1, x2 = x[0][:, : self.split], x[0][:, self.split :]
        st = self.subnet(x1)
        log_g, t = self.log_g(st[:, : self.rest]), st[:, self.rest :]
        y2 = (x2 - t) * (-log_g).exp() if rev else x2 * log_g.exp() + t
        log_det = log_g.flatten(1).sum(1) if jac else 0.0
        return (torch.cat((x1, y2), dim=1),), -log_det if rev else log_det
