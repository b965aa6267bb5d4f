"""A fixed order of the channels between two couplings."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from irnscale.freia import SameShape
from irnscale.networks.haar import Shape


class Permutation(SameShape):
    """A random order of the channels, fixed, from torch's random state; its log-determinant is 0.

    FrEIA 0.2's PermuteRandom draws from numpy's.
    """

    order: Tensor
    back: Tensor

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = ()) -> None:
        super().__init__(dims_in, dims_c)
        order = torch.randperm(dims_in[0][0])
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort())

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], float]:
        """Reorder the channels of `x[0]`, (N, C) or (N, C, H, W); returns ((result,), 0.0)."""
        return (x[0][:, self.back if rev else self.order],), 0.0
