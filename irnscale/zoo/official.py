"""Reading weights in the naming of the paper's code (pkuxmq/Invertible-Image-Rescaling).

`operations.N.F|G|H.convK.weight|bias`, N counting Haar transforms and couplings alike; F is our p, H our s
and G our t. Their files also hold the frozen Haar filters (`operations.N.haar_weights`) and may carry a
`module.` prefix from DataParallel.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from irnscale.errors import ModelError
from irnscale.networks import IRN, IRNConfig

_SUBNETS = {"F": "p", "H": "s", "G": "t"}
_KEY = re.compile(r"operations\.(\d+)\.([FGH])\.(conv[1-5]\.(?:weight|bias))")
_HAAR = re.compile(r"operations\.\d+\.haar_weights")


def read_official(path: Path) -> tuple[IRNConfig, dict[str, Tensor]]:
    """The configuration and our state dict of a .pth in the paper's naming.

    Loaded with `weights_only=True`: nothing in the file is executed. The scale and the number of
    couplings are read off the keys. Raises ModelError naming the first key that does not fit.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ModelError(
            f"{path}: not a PyTorch checkpoint that can be loaded safely: {_reason(error)}",
            "it must be a plain dictionary of tensors",
        ) from error
    for wrapper in ("state_dict", "params", "params_ema"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state:
        raise ModelError(f"{path}: holds no dictionary of tensors")

    tensors: dict[str, Tensor] = {}
    couplings: set[int] = set()
    for original, value in state.items():
        key = str(original).removeprefix("module.")
        if _HAAR.fullmatch(key):
            continue
        match = _KEY.fullmatch(key)
        if not match or not isinstance(value, Tensor):
            raise ModelError(f"{path}: {original!r} is not a weight of the paper's IRN (operations.N.F.conv1...)")
        index, subnet, rest = int(match[1]), match[2], match[3]
        couplings.add(index)
        tensors[f"module_list.{index}.{_SUBNETS[subnet]}.{rest}"] = value.float().contiguous()

    config = _configuration(path, couplings)
    own = IRN(config).state_dict()
    for key in own:
        if key not in tensors:
            raise ModelError(f"{path}: lacks {key} of IRN x{config.scale}")
        if tensors[key].shape != own[key].shape:
            raise ModelError(
                f"{path}: {key} has shape {tuple(tensors[key].shape)}, "
                f"IRN x{config.scale} needs {tuple(own[key].shape)}"
            )
    if extra := sorted(tensors.keys() - own.keys()):
        raise ModelError(f"{path}: {extra[0]} does not belong to IRN x{config.scale}")
    bad = next((k for k, v in tensors.items() if not torch.isfinite(v).all()), None)
    if bad:
        raise ModelError(f"{path}: {bad} holds values that are not finite")
    return config, tensors


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()  # none where the file is empty
    return lines[0][:120] if lines else type(error).__name__


def _configuration(path: Path, couplings: set[int]) -> IRNConfig:
    """Levels and couplings per level from which positions hold couplings: the gaps are Haar transforms."""
    haar = [n for n in range(max(couplings, default=0)) if n not in couplings]
    levels = len(haar)
    total = len(couplings)
    if levels not in (1, 2, 3, 4) or total % levels or haar != [i * (total // levels + 1) for i in range(levels)]:
        raise ModelError(f"{path}: its {total} couplings are not laid out as IRN x2, x4, x8 or x16")
    return IRNConfig(scale=2**levels, inv_per_ds=total // levels)
