"""Reading weights in the naming of the paper's code (pkuxmq/Invertible-Image-Rescaling).

`operations.N.F|G|H.convK.weight|bias`, N counting Haar transforms and couplings alike; F is our p, H our s
and G our t. Their files also hold the frozen Haar filters (`operations.N.haar_weights`) and may carry a
`module.` prefix from DataParallel.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from irnscale.errors import ModelError
from irnscale.networks import IRN, IRNConfig
from irnscale.networks.config import NetworkConfig
from irnscale.zoo.official_srflow import is_srflow, read_srflow

_SUBNETS = {"F": "p", "H": "s", "G": "t"}
_KEY = re.compile(r"operations\.(\d{1,9})\.([FGH])\.(conv[1-5]\.(?:weight|bias))")
_LAYOUT = "give an IRN checkpoint of the paper's code"
_HAAR = re.compile(r"operations\.\d+\.haar_weights")


def read_official(path: Path) -> tuple[NetworkConfig, dict[str, Tensor]]:
    """The configuration and our state dict of a .pth in the paper's naming, or in that of SRFlow's code.

    Loaded with `weights_only=True`: nothing in the file is executed. The scale and the numbers of
    couplings are read off the keys, and which scales are constant off the weights. Raises ModelError naming the
    first key that does not fit.
    """
    state = _dictionary(path)
    return read_srflow(path, state) if is_srflow(state) else _read_irn(path, state)


def _dictionary(path: Path) -> dict[Any, Any]:
    """What the file holds, without a wrapper around it."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file", "check the path")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(f"{path}: {_reason(path, error)}", _LAYOUT) from error
    for wrapper in ("state_dict", "params", "params_ema"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state:
        raise ModelError(f"{path}: holds no dictionary of tensors", _LAYOUT)
    return state


def _read_irn(path: Path, state: dict[Any, Any]) -> tuple[IRNConfig, dict[str, Tensor]]:
    tensors: dict[str, Tensor] = {}
    couplings: set[int] = set()
    for original, value in state.items():
        key = str(original).removeprefix("module.")
        if _HAAR.fullmatch(key):
            continue
        match = _KEY.fullmatch(key)
        if not match or not _is_plain(value):
            what = f"{path}: {str(original)[:200]!r} is not a weight of the paper's IRN (operations.N.F.conv1...)"
            raise ModelError(what, _LAYOUT)
        index, subnet, rest = int(match[1]), match[2], match[3]
        couplings.add(index)
        tensors[f"module_list.{index}.{_SUBNETS[subnet]}.{rest}"] = value

    config = _configuration(path, couplings)
    own = IRN(config).state_dict()
    for key in own:
        if key not in tensors:
            raise ModelError(f"{path}: lacks {_theirs(key)} of IRN x{config.scale}", _LAYOUT)
        if tensors[key].shape != own[key].shape:
            raise ModelError(
                f"{path}: {_theirs(key)} has shape {tuple(tensors[key].shape)}, "
                f"IRN x{config.scale} needs {tuple(own[key].shape)}",
                _LAYOUT,
            )
    if extra := sorted(tensors.keys() - own.keys()):
        raise ModelError(f"{path}: {_theirs(extra[0])} does not belong to IRN x{config.scale}", _LAYOUT)
    # Only now that their shapes are known: a file may say of one number that it is a tensor of terabytes.
    tensors = {key: value.float().contiguous() for key, value in tensors.items()}
    bad = next((k for k, v in tensors.items() if not torch.isfinite(v).all()), None)
    if bad:
        raise ModelError(f"{path}: {_theirs(bad)} holds values that are not finite", "import another checkpoint")
    constant = [n for n in config.couplings if not tensors[f"module_list.{n}.s.conv5.weight"].any()]
    return replace(config, constant_scales=constant), tensors


def _reason(path: Path, error: Exception) -> str:
    """Why torch refused a file; its own words are paragraphs about its settings, or about its pickle machine."""
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror or error}"
    if not path.stat().st_size:
        return "the file is empty"
    if match := re.search(r"[Uu]nsupported (?:global: )?GLOBAL ([\w.]+\w)", str(error)):
        return f"is no plain dictionary of tensors: loading it would run {match[1]} of its own choice"
    return "is no checkpoint of PyTorch, or a damaged one"


def _is_plain(value: object) -> bool:
    return (
        isinstance(value, Tensor) and value.is_floating_point() and value.layout == torch.strided and not value.is_meta
    )


def _theirs(key: str) -> str:
    """Our key in the paper's naming, for messages about their file."""
    _, index, subnet, rest = key.split(".", 3)
    return f"operations.{index}.{next(f for f, ours in _SUBNETS.items() if ours == subnet)}.{rest}"


def _configuration(path: Path, couplings: set[int]) -> IRNConfig:
    """Levels and couplings per level from which positions hold couplings: the gaps are Haar transforms."""
    # at most 4 Haar transforms among them: a file that says operations.999999999 must not cost the memory
    haar = [n for n in range(min(max(couplings, default=0), len(couplings) + 4)) if n not in couplings]
    counts = [end - start - 1 for start, end in pairwise([*haar, len(haar) + len(couplings)])]
    if len(haar) not in (1, 2, 3, 4) or haar[0] != 0 or counts[-1] < 1 or max(couplings) != sum(counts) + len(haar) - 1:
        raise ModelError(f"{path}: its {len(couplings)} couplings are not laid out as IRN x2, x4, x8 or x16", _LAYOUT)
    return IRNConfig(scale=2 ** len(haar), inv_per_ds=counts)
