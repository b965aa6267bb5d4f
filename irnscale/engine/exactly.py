"""Original pixels bit for bit: the lossless layer of a picture, made by `down` and checked there, and used by `up`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from irnscale.detail.attached import EXACT, sections
from irnscale.detail.exact import Exact, encoded
from irnscale.detail.finding import stored_samples
from irnscale.errors import OutputError
from irnscale.images.alpha import opaque_alpha
from irnscale.images.depth import eight_bits, sixteen_bits
from irnscale.images.picture import Picture

Array = npt.NDArray[Any]


def small_planes(picture: Picture) -> Array:
    """(h, w, C) of a small picture as it is stored: gray or RGB, and alpha."""
    picture = picture.as_stored()
    samples = stored_samples(picture)
    return samples if picture.alpha is None else np.concatenate([samples, picture.alpha[..., None]], axis=2)


def exact_section(original: Picture, small: Picture, scale: int) -> bytes:
    """The section that gives the original's pixels back from the small picture as it was read.

    It is decoded and compared here. Raises OutputError where it does not give them back.
    """
    colour = original.pixels[..., :1] if original.gray else original.pixels
    planes = colour if original.alpha is None else np.concatenate([colour, original.alpha[..., None]], axis=2)
    section = encoded(planes, small_planes(small), scale)
    layer = Exact(section, small_planes(small))
    if not all(np.array_equal(pixels, planes[place]) for place, pixels in layer.tiles()) or not layer.complete:
        raise OutputError("the lossless layer does not give the original back", "report this, and leave it out")
    return section


@dataclass
class Restored:
    """What the lossless layer gives: the picture, and where it is sound."""

    picture: Picture
    complete: bool
    places: list[tuple[slice, slice]] = field(default_factory=list)

    def fill(self, other: Picture) -> None:
        """Put the sound tiles over what was restored otherwise, in place; both of one depth."""
        alpha = opaque_alpha(self.picture.pixels) if self.picture.alpha is None else self.picture.alpha
        for place in self.places:
            other.pixels[place] = self.picture.pixels[place]
            if other.alpha is not None:
                other.alpha[place] = alpha[place]


def exact_layer(picture: Picture) -> Exact | None:
    """The lossless layer that a small picture carries; None where it has none that belongs to it."""
    section = sections(picture.attachment or b"").get(EXACT)
    if section is None:
        return None
    try:
        return Exact(section, stored_samples(picture), picture.as_stored().alpha)
    except ValueError:
        return None


def exact_picture(picture: Picture, depth: int, size: tuple[int, int] | None = None) -> Restored | None:
    """The original, as far as the lossless layer gives it, at `depth` bits; None where there is none.

    At another depth than its own its values are rounded. size: (width, height) that it must have, where given.
    """
    layer = exact_layer(picture) if picture.attachment else None
    if layer is None or size not in (None, (layer.width, layer.height)):
        return None
    shape = layer.height, layer.width, layer.planes
    planes = np.zeros(shape, np.uint8 if depth == 8 else np.uint16)
    places = []
    area = 0
    for place, pixels in layer.tiles():
        planes[place] = eight_bits(pixels) if depth == 8 else sixteen_bits(pixels)
        places.append(place)
        area += pixels.shape[0] * pixels.shape[1]
    colours = layer.planes - (layer.planes in (2, 4))
    colour = planes[..., :colours] if colours == 3 else np.repeat(planes[..., :1], 3, axis=2)
    alpha = None if colours == layer.planes else np.ascontiguousarray(planes[..., -1])
    whole = picture.with_pixels(np.ascontiguousarray(colour), alpha, gray=colours == 1)
    return Restored(whole, layer.complete and area == layer.width * layer.height, places)
