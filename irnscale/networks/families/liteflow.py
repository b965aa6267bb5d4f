"""Conditional flows of what a plain network for super-resolution leaves: another large picture for each seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.networks.families.sr import SRConfig
from irnscale.networks.family import Family
from irnscale.networks.flow_config import FlowNetworkConfig

if TYPE_CHECKING:
    from irnscale.networks.liteflow import LiteFlow


@dataclass(frozen=True)
class LiteFlowConfig(FlowNetworkConfig):
    """What defines a `LiteFlow` up to its weights; stored on model cards.

    scale: 2 or 4. plain_blocks, plain_channels: of the plain network, see `SRConfig`. condition: channels of the
    condition of each level.
    """

    kind = "liteflow"
    scales = (2, 4)

    plain_blocks: int = 6
    plain_channels: int = 48
    condition: int = 64
    flow_steps: int = 8
    flow_scale: str = "squish"

    def __post_init__(self) -> None:
        """Raise ValueError for a network that cannot be built."""
        super().__post_init__()
        self.check_at_least_one("condition")
        _ = self.plain

    @property
    def plain(self) -> SRConfig:
        """Of the network whose pictures are the mean."""
        return SRConfig(scale=self.scale, channels=self.plain_channels, blocks=self.plain_blocks)


def _build(config: LiteFlowConfig) -> LiteFlow:
    from irnscale.networks.liteflow import LiteFlow

    return LiteFlow(config)


TITLE = "flow beside a plain network x{scale}"
FAMILY = Family(LiteFlowConfig, "super-resolution", _build, TITLE, samples=True, objective="likelihood")
