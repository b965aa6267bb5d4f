"""Plain convolutional networks for super-resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.networks.family import Family, NetworkConfig

if TYPE_CHECKING:
    from irnscale.networks.super_resolution import SRNet


@dataclass(frozen=True)
class SRConfig(NetworkConfig):
    """What defines an `SRNet` up to its weights; stored on model cards.

    scale: 2, 3 or 4. channels: of all features. blocks: how many `AttentionBlock`s, at least 2.
    """

    kind = "sr"

    scale: int = 4
    channels: int = 48
    blocks: int = 6

    def __post_init__(self) -> None:
        if self.scale not in (2, 3, 4):
            raise ValueError(f"scale of a super-resolution network must be 2, 3 or 4, got {self.scale}")
        self.check_at_least_one("channels")
        if self.blocks < 2:
            raise ValueError(f"blocks of a super-resolution network must be at least 2, got {self.blocks}")


def _build(config: SRConfig) -> SRNet:
    from irnscale.networks.super_resolution import SRNet

    return SRNet(config)


FAMILY = Family(SRConfig, "super-resolution", _build, "super-resolution x{scale}", recipe_key="blocks")
