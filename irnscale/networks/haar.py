"""The Haar transform as a FrEIA module."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from irnscale.kernels import haar_forward, haar_inverse
from irnscale.networks.step import Layer

Shape = tuple[int, int, int]


class HaarTransform(Layer):
    """One Haar level: (N, C, H, W) <-> (N, 4C, H/2, W/2), all LL first, filters / 4 forward, factor 1 inverse.

    LL is the 2 x 2 mean and stays in the input's range. Equal to FrEIA's
    `HaarDownsampling(order_by_wavelet=True, rebalance=0.5)`, but without its frozen filters in the state
    dict, and an odd size is a ValueError rather than a silent truncation.
    Source: the dissertation's equation 2.21; Xiao et al. 2020, section 3.2.
    """

    factor = 2
    takes_levels = True

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = ()) -> None:
        super().__init__(dims_in, dims_c)

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """Transform `x[0]`; returns ((result,), log-determinant per sample (N,))."""
        (x0,) = x
        result = haar_inverse(x0) if rev else haar_forward(x0)
        # One level is orthogonal up to 1/2 per coefficient: log|det| = elements * log(1/2).
        log_det = math.prod(x0.shape[1:]) / 4 * math.log(1 / 16)
        return (result,), torch.full(
            (x0.shape[0],), -log_det if rev else log_det, device=x0.device, dtype=torch.float64
        ).to(result.dtype)

    def to_levels(self, y: Tensor) -> Tensor:
        """The inverse, rounded to the grey levels 0 to 255."""
        return haar_inverse(y, to_uint8=True)

    def output_dims(self, input_dims: list[Shape]) -> list[Shape]:
        """The shape after one level; ValueError for odd sizes."""
        ((channels, height, width),) = input_dims
        if height % 2 or width % 2:
            raise ValueError(f"HaarTransform needs an even height and width, got {height} x {width}")
        return [(4 * channels, height // 2, width // 2)]
