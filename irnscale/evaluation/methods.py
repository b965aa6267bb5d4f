"""What is compared: ways to make a small picture and to get the large one back."""

from __future__ import annotations

import io
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
from irnscale.metrics import as_8bit
from irnscale.noise import check_temperature

if TYPE_CHECKING:
    from irnscale.engine.rescaler import Rescaler
    from irnscale.evaluation.trip import Storage

Rescale = Callable[[Tensor], Tensor]
Restore = Callable[[Tensor, int], Tensor]
Travel = Callable[[Tensor], "Made"]


@dataclass(frozen=True)
class Made:
    """What a method made of a photograph: (1, 3, H, W) each in [0, 1].

    small: as it was read back from `size` bytes. restored: what the method makes of it, detail left out. detailed: with
    the coded layer that the file carries, where it carries one. seconds: for both directions.
    """

    small: Tensor
    restored: Tensor
    size: int
    seconds: float
    detailed: Tensor | None = None


@dataclass(frozen=True)
class Method:
    """`shrink` makes the LR of an HR, `restore` the HR of an LR and the number of a draw: (1, 3, H, W) in [0, 1] each.

    `identity` changes with anything that its results depend on, such as weights: results are cached by it.
    `unrounded`: `restore` is given what `shrink` made, not what was stored. `draws` above 1: `restore` is
    random, and is asked so many times. `weights`: the digest of the model, if it is one. `task`: "rescaling", or
    "super-resolution" where the small picture is bicubic. `compared`: the number format of the convolutions, of a
    method that is only there to be compared with itself in another format. `travel`: both ways through a file of the
    method's own, stored as `stored` says, for small pictures that carry more than pixels; `codec`s are not asked then.
    `bits`: of each sample, where these carry detail and nothing is attached.
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
    compared: str = ""
    travel: Travel | None = field(default=None, compare=False)
    stored: str = ""
    bits: int = 0


def model_method(rescaler: Rescaler) -> Method:
    """A model in both directions, with z = 0."""

    def restore(x: Tensor, draw: int) -> Tensor:
        return rescaler.up(x)

    return Method(rescaler.name, rescaler.scale, _identity(rescaler), rescaler.down, restore, weights=rescaler.digest)


def with_detail(rescaler: Rescaler, storage: Storage) -> Method:
    """A model through files of `storage`: HR columns are what the network makes of them alone."""
    from irnscale.evaluation.pictures import as_tensor
    from irnscale.evaluation.trip import travel
    from irnscale.images.read import read_picture

    def go(x: Tensor) -> Made:
        """(1, 3, H, W) in [0, 1], rounded to 8 bits."""
        pixels = as_8bit(x)[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy()
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=0)
        # gray counts as colour, as in all of the field's tables
        trip = travel(rescaler, replace(read_picture(file.getvalue()), gray=False), storage)
        restored = as_tensor(trip.restored)
        plain = restored if trip.plain is None else as_tensor(trip.plain)
        return Made(as_tensor(trip.small), plain, len(trip.stored), trip.seconds, restored)

    plain = model_method(rescaler)
    kept = storage.format if storage.quality is None else f"{storage.format} q{storage.quality} {storage.subsampling}"
    identity = f"detail 2 {storage!r} {plain.identity}"
    name, stored = f"{plain.name} + detail", f"{kept}, {storage.name}"
    bits = 0 if storage.amount is not None or storage.exact else storage.bits
    return replace(plain, name=name, identity=identity, travel=go, stored=stored, bits=bits)


def super_resolution(rescaler: Rescaler) -> Method:
    """A model's inverse on a bicubic small picture: what the network is worth without its own LR."""
    plain, scale = model_method(rescaler), rescaler.scale
    shrink = bicubic(scale)[0]
    name = f"{plain.name} of bicubic"
    return replace(plain, name=name, identity=f"sr {plain.identity}", shrink=shrink, task="super-resolution")


def sampled(rescaler: Rescaler, temperature: float, *, draws: int, seed: int) -> Method:
    """A model with z ~ N(0, temperature^2) where `model_method` has z = 0; draw k has the seed `seed` + k.

    One that draws samples of foreign small pictures gets bicubic ones, as `super_resolution` has it.

    Raises UsageError for a temperature that is not above 0 and at most 100, or for no draws.
    """
    check_temperature(temperature, zero=False)
    if draws < 1:
        raise UsageError(f"draws={draws} must be at least 1", parameters=("draws",))

    def restore(x: Tensor, draw: int) -> Tensor:
        return rescaler.up(x, temperature=temperature, seed=seed + draw)

    plain = super_resolution(rescaler) if rescaler.draws else model_method(rescaler)
    name = f"{plain.name} T={temperature:g}"
    identity = f"sampled {temperature!r} {seed} {plain.identity}"
    return replace(plain, name=name, identity=identity, restore=restore, draws=draws)


def in_precision(method: Method, rescaler: Rescaler) -> Method:
    """A method of `rescaler` as one of those that say what its number format costs."""
    precision = _precision(rescaler)
    return replace(method, name=f"{method.name} in {precision}", compared=precision)


def _precision(rescaler: Rescaler) -> str:
    return str(rescaler.dtype).removeprefix("torch.")


def _identity(rescaler: Rescaler) -> str:
    from irnscale.engine.precision import EXACT, LOWERED

    precision = _precision(rescaler)
    return f"{rescaler.name} {rescaler.digest} {precision}{'' if precision == EXACT else LOWERED}"


@cache
def bicubic(scale: int) -> tuple[Rescale, Restore]:
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
    down, up = bicubic(scale)
    return Method("bicubic (float LR)", scale, "bicubic float 1", down, up, unrounded=True)


def full_size() -> Method:
    """No rescaling at all: what an ordinary codec makes of the whole photograph, with the codecs of `measure`."""
    return Method("full size", 1, "full size 1", _same, _same_again)


def _same(x: Tensor) -> Tensor:
    return x


def _same_again(x: Tensor, draw: int) -> Tensor:
    return x


def baselines(scale: int) -> list[Method]:
    """Bicubic and Lanczos, each in both directions, by `scale`: what a model is compared with."""

    def lanczos(x: Tensor, height: int, width: int) -> Tensor:
        planes = [Image.fromarray(plane.numpy()) for plane in x[0].float().cpu()]  # mode F: nothing is rounded
        resized = [np.asarray(plane.resize((width, height), Image.Resampling.LANCZOS)) for plane in planes]
        return torch.from_numpy(np.stack(resized))[None]

    def lanczos_down(x: Tensor) -> Tensor:
        return lanczos(x, x.shape[2] // scale, x.shape[3] // scale)

    def lanczos_up(x: Tensor, draw: int) -> Tensor:
        return lanczos(x, x.shape[2] * scale, x.shape[3] * scale)

    return [
        Method("bicubic", scale, "bicubic 1", *bicubic(scale)),
        Method("lanczos", scale, "lanczos 1", lanczos_down, lanczos_up),
    ]
