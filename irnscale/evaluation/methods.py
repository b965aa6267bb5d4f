"""What is compared: ways to make a small picture and to get the large one back."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from irnscale.errors import UsageError
from irnscale.images.bicubic import bicubic_down, bicubic_up
from irnscale.metrics import as_8bit

if TYPE_CHECKING:
    from irnscale.engine.rescaler import Rescaler

Rescale = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Method:
    """`shrink` makes the LR of an HR, `restore` the HR of an LR: (1, 3, H, W) in [0, 1] each.

    `identity` changes with anything that its results depend on, such as weights: results are cached by it.
    """

    name: str
    scale: int
    identity: str
    shrink: Rescale
    restore: Rescale


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
        else:
            image.save(file, "JPEG", quality=self.quality, subsampling=self.subsampling)
        with Image.open(file) as back:
            pixels = torch.from_numpy(np.array(back.convert("RGB")))
        return pixels.permute(2, 0, 1)[None].float() / 255, file.tell()


def model_method(rescaler: Rescaler) -> Method:
    """A model, both ways, z = 0."""
    precision = str(rescaler.dtype).removeprefix("torch.")
    identity = f"{rescaler.name} {rescaler.digest} {precision}"
    return Method(rescaler.name, rescaler.scale, identity, rescaler.down, rescaler.up)


def super_resolution(rescaler: Rescaler) -> Method:
    """A model's inverse on a bicubic small picture: what the network is worth without its own LR."""
    scale = rescaler.scale
    plain = model_method(rescaler)
    name = f"{rescaler.name} of bicubic"
    return Method(name, scale, f"sr {plain.identity}", lambda x: bicubic_down(x, scale), rescaler.up)


def baselines(scale: int) -> list[Method]:
    """Ordinary resizers, both ways."""

    def lanczos(x: Tensor, height: int, width: int) -> Tensor:
        planes = [Image.fromarray(plane.numpy()) for plane in x[0].float().cpu()]  # mode F: nothing is rounded
        resized = [np.asarray(plane.resize((width, height), Image.Resampling.LANCZOS)) for plane in planes]
        return torch.from_numpy(np.stack(resized))[None]

    def lanczos_down(x: Tensor) -> Tensor:
        return lanczos(x, x.shape[2] // scale, x.shape[3] // scale)

    def lanczos_up(x: Tensor) -> Tensor:
        return lanczos(x, x.shape[2] * scale, x.shape[3] * scale)

    return [
        Method("bicubic", scale, "bicubic 1", lambda x: bicubic_down(x, scale), lambda x: bicubic_up(x, scale)),
        Method("lanczos", scale, "lanczos 1", lanczos_down, lanczos_up),
    ]
