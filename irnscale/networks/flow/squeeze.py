"""Space to depth as a FrEIA module."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from irnscale.freia import InvertibleModule
from irnscale.networks.haar import Shape


class Squeeze(InvertibleModule):
    """(N, C, H, W) <-> (N, 4C, H/2, W/2): pixel (2y + i, 2x + j) of channel c is channel 4c + 2i + j at (y, x).

    Its log-determinant is 0. Equal to FrEIA's `IRevNetDownsampling`, which is a convolution with frozen filters: on
    CUDA such a one rounds the data to the 10 bits of TF32. Odd sizes are a ValueError. Source: Dinh et al. 2017,
    section 3.6.
    """

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = ()) -> None:
        super().__init__(dims_in, dims_c)

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], float]:
        """Rearrange `x[0]`; returns ((result,), 0.0)."""
        (x0,) = x
        if rev:
            return (F.pixel_shuffle(x0, 2),), 0.0
        if x0.shape[2] % 2 or x0.shape[3] % 2:
            raise ValueError(f"Squeeze needs an even height and width, got {x0.shape[2]} x {x0.shape[3]}")
        return (F.pixel_unshuffle(x0, 2),), 0.0

    def output_dims(self, input_dims: list[Shape]) -> list[Shape]:
        """The shape after it; ValueError for odd sizes."""
        ((channels, height, width),) = input_dims
        if height % 2 or width % 2:
            raise ValueError(f"Squeeze needs an even height and width, got {height} x {width}")
        return [(4 * channels, height // 2, width // 2)]
