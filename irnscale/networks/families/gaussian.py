"""A Gaussian around what a network of residual-in-residual dense blocks makes: a flow of one layer, to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.networks.config import NetworkConfig
from irnscale.networks.family import Family

if TYPE_CHECKING:
    from irnscale.networks.gaussian import GaussianSR


@dataclass(frozen=True)
class GaussianConfig(NetworkConfig):
    """What defines a `GaussianSR` up to its weights; stored on model cards.

    scale: 2, 4 or 8. rrdb_blocks, rrdb_growth: of the network that gives the mean, see `RRDBNet`.
    """

    kind = "gaussian"

    scale: int = 4
    rrdb_blocks: int = 23
    rrdb_growth: int = 32

    def __post_init__(self) -> None:
        """Raise ValueError for a network that cannot be built."""
        if self.scale not in (2, 4, 8):
            raise ValueError(f"scale of a Gaussian network must be 2, 4 or 8, got {self.scale}")
        self.check_at_least_one("rrdb_blocks", "rrdb_growth")


def _build(config: GaussianConfig) -> GaussianSR:
    from irnscale.networks.gaussian import GaussianSR

    return GaussianSR(config)


TITLE = "Gaussian for super-resolution x{scale}"
FAMILY = Family(GaussianConfig, "super-resolution", _build, TITLE, samples=True, objective="likelihood")
