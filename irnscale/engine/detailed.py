"""Pictures with their detail: the coded layer is made beside `down`, and added by `up`; docs/detail.md."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from irnscale.detail import cells as digital
from irnscale.detail import chunk, codec, pixels
from irnscale.detail.pixels import Layer
from irnscale.detail.tiles import Tile, grid, side_for
from irnscale.engine.canvas import gray_of
from irnscale.engine.effort import in_cells, refine
from irnscale.engine.executor import Progress
from irnscale.engine.rescaler import Rescaler
from irnscale.images.alpha import bleed, seen_alpha
from irnscale.images.depth import eight_bits, sixteen_bits
from irnscale.images.picture import Picture
from irnscale.metrics import LUMA_WEIGHTS

Array = npt.NDArray[Any]
_MARGIN = 4
"""Pixels around a tile of the small picture that bicubic enlargement looks at, and some."""


@dataclass
class Quality:
    """What the layer brings: sums of squared luma errors with it, without it, and of bicubic enlargement."""

    errors: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    count: int = 0

    def add(self, original: Array, *versions: Array) -> None:
        """One tile, (h, w, 3) uint8 each."""
        for index, version in enumerate(versions):
            luma = (original.astype(np.float64) - version) @ (np.array(LUMA_WEIGHTS) / 255)
            self.errors[index] += np.square(luma).sum()
        self.count += original.shape[0] * original.shape[1]

    @property
    def psnr(self) -> list[float]:
        """Luma PSNR in dB, over the whole picture; at most 99.99."""
        with np.errstate(divide="ignore"):
            decibels = 10 * np.log10(255.0**2 * self.count / self.errors)
        return [round(min(float(value), 99.99), 2) for value in decibels]


def shrink_with_detail(
    rescaler: Rescaler,
    pictures: Sequence[Picture],
    bits: int,
    *,
    depth: int,
    small_alpha: Callable[[Picture], Array | None],
    progress: Progress | None,
    effort: int = 0,
) -> list[tuple[Picture, dict[str, Any] | None]]:
    """Small pictures whose samples of `depth` bits carry `bits` bits each, and what the record says of it.

    None where nothing fits in. Pictures as for `pictures.shrink_all`; `small_alpha` shrinks the alpha of one.
    """
    colours = [p.pixels if p.alpha is None else bleed(p.pixels, p.alpha) for p in pictures]
    first, second = _halves(progress)
    fine = rescaler.down(np.stack(colours), depth=16, progress=first)
    stored = [gray_of(part)[..., None] if p.gray else part for p, part in zip(pictures, fine, strict=True)]
    if effort:
        stored = [
            refine(rescaler, part, colour, effort, in_cells(bits, depth))
            for part, colour in zip(stored, colours, strict=True)
        ]
    alphas = [small_alpha(p) for p in pictures]
    starts = []
    for part, alpha in zip(stored, alphas, strict=True):
        middle = digital.centres(digital.cells_of(part, bits, depth), bits, depth)
        middle = np.repeat(middle, 3, axis=2) if middle.shape[2] == 1 else middle
        starts.append(middle if alpha is None else bleed(middle, alpha))
    size = pictures[0].width, pictures[0].height
    held = sum(colour.nbytes for colour in colours)
    bases = rescaler.up(np.stack(starts), size=size, depth=8, progress=second, held=held)
    return [
        _hide(rescaler, picture, colour, part, alpha, base, bits, depth)
        for picture, colour, part, alpha, base in zip(pictures, colours, stored, alphas, bases, strict=True)
    ]


def _hide(
    rescaler: Rescaler,
    picture: Picture,
    colour: Array,
    fine: Array,
    alpha: Array | None,
    base: Array,
    bits: int,
    depth: int,
) -> tuple[Picture, dict[str, Any] | None]:
    """One small picture, from the network's on the grid of 16 bits and the base."""
    height, width, channels = fine.shape
    kind = codec.available()
    original = eight_bits(colour)
    base = as_gray(base) if picture.gray else base
    common = common_of(rescaler, picture, width, height, kind or 0)
    tiles = tuple(grid(width, height, common.side))
    rooms = [digital.capacity(tile.area * channels, bits) - chunk.SIZE for tile in tiles]

    def residual_of(tile: Tile) -> codec.Residual:
        part = tile.large(rescaler.scale, picture.width, picture.height)
        return pixels.residual(original[part], base[part])

    payloads: list[bytes | None] = [None] * len(tiles)
    if kind is not None:
        payloads = pixels.encode_tiles(residual_of, tiles, rooms, kind, os.cpu_count() or 1)
    samples = pixels.hidden(fine, bits, depth, common, payloads, seen_alpha(alpha))
    small = picture.with_pixels(np.repeat(samples, 3, axis=2) if channels == 1 else samples, alpha)
    carried = [len(payload) for payload in payloads if payload is not None]
    if not carried:
        return small, None
    layer = Layer(common, bits, tiles, {t.index: p for t, p in zip(tiles, payloads, strict=True) if p is not None})
    quality = measure(original, eight_bits(small.pixels), rescaler.scale, base, layer)
    return small, facts_of(layer, quality)


def facts_of(layer: Layer, quality: Quality, *, attached: int = 0, exact: bool = False) -> dict[str, Any]:
    """What the record says of a picture's detail, see docs/detail.md."""
    return {
        "bits": layer.bits,
        "side": layer.common.side,
        "bytes": layer.size,
        "codec": codec.CODECS[layer.common.codec],
        "attached": attached,
        "exact": exact,
        "psnr": quality.psnr,
    }


def measure(original: Array, small: Array, scale: int, base: Array, layer: Layer) -> Quality:
    """What the layer brings, tile by tile; all (H, W, 3) uint8. `base` is what it is added to."""
    quality = Quality()
    height, width = original.shape[:2]
    for tile in layer.tiles:
        part = tile.large(scale, width, height)
        restored = base[part].copy()
        _add(restored, tile, layer, small)
        quality.add(original[part], restored, base[part], enlarge_tile(small, tile, scale, restored.shape))
    return quality


def common_of(rescaler: Rescaler, picture: Picture, width: int, height: int, kind: int, flags: int = 0) -> chunk.Common:
    """What all headers say of a picture whose small one is width x height."""
    for flag, holds in (
        (chunk.GRAY, picture.gray),
        (chunk.OPAQUE_ALPHA, picture.opaque_alpha),
        (chunk.JPEG_RESISTANT, rescaler.jpeg_resistant),
    ):
        flags |= flag if holds else 0
    scale = rescaler.scale
    padding = width * scale - picture.width, height * scale - picture.height
    return chunk.Common(kind, flags, scale, padding, side_for(scale), rescaler.digest)


def without_digits(picture: Picture) -> Picture:
    """A picture with a layer in its digits as what the base is made of: samples at the centres of their cells.

    16 bits deep, alpha too; any other picture as it is.
    """
    bits = max((layer.bits for layer in picture.layers), default=0)
    if not bits:
        return picture
    middle = digital.centres(digital.split(picture.pixels, bits)[0], bits, picture.depth)
    alpha = picture.alpha
    return picture.with_pixels(middle, None if alpha is None else sixteen_bits(alpha), depth=16)


def add_detail(restored: Array, layer: Layer, small: Array, scale: int) -> int:
    """Add the layer to (H, W, 3) uint8 or uint16 pixels in place. Returns the number of tiles that have none.

    small: (h, w, 3), the small picture as stored, of which the base of an attached layer may be made.
    """
    height, width = restored.shape[:2]
    return sum(not _add(restored[tile.large(scale, width, height)], tile, layer, small) for tile in layer.tiles)


def _add(restored: Array, tile: Tile, layer: Layer, small: Array) -> bool:
    """Add one tile's residual in place; False where it has no payload, or one that is no picture of its size."""
    payload = layer.payloads.get(tile.index)
    if payload is None:
        return False
    high, wide = restored.shape[:2]
    residual = codec.decode(payload, layer.common.codec, wide, high)
    if residual is None:
        return False
    if layer.common.flags & chunk.BICUBIC_BASE:
        base = enlarge_tile(eight_bits(small), tile, layer.common.scale, restored.shape)
        restored[...] = base if restored.dtype == np.uint8 else sixteen_bits(base)
    if layer.common.flags & chunk.GRAY:
        residual[...] = residual[..., 1:2]
    if restored.dtype == np.uint8:
        restored[...] = (restored + residual).clip(0, 255).astype(np.uint8)
    else:
        restored[...] = (restored + residual.astype(np.int32) * 257).clip(0, 65535).astype(np.uint16)
    return True


def enlarge_tile(small: Array, tile: Tile, scale: int, shape: tuple[int, ...]) -> Array:
    """A tile of the small picture enlarged by Keys's bicubic interpolation, cropped to `shape`."""
    top, left = max(0, tile.top - _MARGIN), max(0, tile.left - _MARGIN)
    part = small[top : tile.bottom + _MARGIN, left : tile.right + _MARGIN]
    size = part.shape[1] * scale, part.shape[0] * scale
    large = np.asarray(Image.fromarray(np.ascontiguousarray(part)).resize(size, Image.Resampling.BICUBIC))
    y, x = (tile.top - top) * scale, (tile.left - left) * scale
    return large[y : y + shape[0], x : x + shape[1]]


def as_gray(samples: Array) -> Array:
    """(H, W, 3) with all channels their rounded mean."""
    return np.repeat(gray_of(samples)[..., None], 3, axis=2)


def _halves(progress: Progress | None) -> tuple[Progress | None, Progress | None]:
    """One report of work for two passes of equal work."""
    if progress is None:
        return None, None
    tell: Callable[[int, int], None] = progress
    return (lambda done, total: tell(done, 2 * total)), (lambda done, total: tell(total + done, 2 * total))
