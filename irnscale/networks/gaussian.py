"""The conditional flow of one layer: values Gaussian by themselves, around what a network makes of small pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from irnscale.kernels import philox_normal
from irnscale.networks.dense_block import SLOPE
from irnscale.networks.families.gaussian import GaussianConfig
from irnscale.networks.flow import ZeroConv, standard_normal
from irnscale.networks.network import IMAGE_CHANNELS, SamplingNetwork
from irnscale.networks.rrdb import CHANNELS, RRDBEncoder, RRDBHead


class GaussianSR(SamplingNetwork):
    """p(HR | LR) = N(mean, deviation^2) of each value of HR (N, 3, s h, s w), given LR (N, 3, h, w), any h and w.

    mean is that of an `RRDBNet`, pretrained; log deviation a `ZeroConv` of its last features. SRFlow with no steps at
    all: what a flow's bits per dimension must be below for its layers to be worth anything.
    """

    config: GaussianConfig

    def __init__(self, config: GaussianConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or GaussianConfig()
        self.encoder = RRDBEncoder(config.rrdb_blocks, config.rrdb_growth, int(math.log2(config.scale)))
        self.head = RRDBHead()
        self.log_deviation = ZeroConv(CHANNELS, IMAGE_CHANNELS)

    @property
    def support(self) -> int:
        """Small pixels on each side that an output pixel depends on."""
        return self.encoder.support + 1

    @property
    def channels_alive(self) -> int:
        """Four maps of the features of large pixels."""
        return 4 * CHANNELS * self.scale**2

    @property
    def channels_per_sample(self) -> int:
        """Its noise and its picture."""
        return 2 * IMAGE_CHANNELS * self.scale**2

    def features(self, lr: Tensor) -> list[Tensor]:
        """LR -> mean (N, 3, s h, s w) and the features that it is made of, (N, 64, s h, s w)."""
        found, _ = self.encoder(lr)
        return [self.head(self.encoder, found[-1]), F.leaky_relu(found[-1], SLOPE)]

    def conditions(self, features: Sequence[Tensor]) -> list[Tensor]:
        """`features` -> mean and log deviation, (N, 3, s h, s w) each."""
        mean, top = features
        return [mean, self.log_deviation(top)]

    def latents(
        self, lr: Tensor, *, seed: int, temperature: float = 1.0, origin: tuple[int, int] = (0, 0)
    ) -> list[Tensor]:
        """One: of the shape of HR. See `SamplingNetwork`."""
        n, _, height, width = lr.shape
        shape = (1, IMAGE_CHANNELS, height * self.scale, width * self.scale)
        if not temperature:
            return [lr.new_zeros(shape).expand(n, -1, -1, -1)]
        y, x = (place * self.scale for place in origin)
        noise = philox_normal(shape, seed=seed, origin=(0, 0, y, x), dtype=lr.dtype, device=lr.device)
        return [(temperature * noise).expand(n, -1, -1, -1)]

    def encode(self, hr: Tensor, conditions: Sequence[Tensor]) -> list[Tensor]:
        """(HR - mean) / deviation, a single latent."""
        mean, logs = conditions
        return [(hr - mean) * (-logs).exp()]

    def decode(self, latents: Sequence[Tensor], conditions: Sequence[Tensor]) -> Tensor:
        """The inverse of `encode`: mean + deviation latent."""
        mean, logs = conditions
        return latents[0] * logs.exp() + mean

    def log_density(self, hr: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """log p(HR | LR) in nats, (N,), given mean and log deviation."""
        return standard_normal(self.encode(hr, conditions)) - conditions[1].flatten(1).sum(1)

    @torch.no_grad()
    def start(self, hr: Tensor, conditions: Sequence[Tensor]) -> None:
        """Give the deviation of each channel the one that this batch has from the mean."""
        values = (hr - conditions[0]).transpose(0, 1).flatten(1)
        self.log_deviation.bias.copy_(values.square().mean(1).sqrt().clamp(min=1e-6).log())

    def adopt(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
        """Those of an `RRDBNet` for the mean alone; of another network of this kind, all."""
        own = {name: value for name, value in self.state_dict().items() if name.startswith("log_deviation.")}
        return own | tensors, bool(tensors.keys() & own.keys())
