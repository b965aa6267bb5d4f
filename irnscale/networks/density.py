"""How likely a network finds the large pictures of a test set."""

from __future__ import annotations

import torch
from torch import Tensor

from irnscale.kernels import philox_normal
from irnscale.networks.flow.prior import bits_per_dimension
from irnscale.networks.network import SamplingNetwork

GREY = 1 / 255
"""Between two levels of 8 bits, for pictures in [0, 1]."""


@torch.no_grad()
def bits_of_levels(net: SamplingNetwork, hr: Tensor, lr: Tensor, *, seed: int = 0) -> float | None:
    """Bits per dimension of HR (1, 3, scale h, scale w) in 8 bits, given LR (1, 3, h, w), by `net`.

    The mean of -log2 p(HR + u | LR) / n - log2(1/255) with u uniform over one level: a bound of what a code by this
    distribution takes (Theis et al. 2016), in which h and w are rounded down to multiples that the network takes. u is
    a function of the seed and the place, the same on every device. None for a picture that has no such multiple.
    """
    sides = [side - side % net.multiple for side in lr.shape[2:]]
    if not all(sides):
        return None
    lr = lr[..., : sides[0], : sides[1]]
    hr = hr[..., : sides[0] * net.scale, : sides[1] * net.scale]
    # uniform noise out of normal noise, which alone is the same on every device
    uniform = torch.special.ndtr(philox_normal(tuple(hr.shape), seed=seed, device=hr.device))
    noisy = hr + (uniform.to(hr.dtype) - 0.5) * GREY
    density = net.log_density(noisy, net.encoded(lr))
    return bits_per_dimension(density, hr[0].numel(), GREY).mean().item()
