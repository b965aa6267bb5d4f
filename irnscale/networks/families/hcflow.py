"""HCFlow for rescaling: IRN's kind of trunk, and conditional flows that say what it throws away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.networks.config import NetworkConfig
from irnscale.networks.family import Family

if TYPE_CHECKING:
    from irnscale.networks.hcflow import HCFlow


@dataclass(frozen=True)
class HCFlowConfig(NetworkConfig):
    """What defines an `HCFlow` up to its weights; stored on model cards.

    scale: 4. main_steps: of the trunk at each of its two levels. growth: width of their dense blocks. flow_steps,
    flow_hidden: of the conditional flow of each level, and the width of its subnets. rrdb_blocks, rrdb_growth: of what
    makes their conditions, see `RRDBEncoder`.
    """

    kind = "hcflow"

    scale: int = 4
    main_steps: int = 8
    growth: int = 32
    flow_steps: int = 6
    flow_hidden: int = 64
    rrdb_blocks: int = 3
    rrdb_growth: int = 16

    def __post_init__(self) -> None:
        """Raise ValueError for a network that cannot be built."""
        if self.scale != 4:
            raise ValueError(f"scale of HCFlow must be 4, got {self.scale}")
        self.check_at_least_one("main_steps", "growth", "flow_steps", "flow_hidden", "rrdb_blocks", "rrdb_growth")


def _build(config: HCFlowConfig) -> HCFlow:
    from irnscale.networks.hcflow import HCFlow

    return HCFlow(config)


FAMILY = Family(HCFlowConfig, "rescaling", _build, "HCFlow x{scale}")
