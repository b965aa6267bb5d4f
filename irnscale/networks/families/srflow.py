"""SRFlow: conditional flows for super-resolution, which give a different large picture for each seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.networks.family import Family
from irnscale.networks.flow_config import FlowNetworkConfig

if TYPE_CHECKING:
    from irnscale.networks.srflow import SRFlow

TAPS = {4: (0, 1, 2, 3), 8: (1, 3, 5, 7), 23: (1, 8, 15, 22)}
"""By the number of blocks: those whose features are read. 8 and 23 are published; SRFlow x8 of photographs has 23
blocks and reads those of 8."""


@dataclass(frozen=True)
class SRFlowConfig(FlowNetworkConfig):
    """What defines an `SRFlow` up to its weights; stored on model cards.

    scale: 4 or 8. rrdb_blocks, rrdb_growth: of the encoder, see `RRDBEncoder`. taps: the blocks, counted from 0, whose
    features are read beside those at the end (empty: the usual ones of 4, 8 and 23 blocks). adapter: channels that a
    1 x 1 convolution makes of each level's condition, which is 64 for the end and for each of the taps; 0: none. head:
    whether the encoder keeps the layers that its pretraining alone needs, as the published files do.
    """

    kind = "srflow"
    scales = (4, 8)

    rrdb_blocks: int = 23
    rrdb_growth: int = 32
    taps: Sequence[int] = ()
    adapter: int = 0
    head: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for a network that cannot be built."""
        super().__post_init__()
        self.check_at_least_one("rrdb_blocks", "rrdb_growth")
        if self.adapter < 0:
            raise ValueError(f"adapter must be at least 0, got {self.adapter}")
        taps = tuple(self.taps) or TAPS.get(self.rrdb_blocks, ())
        if not taps or list(taps) != sorted(set(taps)) or not 0 <= taps[0] <= taps[-1] < self.rrdb_blocks:
            raise ValueError(f"taps must be rising numbers of the {self.rrdb_blocks} blocks from 0, got {self.taps}")
        object.__setattr__(self, "taps", taps)


def _build(config: SRFlowConfig) -> SRFlow:
    from irnscale.networks.srflow import SRFlow

    return SRFlow(config)


FAMILY = Family(SRFlowConfig, "super-resolution", _build, "SRFlow x{scale}", samples=True, objective="likelihood")
