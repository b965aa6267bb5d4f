"""What stands between two couplings, so that each of them transforms other channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irnscale.networks.glow.layer import FlowLayer, positions


def random_rotation(channels: int) -> Tensor:
    """(C, C) orthogonal, uniform over the orthogonal group; from torch's random state, in its default dtype.

    Computed in float64, so that it is orthogonal to the last digit of float32.
    """
    q, r = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))
    rotation: Tensor = q * r.diagonal().sign()
    return rotation.to(torch.get_default_dtype())


class InvertibleConv1x1(FlowLayer):
    """y = W x at every position, W learned and at first a random rotation.

    log|det dy/dx| = H W log|det W|. Source: the dissertation's equations 3.8 and 3.9; Kingma and Dhariwal 2018, section
    3.2. On (N, C) it is a linear layer. Nothing keeps W from becoming singular but the likelihood itself, which then
    falls to minus infinity.
    """

    def __init__(self, channels: int, *, learned: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(random_rotation(channels), requires_grad=learned)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (y, log|det dy/dx|), the latter (N,)."""
        return _mix(x, self.weight), self._log_det(x)

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        # Where it is not learned, it is the rotation that it began as.
        """y -> (x, log|det dx/dy|), the latter (N,)."""
        back = torch.linalg.inv(self.weight) if self.weight.requires_grad else self.weight.T
        return _mix(y, back), -self._log_det(y)

    def _log_det(self, x: Tensor) -> Tensor:
        if not self.weight.requires_grad:
            return x.new_zeros(x.shape[0])
        log_det: Tensor = torch.linalg.slogdet(self.weight).logabsdet
        return (positions(x) * log_det).expand(x.shape[0])


class Permutation(FlowLayer):
    """A random order of the channels, fixed; its log-determinant is 0."""

    order: Tensor
    back: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        order = torch.randperm(channels)
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (y, log|det dy/dx|), the latter (N,)."""
        return x[:, self.order], x.new_zeros(x.shape[0])

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y -> (x, log|det dx/dy|), the latter (N,)."""
        return y[:, self.back], y.new_zeros(y.shape[0])


class Squeeze(FlowLayer):
    """(N, C, H, W) -> (N, 4C, H/2, W/2): 2x2 pixels become 4 channels. Source: Dinh et al. 2017, section 3.6."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> (y, log|det dy/dx|), the latter (N,)."""
        return F.pixel_unshuffle(x, 2), x.new_zeros(x.shape[0])

    def inverse(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """y -> (x, log|det dx/dy|), the latter (N,)."""
        return F.pixel_shuffle(y, 2), y.new_zeros(y.shape[0])


def _mix(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight) if x.ndim == 2 else F.conv2d(x, weight[:, :, None, None])
