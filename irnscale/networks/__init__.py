"""FrEIA modules and networks: pure tensors, no files, no devices."""

from __future__ import annotations

from irnscale.networks.assistant import AssistantConfig, AssistantFlow
from irnscale.networks.coupling import EnhancedAffineCoupling
from irnscale.networks.dense_block import DenseBlock
from irnscale.networks.haar import HaarTransform
from irnscale.networks.irn import IRN, IRNConfig
from irnscale.networks.pointwise import ActNorm, ChannelRotation
from irnscale.networks.super_resolution import AttentionBlock, SRConfig, SRNet
from irnscale.networks.unshuffle import UnshuffleMatrix

__all__ = [
    "IRN",
    "ActNorm",
    "AssistantConfig",
    "AssistantFlow",
    "AttentionBlock",
    "ChannelRotation",
    "DenseBlock",
    "EnhancedAffineCoupling",
    "HaarTransform",
    "IRNConfig",
    "SRConfig",
    "SRNet",
    "UnshuffleMatrix",
]
