"""Reading weights in the naming of SRFlow's code (andreas128/SRFlow), and of ESRGAN's RRDB network alone.

`RRDB.` is the encoder: `conv_first`, `RRDB_trunk.N.RDBk.convJ`, `trunk_conv`, `upconvN`, `HRconv`, `conv_last`; in a
file of that network alone there is no such prefix. `flowUpsamplerNet.layers.N` counts squeezes, steps and splits alike:
`actnorm.bias|logs`, `invconv.weight`, `affine.fFeatures.` (the injector's subnet) and `affine.fAffine.` (that of the
coupling) with `0|2.weight`, `0|2.actnorm.bias|logs`, `4.weight|bias|logs`, and a split's `conv.weight|bias|logs`.
`flowUpsamplerNet.f` is a convolution that nothing runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from irnscale.errors import ModelError
from irnscale.networks.config import NetworkConfig
from irnscale.networks.families.rrdb import RRDBConfig
from irnscale.networks.families.srflow import TAPS, SRFlowConfig

FLOW, ENCODER = "flowUpsamplerNet.", "RRDB."
LARGEST = 2**24
"""Elements of a weight, and `WIDEST` channels of a layer, beyond which a file is not one of these networks."""
WIDEST = 1024
_LAYOUT = "give a checkpoint of SRFlow's code, x4 or x8, or of its RRDB network"
_BLOCK = re.compile(r"RRDB_trunk\.(\d{1,9})\.RDB1\.conv1\.weight")
_STEP = re.compile(r"flowUpsamplerNet\.layers\.(\d{1,9})\.affine\.fAffine\.0\.weight")
_PARTS = (
    ("conv_first", "encoder.conv_first"),
    ("trunk_conv", "encoder.trunk_conv"),
    ("HRconv", "head.conv_hr"),
    ("conv_last", "head.conv_last"),
)
_SUBNET = (
    ("0.weight", "conv1.weight"),
    ("0.actnorm.bias", "norm1.bias"),
    ("0.actnorm.logs", "norm1.log_scale"),
    ("2.weight", "conv2.weight"),
    ("2.actnorm.bias", "norm2.bias"),
    ("2.actnorm.logs", "norm2.log_scale"),
    ("4.weight", "conv3.weight"),
    ("4.bias", "conv3.bias"),
    ("4.logs", "conv3.log_gain"),
)


def is_srflow(state: Mapping[Any, Any]) -> bool:
    """Whether a dictionary has weights of SRFlow's naming, or is one of an RRDB network."""
    names = [str(key).removeprefix("module.") for key in state]
    return any(name.startswith((FLOW, ENCODER)) for name in names) or any(_BLOCK.fullmatch(name) for name in names)


def read_srflow(path: Path, state: Mapping[Any, Any]) -> tuple[NetworkConfig, dict[str, Tensor]]:
    """Configuration and state dict of `state`, which was in the file `path`. Raises ModelError for what is no such."""
    given = {str(key).removeprefix("module."): value for key, value in state.items()}
    given = {key: value for key, value in given.items() if not key.startswith(f"{FLOW}f.")}
    flow = any(key.startswith(FLOW) for key in given)
    if not flow:
        given = {key.removeprefix(ENCODER): value for key, value in given.items()}
    prefix = ENCODER if flow else ""
    for key, value in given.items():
        plain = isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided
        if not plain or value.numel() > LARGEST:
            raise ModelError(f"{path}: {key!r} is not a weight of SRFlow", _LAYOUT)
        if value.is_meta or not torch.isfinite(value.float()).all():
            raise ModelError(f"{path}: {key} holds values that are not finite", "import another checkpoint")
    try:
        config = _srflow(given) if flow else _rrdb(given, prefix)
    except ValueError as error:
        raise ModelError(f"{path}: {error}", _LAYOUT) from error
    own = _shapes(config)
    names = dict(_names(config, prefix))
    for theirs, ours in names.items():
        if theirs not in given:
            raise ModelError(f"{path}: lacks {theirs} of {_called(config)}", _LAYOUT)
        # normalisations have (1, C, 1, 1) and (C, 1, 1) there
        if given[theirs].numel() != own[ours].numel() or given[theirs].squeeze().shape != torch.Size(
            side for side in own[ours] if side != 1
        ):
            raise ModelError(
                f"{path}: {theirs} has shape {tuple(given[theirs].shape)}, {_called(config)} needs {tuple(own[ours])}",
                _LAYOUT,
            )
    if extra := sorted(given.keys() - names.keys()):
        raise ModelError(f"{path}: {extra[0]!r} does not belong to {_called(config)}", _LAYOUT)
    return config, {ours: given[theirs].float().reshape(own[ours]).contiguous() for theirs, ours in names.items()}


def _called(config: NetworkConfig) -> str:
    return f"{'SRFlow' if isinstance(config, SRFlowConfig) else 'RRDB'} x{config.scale}"


def _shapes(config: NetworkConfig) -> dict[str, torch.Size]:
    """Of all weights of the network that a configuration makes, without making them."""
    from irnscale.networks.rrdb import RRDBNet
    from irnscale.networks.srflow import SRFlow

    net = SRFlow(config) if isinstance(config, SRFlowConfig) else RRDBNet(config)  # type: ignore[arg-type]
    return {name: value.shape for name, value in net.state_dict().items()}


def _rrdb(given: Mapping[str, Tensor], prefix: str) -> RRDBConfig:
    """Blocks, growth and scale of an encoder. ValueError where it has no first block or convolution."""
    blocks = [int(match[1]) for key in given if (match := _BLOCK.fullmatch(key.removeprefix(prefix)))]
    first = given.get(f"{prefix}RRDB_trunk.0.RDB1.conv1.weight")
    if first is None or first.dim() != 4 or len(set(blocks)) != max(blocks) + 1:
        raise ValueError("has no RRDB network that is whole")
    if first.shape[0] > WIDEST:
        raise ValueError(f"its dense blocks are {first.shape[0]} channels wide")
    return RRDBConfig(
        scale=8 if f"{prefix}upconv3.weight" in given else 4, rrdb_blocks=len(blocks), rrdb_growth=first.shape[0]
    )


def _srflow(given: Mapping[str, Tensor]) -> SRFlowConfig:
    """What the keys and shapes tell. Which blocks are read they do not: those of the published networks are taken."""
    encoder = _rrdb(given, ENCODER)
    taps = TAPS[8] if encoder.scale == 8 else TAPS.get(encoder.rrdb_blocks)
    if taps is None or taps[-1] >= encoder.rrdb_blocks:
        raise ValueError(f"which of its {encoder.rrdb_blocks} blocks are read is known of 8 and 23 blocks alone")
    steps = {int(match[1]): key for key in given if (match := _STEP.fullmatch(key))}
    levels = 3 if encoder.scale == 4 else 4
    if not steps or len(steps) % levels:
        raise ValueError(f"its {len(steps)} steps do not divide into {levels} levels")
    first = given[steps[min(steps)]]
    if first.dim() != 4 or first.shape[0] > WIDEST:
        raise ValueError(f"{steps[min(steps)]} is no convolution of such a network")
    return SRFlowConfig(
        scale=encoder.scale,
        rrdb_blocks=encoder.rrdb_blocks,
        rrdb_growth=encoder.rrdb_growth,
        taps=taps,
        flow_steps=len(steps) // levels,
        flow_hidden=first.shape[0],
    )


def _names(config: NetworkConfig, prefix: str) -> Iterator[tuple[str, str]]:
    """(their key, ours) of every weight."""
    assert isinstance(config, SRFlowConfig | RRDBConfig)
    for theirs, ours in _PARTS:
        for kind in ("weight", "bias"):
            yield f"{prefix}{theirs}.{kind}", f"{ours}.{kind}"
    for kind in ("weight", "bias"):
        for index in range(3 if config.scale == 8 else 2):
            yield f"{prefix}upconv{index + 1}.{kind}", f"encoder.upconvs.{index}.{kind}"
        for block in range(config.rrdb_blocks):
            for dense in range(3):
                for conv in range(1, 6):
                    theirs = f"{prefix}RRDB_trunk.{block}.RDB{dense + 1}.conv{conv}.{kind}"
                    yield theirs, f"encoder.trunk.{block}.blocks.{dense}.conv{conv}.{kind}"
    if isinstance(config, SRFlowConfig):
        yield from _flow_names(config)


def _flow_names(config: SRFlowConfig) -> Iterator[tuple[str, str]]:
    layer = 0
    for level in range(config.levels):
        layer += 1  # the squeeze
        place = 1
        for step in range(2 + config.flow_steps):
            theirs, ours = f"{FLOW}layers.{layer}", f"flow.levels.{level}.module_list"
            yield f"{theirs}.actnorm.bias", f"{ours}.{place}.bias"
            yield f"{theirs}.actnorm.logs", f"{ours}.{place}.log_scale"
            yield f"{theirs}.invconv.weight", f"{ours}.{place + 1}.weight"
            place += 2
            if step >= 2:  # after the two transitions
                for subnet in ("fFeatures", "fAffine"):
                    for their_part, our_part in _SUBNET:
                        yield f"{theirs}.affine.{subnet}.{their_part}", f"{ours}.{place}.subnet.{our_part}"
                    place += 1
            layer += 1
        if level < config.levels - 2:
            for their_part, our_part in (("weight", "weight"), ("bias", "bias"), ("logs", "log_gain")):
                yield f"{FLOW}layers.{layer}.conv.{their_part}", f"flow.splits.{level}.gauss.{our_part}"
            layer += 1
