"""Assistants of IRN: conditional flows that say what a frozen IRN threw away, from the small picture that it kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.networks.config import NetworkConfig
from irnscale.networks.family import Family

if TYPE_CHECKING:
    from irnscale.networks.assisted import LatentFlow


@dataclass(frozen=True)
class AssistedConfig(NetworkConfig):
    """What defines a `LatentFlow` up to its weights; stored on model cards.

    scale: of the network that is assisted, 2, 3, 4, 8 or 16: z has 3 scale^2 - 3 channels. flow_steps, flow_hidden: of
    the flow, and the width of its subnets. rrdb_blocks, rrdb_growth: of what makes the condition, see `RRDBEncoder`.
    """

    kind = "assisted"

    scale: int = 4
    flow_steps: int = 6
    flow_hidden: int = 64
    rrdb_blocks: int = 3
    rrdb_growth: int = 16

    def __post_init__(self) -> None:
        """Raise ValueError for a network that cannot be built."""
        if self.scale not in (2, 3, 4, 8, 16):
            raise ValueError(f"scale must be 2, 3, 4, 8 or 16, got {self.scale}")
        self.check_at_least_one("flow_steps", "flow_hidden", "rrdb_blocks", "rrdb_growth")


def _build(config: AssistedConfig) -> LatentFlow:
    from irnscale.networks.assisted import LatentFlow

    return LatentFlow(config)


FAMILY = Family(AssistedConfig, "completion", _build, "what {base} throws away, by the small picture")
