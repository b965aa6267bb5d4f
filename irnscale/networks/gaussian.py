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
from irnscale.networks.families.sr import SRConfig
from irnscale.networks.flow import ZeroConv, standard_normal
from irnscale.networks.network import IMAGE_CHANNELS, SamplingNetwork
from irnscale.networks.rrdb import CHANNELS, RRDBEncoder, RRDBHead
from irnscale.networks.super_resolution import SRNet


class GaussianNetwork(SamplingNetwork):
    """p(HR | LR) = N(mean, deviation^2) of each value of HR (N, 3, s h, s w), given LR (N, 3, h, w), any h and w.

    mean is what a pretrained network for super-resolution makes; log deviation a `ZeroConv` of its last features. A
    flow with no steps at all: what another's bits per dimension must be below for its layers to be worth anything.
    """

    config: GaussianConfig
    log_deviation: ZeroConv

    @property
    def channels_per_sample(self) -> int:
        """Its noise and its picture."""
        return 2 * IMAGE_CHANNELS * self.scale**2

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
        deviation = values.square().mean(1).sqrt().clamp(min=1e-6)
        bias = self.log_deviation.bias
        bias.copy_(deviation.log().repeat_interleave(len(bias) // IMAGE_CHANNELS))

    def adopt(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
        """Those of a network of the mean's kind for the mean alone; of another network of this kind, all."""
        own = {name: value for name, value in self.state_dict().items() if name.startswith("log_deviation.")}
        if tensors.keys() & own.keys():
            return tensors, True
        return own | self._of_the_mean(tensors), False

    def _of_the_mean(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weights of the mean, of a file of that network alone."""
        return tensors


class GaussianSR(GaussianNetwork):
    """A `GaussianNetwork` around an `RRDBNet`; its deviation is that of its last features, on HR's grid."""

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

    def features(self, lr: Tensor) -> list[Tensor]:
        """LR -> mean (N, 3, s h, s w) and the features that it is made of, (N, 64, s h, s w)."""
        found, _ = self.encoder(lr)
        return [self.head(self.encoder, found[-1]), F.leaky_relu(found[-1], SLOPE)]

    def conditions(self, features: Sequence[Tensor]) -> list[Tensor]:
        """`features` -> mean and log deviation, (N, 3, s h, s w) each."""
        mean, top = features
        return [mean, self.log_deviation(top)]


class PlainGaussianSR(GaussianNetwork):
    """A `GaussianNetwork` around an `SRNet`; its deviation is that of the joined features, on LR's grid."""

    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = SRNet(SRConfig(config.scale, config.plain_channels, config.plain_blocks))
        self.log_deviation = ZeroConv(self.encoder.joined_channels, IMAGE_CHANNELS * config.scale**2)

    @property
    def support(self) -> int:
        """Small pixels on each side that an output pixel depends on."""
        return self.encoder.support + 1

    @property
    def channels_alive(self) -> int:
        """Those of the plain network, and the deviation."""
        return self.encoder.channels_alive + 2 * IMAGE_CHANNELS * self.scale**2

    def features(self, lr: Tensor) -> list[Tensor]:
        """LR -> mean (N, 3, s h, s w) and the features that it is made of, (N, 4 channels, h, w)."""
        joined = self.encoder.features(lr)
        return [self.encoder.picture(lr, joined), joined.to(lr.dtype)]

    def conditions(self, features: Sequence[Tensor]) -> list[Tensor]:
        """`features` -> mean and log deviation, (N, 3, s h, s w) each."""
        mean, joined = features
        return [mean, F.pixel_shuffle(self.log_deviation(joined), self.scale)]

    def _of_the_mean(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        plain, _ = self.encoder.adopt(tensors)
        return {f"encoder.{name}": value for name, value in plain.items()}
