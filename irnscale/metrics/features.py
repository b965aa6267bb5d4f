"""The house features: a convolutional network of our own, taught without labels, for scores that look as eyes do.

Five stages of convolutions, each followed by a rectifier, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the picture's size, and
an output of 64 numbers. `train/features.py` says how it was taught; `metrics/house.py` has the one that ships.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import safetensors.torch
import torch.nn.functional as F
from torch import Tensor

from irnscale.errors import ModelError

STAGES = ((32,), (64,), (128,), (192, 192), (256,))
"""Channels of each stage's convolutions."""
OUTPUT = 64
"""Numbers that `Features.output` has of a patch."""
PATCH = 64
"""Side in pixels of the patches that the network was taught on."""
SMALLEST = 2 ** len(STAGES)
"""Pixels of the shorter side below which the last stage sees nothing."""
FIRST_KERNEL, KERNEL = 5, 3


def convolutions() -> Iterator[tuple[str, int, int, int, int]]:
    """Of each convolution: its name in the file, channels in and out, side of the kernel, and stride."""
    width = 3
    for stage, widths in enumerate(STAGES):
        for place, channels in enumerate(widths):
            first = (stage, place) == (0, 0)
            yield f"stage.{stage}.{place}", width, channels, FIRST_KERNEL if first else KERNEL, 2 if first else 1
            width = channels


@dataclass(frozen=True, eq=False)
class Features:
    """The network's tensors by name, float32 on the CPU, and the first 8 digits of their file's sha256."""

    state: Mapping[str, Tensor]
    digest: str

    def __post_init__(self) -> None:
        shapes = {name: tuple(x.shape) for name, x in self.state.items()}
        if shapes != dict(_shapes()):
            raise ValueError("not the tensors of the house features")

    def stages(self, x: Tensor) -> list[Tensor]:
        """What follows each of the five stages, (N, C, H, W), of pictures (N, 3, H, W) in [0, 1].

        In the dtype and on the device of `x`, with gradients. Sides of at least 32.
        """
        found: list[Tensor] = []
        x = 4 * x - 2
        for name, _, _, kernel, stride in convolutions():
            if name.endswith(".0") and found:
                x = F.avg_pool2d(x, 2)
            weight, bias = (self.state[f"{name}.{part}"].to(x) for part in ("weight", "bias"))
            x = F.relu(F.conv2d(x, weight, bias, stride, kernel // 2))
            if name.endswith(".0"):
                found.append(x)
            else:
                found[-1] = x
        return found

    def output(self, x: Tensor) -> Tensor:
        """(N, 64) of patches (N, 3, H, W) in [0, 1]: of mean 0 and variance 1 over the photographs it was taught on."""
        pooled = self.stages(x)[-1].mean(dim=(2, 3))
        return F.linear(pooled, self.state["output.weight"].to(x), self.state["output.bias"].to(x))


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, width, channels, kernel, _ in convolutions():
        yield f"{name}.weight", (channels, width, kernel, kernel)
        yield f"{name}.bias", (channels,)
    yield "output.weight", (OUTPUT, STAGES[-1][-1])
    yield "output.bias", (OUTPUT,)


def from_bytes(data: bytes, name: str) -> Features:
    """The network in a .safetensors file. Raises ModelError naming it where it is something else."""
    try:
        state = {key: x.float() for key, x in safetensors.torch.load(data).items()}
        return Features(state, hashlib.sha256(data).hexdigest()[:8])
    except Exception as error:  # a damaged or foreign file makes safetensors raise anything
        hint = "give a file by `irnscale train features`"
        raise ModelError(f"{name}: is no network of house features", hint) from error
