"""Conditional flows of what a plain network for super-resolution leaves: another large picture for each seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.networks.families.sr import SRConfig
from irnscale.networks.families.srflow import MIXINGS, SCALES
from irnscale.networks.family import Family, NetworkConfig

if TYPE_CHECKING:
    from irnscale.networks.liteflow import LiteFlow


@dataclass(frozen=True)
class LiteFlowConfig(NetworkConfig):
    """What defines a `LiteFlow` up to its weights; stored on model cards.

    scale: 2 or 4. plain_blocks, plain_channels: of the plain network, see `SRConfig`. condition: channels of the
    condition of each level. flow_steps, flow_hidden: K and the width of the subnets. flow_scale: of the affine layers,
    see `flow.scales`. flow_mixing: of the 1 x 1 convolutions, see `flow.mixing`.
    """

    kind = "liteflow"

    scale: int = 4
    plain_blocks: int = 6
    plain_channels: int = 48
    condition: int = 64
    flow_steps: int = 8
    flow_hidden: int = 64
    flow_scale: str = "squish"
    flow_mixing: str = "full"

    def __post_init__(self) -> None:
        """Raise ValueError for a network that cannot be built."""
        if self.scale not in (2, 4):
            raise ValueError(f"scale of a flow beside a plain network must be 2 or 4, got {self.scale}")
        self.check_at_least_one("condition", "flow_steps", "flow_hidden")
        for name, allowed in (("flow_scale", SCALES), ("flow_mixing", MIXINGS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)}")
        _ = self.plain

    @property
    def plain(self) -> SRConfig:
        """Of the network whose pictures are the mean."""
        return SRConfig(scale=self.scale, channels=self.plain_channels, blocks=self.plain_blocks)

    @property
    def levels(self) -> int:
        """Of the flow: the last is on a grid half as fine as the small picture's."""
        return int(math.log2(self.scale)) + 1


def _build(config: LiteFlowConfig) -> LiteFlow:
    from irnscale.networks.liteflow import LiteFlow

    return LiteFlow(config)


TITLE = "flow beside a plain network x{scale}"
FAMILY = Family(LiteFlowConfig, "super-resolution", _build, TITLE, samples=True, objective="likelihood")
