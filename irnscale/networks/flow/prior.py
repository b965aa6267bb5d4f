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


def bits_per_dimension(log_density: Tensor, elements: int) -> Tensor:
    """Bits per value of 8-bit data that were divided by 255 or 256 and dequantised: -log2 p / elements + 8, (N,).

    log_density: log p in nats, (N,), of x + u with x in [0, 1] and u uniform in [0, 1/256). Source: Kingma and Dhariwal
    2018, equation 2.
    """
    return -log_density / (elements * math.log(2)) + 8
