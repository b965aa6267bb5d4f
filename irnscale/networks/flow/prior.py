"""Densities: the standard normal of the latents, and bits per dimension."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def standard_normal(latents: Sequence[Tensor]) -> Tensor:
    """log of the N(0, 1) density of all values of each sample, in nats, (N,); latents: (N, ...) each."""
    squares = sum((z.flatten(1).square().sum(1) for z in latents), latents[0].new_zeros(()))
    count = sum(z[0].numel() for z in latents)
    assert isinstance(squares, Tensor)
    return -0.5 * (squares + count * math.log(2 * math.pi))


def bits_per_dimension(log_density: Tensor, elements: int, spacing: float = 1 / 256) -> Tensor:
    """Bits per value of data on a grid of this spacing that were dequantised: -log2 p / elements - log2 spacing, (N,).

    log_density: log p in nats, (N,), of x + u with u uniform over one spacing; so 8 bits are added for 8-bit data in
    [0, 1). Source: Kingma and Dhariwal 2018, equation 2.
    """
    return -log_density / (elements * math.log(2)) - math.log2(spacing)
