"""LPIPS: how far apart two pictures are in the features of AlexNet. Lower is better; 0 for equal pictures.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018, version 0.1. The
heads are shipped; AlexNet's weights are not ours to ship and are read from a file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from irnscale.errors import InputError

SMALLEST = 63
"""Pixels of the shorter side below which AlexNet's last layers see nothing."""
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_LAYERS = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}
"""Of torchvision's `features`: index of the convolution, its (stride, padding)."""
_SHAPES = ((64, 3, 11, 11), (192, 64, 5, 5), (384, 192, 3, 3), (256, 384, 3, 3), (256, 256, 3, 3))
_HINT = "give torchvision's AlexNet (alexnet-owt-7be5be79.pth), or the same tensors as .safetensors"


@dataclass(frozen=True, eq=False)
class Backbone:
    """AlexNet's five convolutions: weights and biases, float32 on the CPU. digest: 8 digits of their sha256."""

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]
    digest: str

    def features(self, x: Tensor) -> list[Tensor]:
        """What follows each of the five activations, for (N, 3, H, W) in [-1, 1]."""
        x = (x - x.new_tensor(_SHIFT).view(3, 1, 1)) / x.new_tensor(_SCALE).view(3, 1, 1)
        found = []
        for k, (stride, padding) in enumerate(_LAYERS.values()):
            if k in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(F.conv2d(x, self.weights[k].to(x), self.biases[k].to(x), stride, padding))
            found.append(x)
        return found


def distance(backbone: Backbone, a: Tensor, b: Tensor) -> float:
    """LPIPS of two pictures (1, 3, H, W) in [0, 1]; NaN where the shorter side has fewer than 63 pixels."""
    if min(a.shape[2:]) < SMALLEST:
        return float("nan")
    total = torch.zeros((), dtype=a.dtype)
    with torch.inference_mode():
        for head, one, other in zip(_heads(), *(backbone.features(2 * x - 1) for x in (a, b)), strict=True):
            difference = (_unit(one) - _unit(other)) ** 2
            total += (difference * head.to(a).view(-1, 1, 1)).sum(dim=1).mean()
    return float(total)


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


@cache
def _heads() -> tuple[Tensor, ...]:
    stored = safetensors.torch.load((resources.files("irnscale") / "assets" / "lpips.safetensors").read_bytes())
    return tuple(stored[f"head.{k}"] for k in range(5))


def read_backbone(path: Path) -> Backbone:
    """AlexNet from a .pth or .safetensors with torchvision's names; nothing in the file is executed.

    Raises InputError naming the file where it cannot be read or is something else.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", _HINT)
    try:
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        weights = tuple(state[f"features.{k}.weight"].float() for k in _LAYERS)
        biases = tuple(state[f"features.{k}.bias"].float() for k in _LAYERS)
        fits = [w.shape for w in weights] == list(_SHAPES) and [len(b) for b in biases] == [s[0] for s in _SHAPES]
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}", _HINT) from error
    except Exception:  # noqa: BLE001 - a damaged or foreign file makes torch and safetensors raise anything
        fits = False
    if not fits:
        raise InputError(f"{path}: is not AlexNet as torchvision stores it", _HINT)
    digest = hashlib.sha256(b"".join(x.contiguous().numpy().tobytes() for x in (*weights, *biases)))
    return Backbone(weights, biases, digest.hexdigest()[:8])
