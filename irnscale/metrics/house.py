"""Scores by the house features: of a picture against its original, and what distances between sets are made of.

They compare with themselves alone, never with LPIPS, FID or KID of the literature: those look with other networks.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources

import torch
from torch import Tensor

from irnscale.errors import ModelError
from irnscale.metrics.features import OUTPUT, PATCH, SMALLEST, Features, from_bytes

SHA256 = "f11d876cca7fb483f479899df73c98827095efe8ea99d740f3ee5b2c2bfaf468"
"""Of the file of the features: frozen, as every number by them depends on it."""
_FILE = "house.safetensors"
_TOGETHER = 64
"""Patches that are looked at in one go."""


@cache
def house() -> Features:
    """The features that ship. Raises ModelError where their file is not the one that they are frozen as."""
    return frozen((resources.files("irnscale") / "assets" / _FILE).read_bytes())


def frozen(data: bytes) -> Features:
    """The house features, of the bytes of their file. Raises ModelError where these are any other."""
    if hashlib.sha256(data).hexdigest() != SHA256:
        what = f"{_FILE}: is not the network that all house scores are made by"
        raise ModelError(what, "install irnscale anew: `pip install --force-reinstall --no-deps irnscale`")
    return from_bytes(data, _FILE)


def distance(features: Features, a: Tensor, b: Tensor) -> float:
    """house-lpips of two pictures (1, 3, H, W) in [0, 1]: 0 for equal ones, at most 20; lower is better.

    The formula of Zhang et al., CVPR 2018, equation 1, with all weights one: at each position of each of the five
    stages, the squared distance of the channels as unit vectors; the mean over positions, the sum over stages. NaN
    where the shorter side has fewer than 32 pixels. Computed in the pictures' dtype.
    """
    if min(a.shape[2:]) < SMALLEST:
        return float("nan")
    total = 0.0
    with torch.inference_mode():
        for one, other in zip(*(features.stages(x) for x in (a, b)), strict=True):
            total += float((_unit(one) - _unit(other)).square().sum(dim=1).mean())
    return total


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def outputs(features: Features, x: Tensor) -> Tensor:
    """(N, 64) of the N patches of a picture (1, 3, H, W) in [0, 1]: what sets are compared by.

    Patches of 64 x 64 side by side, and once more those between them, moved by half a patch both ways, as Mentzer et
    al. cut theirs ("High-fidelity generative image compression", 2020, appendix A.7). What is left over at the right
    and the bottom is not looked at; a picture that no patch fits in has none.
    """
    found = [x.new_empty(0, OUTPUT)]
    with torch.inference_mode():
        for patches in torch.split(_patches(x), _TOGETHER):
            found.append(features.output(patches))
    return torch.cat(found)


def _patches(x: Tensor) -> Tensor:
    """(N, 3, 64, 64)."""
    found = [x.new_empty(0, 3, PATCH, PATCH)]
    for moved in (x, x[:, :, PATCH // 2 :, PATCH // 2 :]):
        if min(moved.shape[2:]) >= PATCH:
            tiles = moved[0].unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)  # (3, rows, columns, 64, 64)
            found.append(tiles.permute(1, 2, 0, 3, 4).flatten(0, 1))
    return torch.cat(found)
