"""Channels that leave a flow before its end, with a learned Gaussian that the others give them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from irnscale.freia import InvertibleModule
from irnscale.networks.flow.scales import cross
from irnscale.networks.flow.subnet import ZeroConv
from irnscale.networks.haar import Shape


class GaussianSplit(InvertibleModule):
    """x = (kept, rest) <-> kept, eps with eps = (rest - mean) exp(-logs); log-determinant -sum(logs).

    mean and logs (N, rest, H, W) are a `ZeroConv` of what is kept, so that an untrained one is the identity. With
    eps ~ N(0, 1), rest is Gaussian given kept: log p(rest) = sum(-logs - eps^2/2 - log(2 pi)/2). The rest are the last
    round(C/2) channels. No condition. Two outputs, as FrEIA's `Split` has. Source: Kingma and Dhariwal 2018's code;
    SRFlow's, whose split sees no condition either.
    """

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = ()) -> None:
        super().__init__(dims_in, dims_c)
        channels = dims_in[0][0]
        self.rest = round(channels / 2)
        self.kept = channels - self.rest
        self.gauss = ZeroConv(self.kept, 2 * self.rest)

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor, ...], Tensor | float]:
        """((x,)) -> ((kept, eps), log-determinant (N,), or 0.0 without `jac`); with `rev` ((kept, eps)) -> ((x,), ..).

        kept: (N, C - round(C/2), H, W), eps: (N, round(C/2), H, W).
        """
        kept, last = x if rev else torch.split(x[0], [self.kept, self.rest], dim=1)
        mean, logs = cross(self.gauss(kept))
        log_det = logs.flatten(1).sum(1) if jac else 0.0
        if rev:
            return (torch.cat((kept, last * logs.exp() + mean), dim=1),), log_det
        return (kept, (last - mean) * (-logs).exp()), -log_det

    def output_dims(self, input_dims: list[Shape]) -> list[Shape]:
        """The shapes of what is kept and of eps."""
        ((_, height, width),) = input_dims
        return [(self.kept, height, width), (self.rest, height, width)]
