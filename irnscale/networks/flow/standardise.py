"""The last layer of a conditional flow: a Gaussian whose mean and deviation a condition gives."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from irnscale.freia import SameShape
from irnscale.networks.flow.scales import LOG_SCALES, cross
from irnscale.networks.flow.subnet import ZeroConv
from irnscale.networks.haar import Shape


class Standardise(SameShape):
    """y = (x - mean) / g(u), (N, C, H, W) <-> the same; mean and u are a `ZeroConv` of the condition (N or 1, c, H, W).

    With y ~ N(0, 1), x given the condition is Gaussian with that mean and the deviation g, see `scales.LOG_SCALES`; of
    "atan", an untrained one is the identity. Source: HCFlow's code (Liang et al. 2021).
    """

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape], *, scale: str = "atan") -> None:
        super().__init__(dims_in, list(dims_c))
        self.log_scale = LOG_SCALES[scale]
        self.gauss = ZeroConv(dims_c[0][0], 2 * dims_in[0][0])

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor | float]:
        """Transform `x[0]` given `c[0]`; returns ((result,), log-determinant per sample (N,), or 0.0 without `jac`)."""
        (x0,) = x
        mean, u = cross(self.gauss(c[0]).to(x0.dtype))
        log_g = self.log_scale(u)
        y = x0 * log_g.exp() + mean if rev else (x0 - mean) * (-log_g).exp()
        if not jac:
            return (y,), 0.0
        log_det = log_g.flatten(1).sum(1).expand(x0.shape[0])
        return (y,), log_det if rev else -log_det
