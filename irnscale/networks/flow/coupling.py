"""The affine coupling of a flow, with or without a condition, as a FrEIA coupling block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from irnscale.freia import BaseCouplingBlock
from irnscale.networks.flow.scales import LOG_SCALES, affine
from irnscale.networks.flow.subnet import Subnet
from irnscale.networks.haar import Shape


class ConditionalCoupling(BaseCouplingBlock):
    """y1 = x1; y2 = (x2 + shift) g(u), with x1 the first C // 2 channels; (N, C, H, W) <-> the same.

    shift and u are those of a `Subnet` that sees x1 and the condition, where there is one. scale names g, see
    `scales.LOG_SCALES`. Source: Lugmayr et al. 2020 (SRFlow), equation 5, and their code.
    """

    def __init__(
        self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = (), *, hidden: int = 64, scale: str = "glow"
    ) -> None:
        log_scale = LOG_SCALES[scale]
        super().__init__(dims_in, list(dims_c), clamp=1.0, clamp_activation=log_scale, split_len=dims_in[0][0] // 2)
        self.log_scale = log_scale
        self.subnet = Subnet(self.split_len1, self.condition_length, 2 * self.split_len2, hidden)

    @torch.no_grad()
    def initialise(self, x: Tensor, c: Sequence[Tensor] = ()) -> None:
        """Set the subnet's normalisations from a batch x (N, C, H, W) and its condition. See `Subnet.initialise`."""
        self.subnet.initialise(x[:, : self.split_len1], c[0] if self.conditional else None)

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor | float]:
        """Transform `x[0]` given `c[0]` (N or 1, u, H, W); returns ((result,), log-determinant (N,), or 0.0)."""
        x1, x2 = torch.split(x[0], [self.split_len1, self.split_len2], dim=1)
        raw = self.subnet(x1, c[0] if self.conditional else None)
        y2, log_det = affine(x2, raw, self.log_scale, rev=rev, jac=jac)
        return (torch.cat((x1, y2), dim=1),), log_det
