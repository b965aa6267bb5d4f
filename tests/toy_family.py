"""A family of networks in one file: one coupling after one Haar transform. What CONTRIBUTING says a family needs."""

from __future__ import annotations

from dataclasses import dataclass

from irnscale.networks import DenseBlock, EnhancedAffineCoupling, HaarTransform
from irnscale.networks.family import Family, NetworkConfig
from irnscale.networks.network import RescalingNetwork


@dataclass(frozen=True)
class ToyConfig(NetworkConfig):
    """scale: 2. width: of the dense blocks."""

    kind = "toy"

    scale: int = 2
    width: int = 4

    def __post_init__(self) -> None:
        if self.scale != 2:
            raise ValueError(f"scale of a toy must be 2, got {self.scale}")


class Toy(RescalingNetwork):
    """(N, 3, H, W) <-> (N, 12, H/2, W/2)."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__(config.scale)
        self.config = config
        self.append(HaarTransform)
        self.append(EnhancedAffineCoupling, subnet_constructor=lambda i, o: DenseBlock(i, o, config.width))


FAMILY = Family(ToyConfig, "rescaling", Toy, "toy x{scale}")
