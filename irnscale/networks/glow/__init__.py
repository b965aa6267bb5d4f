"""Glow for small gray pictures, twice: in plain PyTorch and from FrEIA's blocks; one flow, one interface."""

from __future__ import annotations

from irnscale.networks.glow.flow import Glow, GlowConfig
from irnscale.networks.glow.freia_glow import FreiaGlow
from irnscale.networks.glow.torch_glow import TorchGlow

__all__ = ["FreiaGlow", "Glow", "GlowConfig", "TorchGlow", "build_glow"]


def build_glow(config: GlowConfig) -> Glow:
    """The untrained flow that `config` describes; its weights come from torch's random state."""
    return TorchGlow(config) if config.backend == "torch" else FreiaGlow(config)
