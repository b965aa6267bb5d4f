"""Distances between images: sums over C, H, W, one value per image; the batch's mean is taken by the loop.

Source: Xiao et al. 2020, section 3.3, and their code, which takes l2 for guidance and charbonnier for
reconstruction (their text and the dissertation's swap them).
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from irnscale.train.constants import constant

LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
"""Weights of R, G and B in the luma of the test protocol (BT.601, studio range), for images in [0, 1]."""


def l2_sum(a: Tensor, b: Tensor) -> Tensor:
    """Sum of squares over C, H, W, (N,)."""
    return ((a - b) ** 2).sum(dim=(1, 2, 3))


def l1_sum(a: Tensor, b: Tensor) -> Tensor:
    """Sum of absolute values over C, H, W, (N,)."""
    return (a - b).abs().sum(dim=(1, 2, 3))


def charbonnier_sum(a: Tensor, b: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Sum of sqrt(d^2 + epsilon) over C, H, W, (N,): l1 with a gradient at zero."""
    return ((a - b) ** 2 + epsilon).sqrt().sum(dim=(1, 2, 3))


def latent_sum(z: Tensor) -> Tensor:
    """Sum of z^2 over C, H, W, (N,): the negative log-likelihood of N(0, 1) up to factor and constant."""
    return (z**2).sum(dim=(1, 2, 3))


NORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": l1_sum,
    "l2": l2_sum,
    "charbonnier": charbonnier_sum,
}
"""By the names of `guide_norm` and `recon_norm`."""

LUMA_SCALES = {"l1": 3 / 0.858745, "l2": 3 / 0.737443, "charbonnier": 3 / 0.858745}
"""What makes a distance of luma as large as that of RGB where all channels differ alike (IRN-Y's code)."""


def image_loss(norm: str, a: Tensor, b: Tensor, y_channel_usage: float = 0.0) -> Tensor:
    """(1 - y) L_RGB + y L_luma of images (N, 3, H, W), (N,), with y = `y_channel_usage` and L named by `norm`.

    Source: the dissertation's section 3.4.4 (IRN-Y) and its author's code.
    """
    distance = NORMS[norm]
    total = distance(a, b)
    if y_channel_usage:
        weights = constant(LUMA, a.dtype, a.device).view(1, 3, 1, 1)
        luma = distance((a * weights).sum(1, keepdim=True), (b * weights).sum(1, keepdim=True))
        total = (1 - y_channel_usage) * total + y_channel_usage * LUMA_SCALES[norm] * luma
    return total
