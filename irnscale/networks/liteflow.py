"""SRFlow's flow in a short time: of what a plain network for super-resolution leaves, given that network's features."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from irnscale.networks.families.liteflow import LiteFlowConfig
from irnscale.networks.flow_network import FlowNetwork
from irnscale.networks.network import IMAGE_CHANNELS
from irnscale.networks.super_resolution import SRNet


class LiteFlow(FlowNetwork):
    """p(HR | LR): a conditional flow between HR - m (N, 3, s h, s w) and standard normal latents, given LR
    (N, 3, h, w), where m is what an `SRNet`, pretrained, makes of LR.

    The condition of a level has two parts, each through a 1 x 1 convolution: the features that m is made of, which lie
    on LR's grid and are spread to 2 x 2 finer places by channels of their own or averaged over 2 x 2 for a coarser one,
    and m itself, the pixels of a place side by side as channels. So the mode starts as m, which SRFlow (Lugmayr et al.
    2020) has to learn by likelihood alone, and the features come from a network a seventh the size of its small
    encoder's. All else is SRFlow's. See `FlowNetwork` for sizes and precision.
    """

    config: LiteFlowConfig
    encoder: SRNet

    def __init__(self, config: LiteFlowConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LiteFlowConfig()
        self.encoder = SRNet(config.plain)
        self.feature_channels = self.encoder.joined_channels
        finer = [self._finer(level) for level in range(config.levels)]
        self.spread = nn.ModuleList(
            nn.Conv2d(self.feature_channels, config.condition * repeats**2, 1) for repeats in finer
        )
        self.gathered = nn.ModuleList(
            nn.Conv2d(IMAGE_CHANNELS * 4 ** (level + 1), config.condition, 1, bias=False)
            for level in range(config.levels)
        )
        self.flow = self.build_flow(config, config.condition)

    def _finer(self, level: int) -> int:
        """Places of the grid of HR/2^(level + 1) along a small pixel's side, at least 1."""
        return max(1, self.config.scale >> level + 1)

    def features(self, lr: Tensor) -> list[Tensor]:
        """LR (N, 3, h, w), h and w even -> the plain network's features, (N, 4 channels, h, w), and m."""
        self.check_sides(lr)
        joined = self.encoder.features(lr)
        return [joined.to(lr.dtype), self.encoder.picture(lr, joined)]

    def conditions(self, features: Sequence[Tensor]) -> list[Tensor]:
        """`features` -> the condition of each level, (N, condition, H/2^l, W/2^l), and m, (N, 3, H, W)."""
        joined, mean = features
        found = []
        for level, (spread, gathered) in enumerate(zip(self.spread, self.gathered, strict=True)):
            finer = self._finer(level)
            coarser = 2 ** (level + 1) // self.config.scale
            source = F.avg_pool2d(joined, coarser) if coarser > 1 else joined
            beside = gathered(F.pixel_unshuffle(mean - 0.5, 2 ** (level + 1)))
            found.append(F.pixel_shuffle(spread(source), finer) + beside)
        return [*found, mean]

    def encode(self, hr: Tensor, conditions: Sequence[Tensor]) -> list[Tensor]:
        """HR, sides multiples of 2 scale, -> the latents of HR - m."""
        return super().encode(hr - conditions[-1], conditions[:-1])

    def decode(self, latents: Sequence[Tensor], conditions: Sequence[Tensor]) -> Tensor:
        """The inverse of `encode`: latents, given the conditions of LR -> HR (N, 3, H, W), unclamped."""
        return super().decode(latents, conditions[:-1]) + conditions[-1]

    def log_density(self, hr: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """log p(HR | LR) in nats, (N,), given the conditions of LR."""
        return super().log_density(hr - conditions[-1], conditions[:-1])

    def start(self, hr: Tensor, conditions: Sequence[Tensor]) -> None:
        """Give the normalisations of the flow the statistics of HR - m of this batch."""
        super().start(hr - conditions[-1], conditions[:-1])

    def adopt(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
        """Those of an `SRNet` for m alone; of another network of this kind, all."""
        if not tensors or any(name.startswith("flow.") for name in tensors):
            return tensors, True
        plain, _ = self.encoder.adopt(tensors)
        own = {name: value for name, value in self.state_dict().items() if not name.startswith("encoder.")}
        return own | {f"encoder.{name}": value for name, value in plain.items()}, False
