"""FrEIA modules and networks: pure tensors, no files, no devices."""

from __future__ import annotations

from irnscale.networks.coupling import EnhancedAffineCoupling
from irnscale.networks.dense_block import DenseBlock
from irnscale.networks.haar import HaarTransform
from irnscale.networks.irn import IRN, IRNConfig

__all__ = ["IRN", "DenseBlock", "EnhancedAffineCoupling", "HaarTransform", "IRNConfig"]
