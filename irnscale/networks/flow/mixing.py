"""The learned 1 x 1 convolution that mixes the channels of a flow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from irnscale.freia import InvertibleModule
from irnscale.networks.haar import Shape


class InvertibleConv(InvertibleModule):
    """y = W x at every position, W at first a random rotation; log-determinant H W log|det W|.

    (N, C, H, W) <-> the same. W is learned in full; the inverse is that of W, taken at each call in float64. Nothing
    but the likelihood, which falls to minus infinity there, keeps W from becoming singular. Source: Kingma and Dhariwal
    2018, section 3.2, without their decomposition, as SRFlow's code.
    """

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = ()) -> None:
        super().__init__(dims_in, dims_c)
        q, r = torch.linalg.qr(torch.randn(dims_in[0][0], dims_in[0][0], dtype=torch.float64))
        self.weight = nn.Parameter((q * r.diagonal().sign()).to(torch.get_default_dtype()))

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor | float]:
        """Mix `x[0]`; returns ((result,), log-determinant per sample (N,), or 0.0 without `jac`)."""
        (x0,) = x
        weight = torch.linalg.inv(self.weight.double()) if rev else self.weight
        # A product of matrices, not a convolution: CUDA rounds the operands of those to TF32 by default.
        y = torch.matmul(weight.to(x0.dtype), x0.flatten(2)).view(x0.shape)
        if not jac:
            return (y,), 0.0
        log_det = torch.linalg.slogdet(self.weight).logabsdet * (x0.shape[2] * x0.shape[3])
        return (y,), (-log_det if rev else log_det).to(x0.dtype).expand(x0.shape[0])

    def output_dims(self, input_dims: list[Shape]) -> list[Shape]:
        """Shapes without the batch; they stay as they are."""
        return input_dims
