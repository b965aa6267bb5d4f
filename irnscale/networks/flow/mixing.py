"""The learned 1 x 1 convolution that mixes the channels of a flow, in full or factorised."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irnscale.freia import InvertibleModule, SameShape
from irnscale.networks.haar import Shape


def random_rotation(channels: int, dtype: torch.dtype | None = None) -> Tensor:
    """(C, C) orthogonal, uniform over the orthogonal group; from torch's random state, in `dtype` or its default one.

    Computed in float64, so that it is orthogonal to the last digit of float32.
    """
    q, r = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))
    rotation: Tensor = q * r.diagonal().sign()
    return rotation.to(dtype or torch.get_default_dtype())


class InvertibleConv(SameShape):
    """y = W x at every position, W at first a random rotation; log-determinant H W log|det W|.

    (N, C) or (N, C, H, W) <-> the same. W is learned in full; the inverse is that of W, taken at each call in float64.
    Nothing but the likelihood, which falls to minus infinity there, keeps W from becoming singular. Where it is not
    `learned`, W stays the rotation, whose inverse is its transpose. Source: Kingma and Dhariwal
    2018, section 3.2, without their decomposition, as SRFlow's code.
    """

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = (), *, learned: bool = True) -> None:
        super().__init__(dims_in, dims_c)
        self.weight = nn.Parameter(random_rotation(dims_in[0][0]), requires_grad=learned)
        self.learned = learned

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor | float]:
        """Mix `x[0]`; returns ((result,), log-determinant per sample (N,), or 0.0 without `jac`)."""
        (x0,) = x
        weight: Tensor = self.weight
        if rev:
            weight = torch.linalg.inv(weight.double()) if self.learned else weight.T
        # A product of matrices, not a convolution: CUDA rounds the operands of those to TF32 by default.
        weight = weight.to(x0.dtype)
        y = F.linear(x0, weight) if x0.ndim == 2 else torch.matmul(weight, x0.flatten(2)).view(x0.shape)
        if not jac or not self.learned:
            return (y,), 0.0
        log_det = torch.linalg.slogdet(self.weight).logabsdet * x0.shape[2:].numel()
        return (y,), (-log_det if rev else log_det).to(x0.dtype).expand(x0.shape[0])


class FactorisedConv(SameShape):
    """`InvertibleConv` with W = P L (U + diag(d)): a fixed permutation, unit lower and strictly upper triangles, and d.

    Only the signs of d are fixed; its logarithms are learned, so W never becomes singular, and log|det W| is their sum.
    At first W is a random rotation. No call factorises a matrix: the inverse solves two triangles, in float64. Source:
    Kingma and Dhariwal 2018, section 3.2, equation 10.
    """

    order: Tensor
    sign: Tensor

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = ()) -> None:
        super().__init__(dims_in, dims_c)
        permutation, lower, upper = torch.linalg.lu(random_rotation(dims_in[0][0], torch.float64))
        diagonal = upper.diagonal()
        kind = torch.get_default_dtype()
        self.triangles = nn.Parameter((lower.tril(-1) + upper.triu(1)).to(kind))
        """L below the diagonal and U above it."""
        self.log_diagonal = nn.Parameter(diagonal.abs().log().to(kind))
        self.register_buffer("sign", diagonal.sign().to(kind))
        self.register_buffer(
            "order", permutation.argmax(1)
        )  # row k of P L (U + diag) is row order[k] of what follows P

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor | float]:
        """Mix `x[0]`; returns ((result,), log-determinant per sample (N,), or 0.0 without `jac`)."""
        (x0,) = x
        lower = self.triangles.tril(-1) + torch.eye(len(self.order), dtype=self.triangles.dtype, device=x0.device)
        upper = self.triangles.triu(1) + torch.diag(self.sign * self.log_diagonal.exp())
        flat = x0.flatten(2)
        if rev:
            flat = flat.double()[:, self.order.argsort()]
            flat = torch.linalg.solve_triangular(lower.double(), flat, upper=False, unitriangular=True)
            y = torch.linalg.solve_triangular(upper.double(), flat, upper=True).to(x0.dtype).view(x0.shape)
        else:
            y = torch.matmul((lower @ upper)[self.order].to(x0.dtype), flat).view(x0.shape)
        if not jac:
            return (y,), 0.0
        log_det = self.log_diagonal.sum().to(x0.dtype) * (x0.shape[2] * x0.shape[3])
        return (y,), (-log_det if rev else log_det).expand(x0.shape[0])


MIXINGS: dict[str, type[InvertibleModule]] = {"full": InvertibleConv, "plu": FactorisedConv}
"""By the names that configurations have."""
