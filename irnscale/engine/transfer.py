"""Editing a picture in the latent space of SRFlow: content or style of another one set into it, or its own restored.

A flow is a bijection, so every picture has latents given a small one, and they can be changed: values that no picture
of that kind has are normalised, others are taken from another picture, and what the flow makes of them still has the
small picture that it was given. Source: Lugmayr et al. 2020 (SRFlow), its applications.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from irnscale.engine.executor import EXTREME, Progress, are_finite
from irnscale.engine.latents import LatentSpace
from irnscale.engine.normalisation import cells, normalised
from irnscale.engine.rescaler import Rescaler
from irnscale.errors import DeviceError, InputError, UsageError
from irnscale.images.bicubic import bicubic_down
from irnscale.images.depth import eight_bits, sixteen_bits
from irnscale.images.padding import pad_to_multiple
from irnscale.kernels import quantize
from irnscale.networks.network import SamplingNetwork

Array = npt.NDArray[Any]
Mode = Literal["content", "style", "restore"]
USUAL = {"content": "local", "style": "none", "restore": "spatial"}
"""The normalisation of each mode where none is named."""


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels; x and y: of its upper left corner."""

    x: int
    y: int
    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.x},{self.y},{self.width},{self.height}"

    @property
    def slices(self) -> tuple[slice, slice]:
        """The (rows, columns) of an array (H, W, ...) that it covers."""
        return slice(self.y, self.y + self.height), slice(self.x, self.x + self.width)

    def moved(self, x: int, y: int) -> Box:
        """One of the same size at another place."""
        return replace(self, x=x, y=y)

    def aligned(self, multiple: int) -> Box:
        """The nearest place that is a multiple, and the size rounded so, to one at least."""
        x, y = (multiple * ((2 * n + multiple) // (2 * multiple)) for n in (self.x, self.y))
        width, height = (
            max(multiple, multiple * ((2 * n + multiple) // (2 * multiple))) for n in (self.width, self.height)
        )
        return Box(x, y, width, height)

    def around(self, margin: int, multiple: int, width: int, height: int) -> Box:
        """With a margin, outwards to multiples, within a picture of this size."""
        left, top = (max(0, n - margin) // multiple * multiple for n in (self.x, self.y))
        right, bottom = (
            min(limit, -(-(n + side + margin) // multiple) * multiple)
            for n, side, limit in ((self.x, self.width, width), (self.y, self.height, height))
        )
        return Box(left, top, right - left, bottom - top)


@dataclass(frozen=True)
class Edit:
    """What is done in latent space.

    mode: "content": pixels of the source are pasted, and their latents made like those of the network's own pictures;
    "style": latents of the source replace the target's, so that the target's small picture is rendered as the source
    is; "restore": the target's own latents are made like those of the network's own pictures.
    normalise: see `NORMALISATIONS`; None: `USUAL`. temperature: deviation of the noise whose moments normalised latents
    get, and that of a small target which is enlarged first. seed: which noise.
    """

    mode: Mode = "content"
    normalise: str | None = None
    temperature: float = 0.8
    seed: int = 0

    @property
    def how(self) -> str:
        """The name of the normalisation: that which was asked for, else the usual one of the mode."""
        return self.normalise or USUAL[self.mode]


class Transfer:
    """Edits pictures by the network of `rescaler`, which must draw samples. Raises InputError for another.

    Pictures are (H, W, 3) uint8 or uint16. The network is run in the precision of its weights.
    """

    def __init__(self, rescaler: Rescaler, *, progress: Progress | None = None) -> None:
        enlarging = rescaler.enlarging
        if enlarging is None or not isinstance(enlarging.net, SamplingNetwork):
            raise InputError(f"{rescaler.name} has no latents to transfer", "name an SRFlow with `model`")
        self._rescaler, self._enlarging, self._progress = rescaler, enlarging, progress
        self.net = enlarging.net
        self.cell = self.net.scale * self.net.multiple
        """Pixels per side of a place on the coarsest grid of latents."""

    def edit(
        self,
        target: Array,
        edit: Edit,
        *,
        source: Array | None = None,
        cover: Array | None = None,
        box: Box | None = None,
        at: tuple[int, int] | None = None,
        small: Array | None = None,
        depth: int = 8,
    ) -> Array:
        """The target with a box changed; what the network cannot reach from there is its own, to the bit.

        box, at: see `placed`. cover: (H, W) from 0 to 1, how much each pixel of the source covers. small: the small
        picture (h, w, 3) that the target was enlarged from, which it then keeps; else it keeps the bicubic one of
        itself. Raises UsageError as `placed` does, InputError where the result is not finite, DeviceError where memory
        runs out.
        """
        source = target if source is None else source
        box, place = self.placed(source, target, box, at, edit.mode)
        region = self._around(place, target)
        inner = place.moved(place.x - region.x, place.y - region.y)
        hr, lr = self._pair(target, small, region)
        cover = None if cover is None else cover[box.slices]
        space = self._space(region)
        if edit.mode == "style":
            latents, masks = self._styled(space, hr, lr, source, box, inner)
        else:
            if edit.mode == "content":
                _paste(hr, _unit(source[box.slices]), cover, inner)
            space.expect(lr, lr)
            latents = space.encode(hr, lr)
            mask = torch.zeros(1, 1, *hr.shape[2:], dtype=torch.bool)
            mask[0, 0][inner.slices] = True if cover is None else torch.from_numpy(cover > 0)
            masks = cells(mask, latents)
        if edit.how != "none":
            origin = region.y // self.net.scale, region.x // self.net.scale
            noise = self.net.latents(lr, seed=edit.seed, temperature=edit.temperature, origin=origin)
            latents = normalised(latents, masks, noise, edit.how)
        made = space.decode(latents, lr)
        if not are_finite((made,)):
            if edit.how == "none" or not edit.temperature:
                raise InputError("the network's result is not finite, nothing is written", EXTREME)
            what = f"the network's result is not finite at temperature={edit.temperature:g}, nothing is written"
            raise InputError(what, f"use a lower `temperature`; or {EXTREME}", parameters=("temperature",))
        return _into(target, made, region, depth)

    def placed(
        self, source: Array, target: Array, box: Box | None, at: tuple[int, int] | None, mode: Mode
    ) -> tuple[Box, Box]:
        """The box of the source and that of the target, which has its upper left corner `at` (x, y).

        at None: where it is in the source. box None: all of the source that the target has room for.

        Styles are moved by whole places of the coarsest latents, so their boxes are rounded to them. Raises UsageError
        for a box that is not within its picture.
        """
        high, wide = source.shape[:2]
        if box is None:
            x, y = at or (0, 0)
            box = Box(0, 0, min(wide, target.shape[1] - x), min(high, target.shape[0] - y))
        if not (0 <= box.x < box.x + box.width <= wide and 0 <= box.y < box.y + box.height <= high):
            raise UsageError(
                f"box={box}: is not within the picture of {wide}x{high} that it is taken from",
                _BOX,
                parameters=("box",),
            )
        place = box.moved(*(at or (box.x, box.y)))
        high, wide = target.shape[:2]
        if not (place.x >= 0 and place.y >= 0 and place.x + place.width <= wide and place.y + place.height <= high):
            raise UsageError(
                f"at={place.x},{place.y}: a box of {box.width}x{box.height} there is not within the target of "
                f"{wide}x{high}",
                "choose another place, or a smaller box",
                parameters=("at",),
            )
        return (box, place) if mode != "style" else self._rounded(box, place, source, target)

    def _rounded(self, box: Box, place: Box, source: Array, target: Array) -> tuple[Box, Box]:
        """Both on whole places, within both pictures as they are padded to them."""
        sides = [
            -(-min(a, b) // self.cell) * self.cell for a, b in zip(source.shape[:2], target.shape[:2], strict=True)
        ]
        size = box.aligned(self.cell)
        height, width = (min(n, side) for n, side in zip((size.height, size.width), sides, strict=True))
        found = []
        for given, picture in ((size, source), (place.aligned(self.cell), target)):
            high, wide = (-(-n // self.cell) * self.cell for n in picture.shape[:2])
            found.append(Box(min(given.x, wide - width), min(given.y, high - height), width, height))
        return found[0], found[1]

    def _styled(
        self, space: LatentSpace, hr: Tensor, lr: Tensor, source: Array, box: Box, inner: Box
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The target's latents with those of the source's box at the place `inner`, and which those are."""
        around = self._around(box, source)
        theirs, small = self._pair(source, None, around)
        space.expect(lr, lr, small)
        latents = space.encode(hr, lr)
        given = space.encode(theirs, small)
        box = box.moved(box.x - around.x, box.y - around.y)
        masks = []
        for own, other in zip(latents, given, strict=True):
            factor = hr.shape[3] // own.shape[3]
            _cut(own, _over(inner, factor)).copy_(_cut(other, _over(box, factor)))
            mask = torch.zeros(1, 1, *own.shape[2:], dtype=torch.bool)
            _cut(mask, _over(inner, factor)).fill_(True)
            masks.append(mask)
        return latents, masks

    def _around(self, box: Box, picture: Array) -> Box:
        """A box with what it depends on, in a picture as it is padded to whole places."""
        height, width = (-(-side // self.cell) * self.cell for side in picture.shape[:2])
        return box.around(self.net.support * self.net.scale, self.cell, width, height)

    def _pair(self, picture: Array, small: Array | None, region: Box) -> tuple[Tensor, Tensor]:
        """HR of a region, the picture being padded by reflection to whole places, and its LR in 8 bits or as given."""
        padded, scale = pad_to_multiple(picture, self.cell)[0], self.net.scale
        if small is not None:
            lr = _unit(pad_to_multiple(small, self.net.multiple)[0][_over(region, scale).slices])
            return _unit(padded[region.slices]), lr
        wider = region.around(BICUBIC_REACH * scale, self.cell, padded.shape[1], padded.shape[0])
        hr = _unit(padded[wider.slices])
        inner = region.moved(region.x - wider.x, region.y - wider.y)
        lr = quantize(bicubic_down(hr, scale))
        return _cut(hr, inner).contiguous(), _cut(lr, _over(inner, scale)).contiguous()

    def _space(self, region: Box) -> LatentSpace:
        plan = self._enlarging.plan(
            region.width,
            region.height,
            model=self._rescaler.name,
            tile=self._rescaler.tile,
            max_memory=self._rescaler.max_memory,
            # the picture, what is made of it, and two sets of latents, three numbers for each pixel
            pictures=0 if self._rescaler.device.type != "cpu" else 4 * 3 * 4 * region.width * region.height,
        )
        return LatentSpace(self.net, plan.tile, self._out_of_memory, self._progress)

    def _out_of_memory(self, error: BaseException, where: str) -> DeviceError:
        remedy = "use a smaller `tile`, or give a `max_memory` that is free"
        return DeviceError(
            f"out of memory on {self._rescaler.device}{where}", remedy, parameters=("tile", "max_memory")
        )


BICUBIC_REACH = 4
"""Small pixels around a place that its bicubic reduction looks at, and some."""
_BOX = "X,Y,WIDTH,HEIGHT in pixels, from the upper left corner"


def _unit(pixels: Array) -> Tensor:
    """(H, W, 3) uint8 or uint16 -> (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None] / float(np.iinfo(pixels.dtype).max)


def _cut(x: Tensor, box: Box) -> Tensor:
    return x[(..., *box.slices)]


def _over(box: Box, factor: int) -> Box:
    """A box of the grid that is coarser by a factor."""
    return Box(box.x // factor, box.y // factor, box.width // factor, box.height // factor)


def _paste(hr: Tensor, pixels: Tensor, cover: Array | None, place: Box) -> None:
    below = _cut(hr, place)
    weight = torch.ones(()) if cover is None else torch.from_numpy(cover.astype(np.float32))
    below.copy_(torch.where(weight < 1, below + weight * (pixels - below), pixels))


def _into(target: Array, made: Tensor, region: Box, depth: int) -> Array:
    """The target with a region replaced, where it is within the picture, in so many bits."""
    result = eight_bits(target).copy() if depth == 8 else sixteen_bits(target).copy()
    levels = quantize(made, depth=depth, to_integer=True)[0].permute(1, 2, 0).numpy()
    place = result[region.slices]
    place[...] = levels[: place.shape[0], : place.shape[1]]
    return result
