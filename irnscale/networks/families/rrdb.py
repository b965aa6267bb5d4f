"""Networks of residual-in-residual dense blocks for super-resolution, and what SRFlow's encoder is pretrained as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.networks.family import Family, NetworkConfig

if TYPE_CHECKING:
    from irnscale.networks.rrdb import RRDBNet


@dataclass(frozen=True)
class RRDBConfig(NetworkConfig):
    """What defines an `RRDBNet` up to its weights; stored on model cards.

    scale: 2, 4 or 8. rrdb_blocks: how many `RRDB`. rrdb_growth: width of their dense blocks.
    """

    kind = "rrdb"

    scale: int = 4
    rrdb_blocks: int = 23
    rrdb_growth: int = 32

    def __post_init__(self) -> None:
        """Raise ValueError for a network that cannot be built."""
        if self.scale not in (2, 4, 8):
            raise ValueError(f"scale of an RRDB network must be 2, 4 or 8, got {self.scale}")
        self.check_at_least_one("rrdb_blocks", "rrdb_growth")


def _build(config: RRDBConfig) -> RRDBNet:
    from irnscale.networks.rrdb import RRDBNet

    return RRDBNet(config)


FAMILY = Family(RRDBConfig, "super-resolution", _build, "RRDB network for super-resolution x{scale}")
