"""What the configurations of all conditional multi-scale flows for super-resolution have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from irnscale.networks.config import NetworkConfig

SCALES = ("glow", "squish", "atan")
MIXINGS = ("full", "plu")


@dataclass(frozen=True)
class FlowNetworkConfig(NetworkConfig):
    """What defines the flow of a `FlowNetwork`, beside its encoder and its conditions.

    scale: one of the family's `scales`. flow_steps, flow_hidden: K and the width of the subnets. flow_scale: of the
    affine layers, see `flow.scales`. flow_mixing: of the 1 x 1 convolutions, see `flow.mixing`.
    """

    scales: ClassVar[tuple[int, ...]] = (2, 4, 8)

    scale: int = 4
    flow_steps: int = 16
    flow_hidden: int = 64
    flow_scale: str = "glow"
    flow_mixing: str = "full"

    def __post_init__(self) -> None:
        """Raise ValueError for a flow that cannot be built."""
        if self.scale not in self.scales:
            raise ValueError(f"scale must be {' or '.join(map(str, self.scales))}, got {self.scale}")
        self.check_at_least_one("flow_steps", "flow_hidden")
        for name, allowed in (("flow_scale", SCALES), ("flow_mixing", MIXINGS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)}")

    @property
    def levels(self) -> int:
        """Of the flow: the last is on a grid half as fine as the small picture's."""
        return int(math.log2(self.scale)) + 1
