"""A Gaussian around what a network for super-resolution makes: a flow of one layer, to compare others with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.networks.config import NetworkConfig
from irnscale.networks.families.sr import SRConfig
from irnscale.networks.family import Family

if TYPE_CHECKING:
    from irnscale.networks.gaussian import GaussianNetwork


@dataclass(frozen=True)
class GaussianConfig(NetworkConfig):
    """What defines a `GaussianNetwork` up to its weights; stored on model cards.

    scale: 2, 4 or 8. rrdb_blocks, rrdb_growth: of the network that gives the mean, see `RRDBNet`. plain_blocks,
    plain_channels: where the first is not 0, of the `SRNet` that gives it instead, at scale 2 or 4.
    """

    kind = "gaussian"

    scale: int = 4
    rrdb_blocks: int = 23
    rrdb_growth: int = 32
    plain_blocks: int = 0
    plain_channels: int = 48

    def __post_init__(self) -> None:
        """Raise ValueError for a network that cannot be built."""
        if self.scale not in (2, 4, 8):
            raise ValueError(f"scale of a Gaussian network must be 2, 4 or 8, got {self.scale}")
        self.check_at_least_one("rrdb_blocks", "rrdb_growth")
        if self.plain_blocks:
            SRConfig(self.scale, self.plain_channels, self.plain_blocks)


def _build(config: GaussianConfig) -> GaussianNetwork:
    from irnscale.networks.gaussian import GaussianSR, PlainGaussianSR

    return PlainGaussianSR(config) if config.plain_blocks else GaussianSR(config)


TITLE = "Gaussian for super-resolution x{scale}"
FAMILY = Family(GaussianConfig, "super-resolution", _build, TITLE, samples=True, objective="likelihood")
