"""The learnable downsampling of IRN x3 as a FrEIA module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irnscale.networks.haar import Shape
from irnscale.networks.step import Layer


class UnshuffleMatrix(Layer):
    """(N, C, H, W) <-> (N, s^2 C, H/s, W/s): each s x s cell times one learnable s^2 x s^2 matrix.

    The matrix is shared by all colours and starts as the identity with a first row of 1/s^2, so that the first C
    outputs are the s x s means. Like the Haar transform, all colours of a band come together. The inverse
    inverts the matrix at each call, in float64. Source: the code of Xiao et al. 2020 (`ConvDownsampling`).
    """

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = (), *, scale: int = 3) -> None:
        super().__init__(dims_in, dims_c)
        self.scale = self.factor = scale
        matrix = torch.eye(scale**2)
        matrix[0] = 1 / scale**2
        self.matrix = nn.Parameter(matrix)

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """Transform `x[0]`; returns ((result,), log-determinant per sample (N,))."""
        (x0,) = x
        matrix = self.matrix.double()
        cells = self.scale**2
        if rev:
            n, channels, h, w = x0.shape
            inverse = torch.linalg.inv_ex(matrix).inverse.to(x0.dtype)
            mixed = torch.einsum("ij,njchw->ncihw", inverse, x0.reshape(n, cells, channels // cells, h, w))
            result = F.pixel_shuffle(mixed.reshape(n, channels, h, w), self.scale)
        else:
            if x0.shape[2] % self.scale or x0.shape[3] % self.scale:
                raise ValueError(f"height and width must be multiples of {self.scale}, got {tuple(x0.shape[2:])}")
            unshuffled = F.pixel_unshuffle(x0, self.scale)
            n, channels, h, w = unshuffled.shape
            split = unshuffled.reshape(n, channels // cells, cells, h, w)
            mixed = torch.einsum("ij,ncjhw->nichw", matrix.to(x0.dtype), split)
            result = mixed.reshape(n, channels, h, w)
        if not jac:
            return (result,), x0.new_zeros(x0.shape[0])
        log_det = torch.linalg.slogdet(matrix).logabsdet * (channels // cells * h * w)
        return (result,), (-log_det if rev else log_det).to(result.dtype).expand(x0.shape[0])

    def output_dims(self, input_dims: list[Shape]) -> list[Shape]:
        """The shape after it; ValueError for sizes that are not multiples of the scale."""
        ((channels, height, width),) = input_dims
        if height % self.scale or width % self.scale:
            raise ValueError(f"height and width must be multiples of {self.scale}, got {height} x {width}")
        return [(channels * self.scale**2, height // self.scale, width // self.scale)]
