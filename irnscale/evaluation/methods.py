"""What is compared: ways to make a small picture and to get the large one back."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from irnscale.errors import UsageError
from irnscale.images.bicubic import bicubic_down, bicubic_up
from irnscale.kernels import philox_normal
from irnscale.metrics import as_8bit
from irnscale.networks.irn import IMAGE_CHANNELS

if TYPE_CHECKING:
    from irnscale.engine.rescaler import Rescaler

Rescale = Callable[[Tensor], Tensor]
Restore = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Method:
    """`shrink` makes the LR of an HR, `restore` the HR of an LR and the number of a draw: (1, 3, H, W) in [0, 1] each.

    `identity` changes with anything that its results depend on, such as weights: results are cached by it.
    `unrounded`: `restore` is given what `shrink` made, not what was stored. `draws` above 1: `restore` is
    random, and is asked so many times. `weights`: the digest of the model, if it is one. `task`: "rescaling", or
    "super-resolution" where the small picture is bicubic.
    """

    name: str
    scale: int
    identity: str
    shrink: Rescale = field(compare=False)
    restore: Restore = field(compare=False)
    unrounded: bool = False
    draws: int = 1
    weights: str = ""
    task: str = "rescaling"


@dataclass(frozen=True)
class Codec:
    """What the small picture is stored as between the two directions: PNG, or JPEG as the real codec writes it."""

    quality: int | None = None
    subsampling: str = "4:2:0"

    def __post_init__(self) -> None:
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"JPEG quality {self.quality} is not from 1 to 100")
        if self.subsampling not in ("4:4:4", "4:2:2", "4:2:0"):
            raise UsageError(f"unknown subsampling {self.subsampling}", "choose 4:4:4, 4:2:2 or 4:2:0")

    @property
    def name(self) -> str:
        """As tables show it."""
        return "png" if self.quality is None else f"jpg q{self.quality} {self.subsampling}"

    def store(self, small: Tensor) -> tuple[Tensor, int]:
        """(what is read back, bytes of the file) of (1, 3, h, w), rounded to 8 bits first."""
        array = as_8bit(small)[0].permute(1, 2, 0).to(torch.uint8).numpy()
        file = io.BytesIO()
        image = Image.fromarray(np.ascontiguousarray(array))
        if self.quality is None:
            image.save(file, "PNG")
        else:  # as `irnscale down` writes it
            image.save(file, "JPEG", quality=self.quality, subsampling=self.subsampling, optimize=True)
        with Image.open(file) as back:
            pixels = torch.from_numpy(np.array(back.convert("RGB")))
        return pixels.permute(2, 0, 1)[None].float() / 255, file.tell()


def model_method(rescaler: Rescaler) -> Method:
    """A model, both ways, z = 0."""

    def restore(x: Tensor, draw: int) -> Tensor:
        return rescaler.up(x)

    return Method(rescaler.name, rescaler.scale, _identity(rescaler), rescaler.down, restore, weights=rescaler.digest)


def super_resolution(rescaler: Rescaler) -> Method:
    """A model's inverse on a bicubic small picture: what the network is worth without its own LR."""
    plain, scale = model_method(rescaler), rescaler.scale
    shrink = _bicubic(scale)[0]
    name = f"{plain.name} of bicubic"
    return replace(plain, name=name, identity=f"sr {plain.identity}", shrink=shrink, task="super-resolution")


def sampled(rescaler: Rescaler, temperature: float, *, draws: int, seed: int) -> Method:
    """A model with z ~ N(0, temperature^2) where `model_method` has z = 0; draw k has the seed `seed` + k.

    Raises UsageError for a temperature that is not positive and finite, or for no draws.
    """
    if not 0 < temperature < math.inf or draws < 1:
        raise UsageError(f"{draws} draws at temperature {temperature:g} make no sense", "give positive numbers")

    def restore(x: Tensor, draw: int) -> Tensor:
        return _up_with_noise(rescaler, x, temperature, seed + draw)

    plain = model_method(rescaler)
    name = f"{plain.name} T={temperature:g}"
    identity = f"sampled {temperature!r} {seed} {plain.identity}"
    return replace(plain, name=name, identity=identity, restore=restore, draws=draws)


@torch.inference_mode()
def _up_with_noise(rescaler: Rescaler, x: Tensor, temperature: float, seed: int) -> Tensor:
    x = x.to(rescaler.device, torch.float32)
    for net in reversed(rescaler.networks):
        n, _, h, w = x.shape
        z = philox_normal((n, IMAGE_CHANNELS * (net.scale**2 - 1), h, w), seed=seed, device=x.device)
        x = net.upscale(x, temperature * z)
    return x


def _identity(rescaler: Rescaler) -> str:
    precision = str(rescaler.dtype).removeprefix("torch.")
    return f"{rescaler.name} {rescaler.digest} {precision}"


@cache
def _bicubic(scale: int) -> tuple[Rescale, Restore]:
    """One pair of functions per scale, so that small pictures are shared."""

    def down(x: Tensor) -> Tensor:
        return bicubic_down(x, scale)

    def up(x: Tensor, draw: int) -> Tensor:
        return bicubic_up(x, scale)

    return down, up


def published_bicubic(scale: int) -> Method:
    """Bicubic as the published rows were made: the small picture stays in floating point, unclipped.

    To be compared with luma rounded. Found by trying what could have made the four published rows of Set5 and
    Set14: luma alone or colour, small pictures rounded, clipped or neither, gray as it is or as luma of colour.
    """
    down, up = _bicubic(scale)
    return Method("bicubic (float LR)", scale, "bicubic float 1", down, up, unrounded=True)


def baselines(scale: int) -> list[Method]:
    """Ordinary resizers, both ways."""

    def lanczos(x: Tensor, height: int, width: int) -> Tensor:
        planes = [Image.fromarray(plane.numpy()) for plane in x[0].float().cpu()]  # mode F: nothing is rounded
        resized = [np.asarray(plane.resize((width, height), Image.Resampling.LANCZOS)) for plane in planes]
        return torch.from_numpy(np.stack(resized))[None]

    def lanczos_down(x: Tensor) -> Tensor:
        return lanczos(x, x.shape[2] // scale, x.shape[3] // scale)

    def lanczos_up(x: Tensor, draw: int) -> Tensor:
        return lanczos(x, x.shape[2] * scale, x.shape[3] * scale)

    return [
        Method("bicubic", scale, "bicubic 1", *_bicubic(scale)),
        Method("lanczos", scale, "lanczos 1", lanczos_down, lanczos_up),
    ]
