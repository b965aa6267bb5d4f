"""The three losses of IRN: mean over the batch of sums over C, H, W.

Source: Xiao et al. 2020, section 3.3, and their code.
"""

from __future__ import annotations

from torch import Tensor


def l2_sum(a: Tensor, b: Tensor) -> Tensor:
    """Sum of squares over C, H, W, mean over the batch: the guidance loss (LR against bicubic)."""
    return ((a - b) ** 2).sum() / a.shape[0]


def charbonnier_sum(a: Tensor, b: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Sum of sqrt(d^2 + epsilon), mean over the batch: the reconstruction loss."""
    return ((a - b) ** 2 + epsilon).sqrt().sum() / a.shape[0]


def latent_sum(z: Tensor) -> Tensor:
    """Sum of z^2, mean over the batch: the negative log-likelihood of N(0, 1) up to factor and constant."""
    return (z**2).sum() / z.shape[0]
