"""What both implementations share: their settings, the likelihood and sampling."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from irnscale.networks.glow.clamps import CLAMPS, Clamp
from irnscale.networks.glow.coupling import SubnetConstructor
from irnscale.networks.glow.subnets import convolutional, fully_connected

Backend = Literal["torch", "freia", "freia-allinone"]
Subnet = Literal["fc", "conv"]
Mixing = Literal["conv", "rotation", "permutation"]


@dataclass(frozen=True)
class GlowConfig:
    """What defines a Glow up to its weights.

    backend: "torch", "freia" (ActNorm, fixed 1x1 convolution and one-sided affine coupling of FrEIA) or
    "freia-allinone" (FrEIA's AllInOneBlock, as in the dissertation). size: pixels on a side. steps: flow steps of
    ActNorm, mixing and coupling. subnet: "fc" sees a picture as size^2 channels, "conv" as 4 channels of half the size;
    hidden is its width. mixing: "conv" is the learned 1x1 convolution (torch only), "rotation" the same, fixed, and
    "permutation" a fixed order. clamp: "glow" or "behrmann"; AllInOneBlock has its own, "tanh".
    """

    backend: Backend = "torch"
    size: int = 8
    steps: int = 8
    hidden: int = 128
    subnet: Subnet = "fc"
    mixing: Mixing = "conv"
    clamp: Clamp = "glow"

    def __post_init__(self) -> None:
        """Raise ValueError for a flow that cannot be built."""
        for name, kinds in (("backend", get_args(Backend)), ("subnet", get_args(Subnet)), ("mixing", get_args(Mixing))):
            if getattr(self, name) not in kinds:
                raise ValueError(f"{name}={getattr(self, name)} must be one of {', '.join(kinds)}")
        if self.clamp not in CLAMPS:
            raise ValueError(f"clamp={self.clamp} must be one of {', '.join(CLAMPS)}")
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
    def dims(self) -> tuple[int, ...]:
        """Shape of one latent: (D,) or (4, size/2, size/2)."""
        return (self.size**2,) if self.subnet == "fc" else (4, self.size // 2, self.size // 2)

    @property
    def subnet_constructor(self) -> SubnetConstructor:
        """Makes a coupling's subnet from its numbers of channels."""
        return partial(fully_connected if self.subnet == "fc" else convolutional, hidden=self.hidden)

    def to_dict(self) -> dict[str, Any]:
        """The fields as an object for JSON: names to numbers and strings."""
        return asdict(self)


class Glow(nn.Module):
    """A normalising flow between pictures (N, 1, size, size), any real values, and latents (N, *dims) ~ N(0, 1).

    Subclasses give `encode` and `decode`. The first batch through `encode` initialises every ActNorm.
    """

    def __init__(self, config: GlowConfig) -> None:
        super().__init__()
        self.config = config

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures -> latents (N, *dims) and log|det dz/dx| (N,)."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Latents -> pictures and log|det dx/dz| (N,)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (N,), by the change of variables (the dissertation's equation 2.16)."""
        z, log_det = self.encode(x)
        z = z.flatten(1)
        return log_det - 0.5 * (z.square().sum(1) + z.shape[1] * math.log(2 * math.pi))

    @torch.no_grad()
    def sample(self, count: int, temperature: float = 1.0, generator: torch.Generator | None = None) -> Tensor:
        """(count, 1, size, size): decoded latents of standard deviation `temperature`."""
        first = next(self.parameters())
        z = torch.randn(count, *self.config.dims, generator=generator, dtype=first.dtype, device=first.device)
        return self.decode(z * temperature)[0]
