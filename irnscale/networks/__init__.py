"""FrEIA modules and networks: pure tensors, no files, no devices.

Importing this does not import torch, for the sake of the configurations in `families`; using one of its names does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from irnscale.networks.assistant import AssistantFlow
    from irnscale.networks.coupling import EnhancedAffineCoupling
    from irnscale.networks.dense_block import DenseBlock
    from irnscale.networks.families.assistant import AssistantConfig
    from irnscale.networks.families.irn import IRNConfig
    from irnscale.networks.families.sr import SRConfig
    from irnscale.networks.haar import HaarTransform
    from irnscale.networks.irn import IRN
    from irnscale.networks.pointwise import ActNorm, ChannelRotation
    from irnscale.networks.super_resolution import AttentionBlock, SRNet
    from irnscale.networks.unshuffle import UnshuffleMatrix

_HOMES = {
    "IRN": "irn",
    "ActNorm": "pointwise",
    "AssistantConfig": "families.assistant",
    "AssistantFlow": "assistant",
    "AttentionBlock": "super_resolution",
    "ChannelRotation": "pointwise",
    "DenseBlock": "dense_block",
    "EnhancedAffineCoupling": "coupling",
    "HaarTransform": "haar",
    "IRNConfig": "families.irn",
    "SRConfig": "families.sr",
    "SRNet": "super_resolution",
    "UnshuffleMatrix": "unshuffle",
}
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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
