"""What every layer of the PyTorch flow promises."""

from __future__ import annotations

from torch import Tensor, nn


class FlowLayer(nn.Module):
    """An invertible layer on (N, C) or (N, C, H, W).

    `forward(x)` gives y and log|det dy/dx|, `inverse(y)` gives x and log|det dx/dy|; both log-determinants are (N,).
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (y, log|det dy/dx|), the latter (N,)."""
        raise NotImplementedError

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Undo `forward`: y -> (x, log|det dx/dy|), the latter (N,)."""
        raise NotImplementedError


def per_channel(parameter: Tensor, like: Tensor) -> Tensor:
    """(C,) as (1, C) or (1, C, 1, 1), to be broadcast over `like`."""
    return parameter.reshape(1, -1, *(1 for _ in like.shape[2:]))


def positions(x: Tensor) -> int:
    """H W of (N, C, H, W); 1 of (N, C)."""
    return x.shape[2:].numel()
