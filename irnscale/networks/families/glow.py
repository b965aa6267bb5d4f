"""Glow for small gray pictures, from blocks of our own or of FrEIA: a density, trained on 8x8 digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.networks.family import Family, NetworkConfig

if TYPE_CHECKING:
    from irnscale.networks.glow.flow import Glow

BACKENDS = ("torch", "freia", "freia-allinone")
SUBNETS = ("fc", "conv")
MIXINGS = ("conv", "rotation", "permutation")
CLAMPS = ("glow", "behrmann", "tanh")


@dataclass(frozen=True)
class GlowConfig(NetworkConfig):
    """What defines a Glow up to its weights.

    backend: "torch", "freia" (ActNorm, fixed 1x1 convolution and one-sided affine coupling of FrEIA) or
    "freia-allinone" (FrEIA's AllInOneBlock, as in the dissertation). size: pixels on a side. steps: flow steps of
    ActNorm, mixing and coupling. subnet: "fc" sees a picture as size^2 channels, "conv" as 4 channels of half the size;
    hidden is its width. mixing: "conv" is the learned 1x1 convolution (torch only), "rotation" the same, fixed, and
    "permutation" a fixed order. clamp: "glow" or "behrmann"; AllInOneBlock has its own, "tanh".
    """

    kind = "glow"

    backend: str = "torch"
    size: int = 8
    steps: int = 8
    hidden: int = 128
    subnet: str = "fc"
    mixing: str = "conv"
    clamp: str = "glow"

    def __post_init__(self) -> None:
        """Raise ValueError for a flow that cannot be built."""
        for name, kinds in (("backend", BACKENDS), ("subnet", SUBNETS), ("mixing", MIXINGS), ("clamp", CLAMPS)):
            if getattr(self, name) not in kinds:
                raise ValueError(f"{name}={getattr(self, name)} must be one of {', '.join(kinds)}")
        if self.size < 2 or self.size % 2:
            raise ValueError(f"size={self.size} must be even")
        for name in ("steps", "hidden"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.backend != "torch" and self.mixing == "conv":
            raise ValueError(
                f"mixing=conv: FrEIA 0.2 has no learned 1x1 convolution; backend={self.backend} takes others"
            )
        if (self.clamp == "tanh") != (self.backend == "freia-allinone"):
            raise ValueError(f"clamp={self.clamp} does not go with backend={self.backend}: tanh is AllInOneBlock's own")

    @property
    def scale(self) -> int:
        """A density keeps the size: 1."""
        return 1

    @property
    def dims(self) -> tuple[int, ...]:
        """Shape of one latent: (D,) or (4, size/2, size/2)."""
        return (self.size**2,) if self.subnet == "fc" else (4, self.size // 2, self.size // 2)


def _build(config: GlowConfig) -> Glow:
    from irnscale.networks.glow.flow import Glow

    return Glow(config)


FAMILY = Family(GlowConfig, "density", _build, "Glow")
