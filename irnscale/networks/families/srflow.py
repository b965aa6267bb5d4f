"""SRFlow: conditional flows for super-resolution, which give a different large picture for each seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.networks.family import Family, NetworkConfig

if TYPE_CHECKING:
    from irnscale.networks.srflow import SRFlow

TAPS = {4: (0, 1, 2, 3), 8: (1, 3, 5, 7), 23: (1, 8, 15, 22)}
"""By the number of blocks: those whose features are read. 8 and 23 are published; SRFlow x8 of photographs has 23
blocks and reads those of 8."""
SCALES = ("glow", "squish", "atan")
MIXINGS = ("full", "plu")


@dataclass(frozen=True)
class SRFlowConfig(NetworkConfig):
    """What defines an `SRFlow` up to its weights; stored on model cards.

    scale: 4 or 8. rrdb_blocks, rrdb_growth: of the encoder, see `RRDBEncoder`. taps: the blocks, counted from 0, whose
    features are read beside those at the end (empty: the usual ones of 4, 8 and 23 blocks). flow_steps, flow_hidden: K
    and the width of the subnets. adapter: channels that a 1 x 1 convolution makes of each level's condition, which is
    64 for the end and for each of the taps; 0: none. flow_scale: of the affine layers, see `flow.scales`. flow_mixing:
    of the 1 x 1 convolutions, see `flow.mixing`. head: whether
    the encoder keeps the layers that its pretraining alone needs, as the published files do.
    """

    kind = "srflow"

    scale: int = 4
    rrdb_blocks: int = 23
    rrdb_growth: int = 32
    taps: Sequence[int] = ()
    flow_steps: int = 16
    flow_hidden: int = 64
    adapter: int = 0
    flow_scale: str = "glow"
    flow_mixing: str = "full"
    head: bool = True

    def __post_init__(self) -> None:
        """Raise ValueError for a network that cannot be built."""
        if self.scale not in (4, 8):
            raise ValueError(f"scale of SRFlow must be 4 or 8, got {self.scale}")
        for name, least in (
            ("rrdb_blocks", 1),
            ("rrdb_growth", 1),
            ("flow_steps", 1),
            ("flow_hidden", 1),
            ("adapter", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name, allowed in (("flow_scale", SCALES), ("flow_mixing", MIXINGS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)}")
        taps = tuple(self.taps) or TAPS.get(self.rrdb_blocks, ())
        if not taps or list(taps) != sorted(set(taps)) or not 0 <= taps[0] <= taps[-1] < self.rrdb_blocks:
            raise ValueError(f"taps must be rising numbers of the {self.rrdb_blocks} blocks from 0, got {self.taps}")
        object.__setattr__(self, "taps", taps)

    @property
    def levels(self) -> int:
        """Of the flow: the last is on a grid half as fine as the small picture's."""
        return int(math.log2(self.scale)) + 1


def _build(config: SRFlowConfig) -> SRFlow:
    from irnscale.networks.srflow import SRFlow

    return SRFlow(config)


FAMILY = Family(SRFlowConfig, "super-resolution", _build, "SRFlow x{scale}", samples=True, objective="likelihood")
