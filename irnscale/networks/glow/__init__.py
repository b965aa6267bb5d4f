"""Glow for small gray pictures, twice: from blocks of our own and from FrEIA's; one flow, one interface.

Every layer is FrEIA's `InvertibleModule`, on (N, C) or (N, C, H, W): `forward((x,), c, rev, jac) -> ((y,), log_det)`.
"""

from __future__ import annotations

from irnscale.networks.families.glow import GlowConfig
from irnscale.networks.glow.flow import Glow

__all__ = ["Glow", "GlowConfig"]
