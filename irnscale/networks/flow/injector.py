"""The affine injector: a condition shifts and scales all channels of a flow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from irnscale.freia import SameShape
from irnscale.networks.flow.scales import LOG_SCALES, affine
from irnscale.networks.flow.subnet import Subnet
from irnscale.networks.haar import Shape


class AffineInjector(SameShape):
    """y = (x + shift) g(u) with shift and u of a `Subnet` that sees the condition alone; (N, C, H, W) <-> the same.

    scale names g, see `scales.LOG_SCALES`. Source: Lugmayr et al. 2020 (SRFlow), section 3.3, and their code.
    """

    def __init__(
        self, dims_in: Sequence[Shape], dims_c: Sequence[Shape], *, hidden: int = 64, scale: str = "glow"
    ) -> None:
        super().__init__(dims_in, list(dims_c))
        self.log_scale = LOG_SCALES[scale]
        self.subnet = Subnet(0, dims_c[0][0], 2 * dims_in[0][0], hidden)

    @torch.no_grad()
    def initialise(self, x: Tensor, c: Sequence[Tensor]) -> None:
        """Set the subnet's normalisations from the condition of a batch. See `Subnet.initialise`."""
        self.subnet.initialise(None, c[0])

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor | float]:
        """Transform `x[0]` given `c[0]` (N or 1, u, H, W); returns ((result,), log-determinant (N,), or 0.0)."""
        y, log_det = affine(x[0], self.subnet(None, c[0]), self.log_scale, rev=rev, jac=jac)
        return (y,), log_det
