"""The three losses of IRN: sums over C, H, W, one value per image; the batch's mean is taken by the loop.

Source: Xiao et al. 2020, section 3.3, and their code.
"""

from __future__ import annotations

from torch import Tensor


def l2_sum(a: Tensor, b: Tensor) -> Tensor:
    """Sum of squares over C, H, W, (N,): the guidance loss (LR against bicubic)."""
    return ((a - b) ** 2).sum(dim=(1, 2, 3))


def charbonnier_sum(a: Tensor, b: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Sum of sqrt(d^2 + epsilon) over C, H, W, (N,): the reconstruction loss."""
    return ((a - b) ** 2 + epsilon).sqrt().sum(dim=(1, 2, 3))


def latent_sum(z: Tensor) -> Tensor:
    """Sum of z^2 over C, H, W, (N,): the negative log-likelihood of N(0, 1) up to factor and constant."""
    return (z**2).sum(dim=(1, 2, 3))
