"""SRFlow: a distribution over the large pictures that a small one may come from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irnscale.networks.families.srflow import SRFlowConfig
from irnscale.networks.flow_network import FlowNetwork
from irnscale.networks.rrdb import CHANNELS, RRDBEncoder, RRDBHead


class SRFlow(FlowNetwork):
    """p(HR | LR): a conditional flow between HR (N, 3, s h, s w) and standard normal latents, given LR (N, 3, h, w).

    The condition of level l, on the grid of HR/2^l, is the encoder's feature of that size (that of the small picture,
    halved by means of 2 x 2, below it) beside the features after the `taps`, resized to it by nearest neighbours, and
    an `adapter` may make fewer channels of them. Pixels are in [0, 1], as they are: the flow sees HR itself. Source:
    Lugmayr et al. 2020 (SRFlow), section 3, and their code for what it leaves open.

    See `FlowNetwork` for sizes and precision.
    """

    config: SRFlowConfig
    encoder: RRDBEncoder
    feature_channels = CHANNELS

    def __init__(self, config: SRFlowConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SRFlowConfig()
        used = config.levels - 2  # of the enlargements: the finest level is on half of HR's grid
        self.encoder = RRDBEncoder(config.rrdb_blocks, config.rrdb_growth, used + (1 if config.head else 0))
        self.head = RRDBHead() if config.head else None
        self.adapters = nn.ModuleList()
        read = CHANNELS * (1 + len(config.taps))
        if config.adapter:
            self.adapters.extend(nn.Conv2d(read, config.adapter, 1) for _ in range(config.levels))
        self.flow = self.build_flow(config, config.adapter or read)

    def features(self, lr: Tensor) -> list[Tensor]:
        """LR (N, 3, h, w), h and w even -> a feature for each level, from HR/2 downwards, and those after the taps."""
        self.check_sides(lr)
        found, taps = self.encoder(lr, tuple(self.config.taps))
        assert taps is not None
        used = self.config.levels - 2  # of the enlargements
        return [*reversed(found[: used + 1]), F.avg_pool2d(found[0], 2), taps]

    def conditions(self, features: Sequence[Tensor]) -> list[Tensor]:
        """`features` -> the condition of each level, (N, C, H/2^l, W/2^l)."""
        *own, taps = features
        return [self._condition(level, feature, taps) for level, feature in enumerate(own)]

    def _condition(self, level: int, feature: Tensor, taps: Tensor) -> Tensor:
        if not self.config.adapter:
            return torch.cat((feature, _nearest(taps, feature)), dim=1)
        # A convolution of single pixels and a nearest neighbour may change places: few channels are resized then.
        adapter = self.adapters[level]
        assert isinstance(adapter, nn.Conv2d)
        fine, coarse = torch.split(adapter.weight, [CHANNELS, taps.shape[1]], dim=1)
        if feature.shape[2] < taps.shape[2]:
            return F.conv2d(feature, fine, adapter.bias) + F.conv2d(_nearest(taps, feature), coarse)
        return F.conv2d(feature, fine, adapter.bias) + _nearest(F.conv2d(taps, coarse), feature)

    def adopt(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
        """Those of an `RRDBNet` for the encoder alone; of another SRFlow, all."""
        if not tensors or any(name.startswith("flow.") for name in tensors):
            return tensors, True
        own = self.state_dict()
        encoder = {name for name in own if name.startswith(("encoder.", "head."))}
        unused = {name for name in tensors if name.startswith(("encoder.upconvs.", "head."))} - encoder
        return {name: tensors[name] for name in tensors if name not in unused} | {
            name: value for name, value in own.items() if name not in encoder
        }, False


def _nearest(x: Tensor, like: Tensor) -> Tensor:
    """x resized to the grid of `like` by nearest neighbours: repeated, or every second one."""
    if x.shape[2] > like.shape[2]:
        return x[:, :, ::2, ::2]
    repeats = like.shape[2] // x.shape[2]
    return F.interpolate(x, scale_factor=repeats, mode="nearest") if repeats > 1 else x
