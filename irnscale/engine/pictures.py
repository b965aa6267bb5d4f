"""Whole pictures through a `Rescaler`: gray, alpha and the record of what was done."""

from __future__ import annotations

from typing import Any

import numpy as np

import irnscale
from irnscale.engine.executor import Progress
from irnscale.engine.rescaler import Rescaler, gray_of
from irnscale.images.alpha import bleed
from irnscale.images.picture import Picture
from irnscale.images.provenance import Provenance, pixel_crc, settings_digest


def _plane(rescale: Any, plane: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A single plane (H, W) through the network, as gray: three equal channels in, their rounded mean out."""
    return gray_of(rescale(np.repeat(plane[..., None], 3, axis=2)))


def _rescale(picture: Picture, rescale: Any) -> Picture:
    pixels = picture.pixels if picture.alpha is None else bleed(picture.pixels, picture.alpha)
    result = rescale(pixels)
    if picture.gray:
        result = np.repeat(gray_of(result)[..., None], 3, axis=2)
    alpha = None if picture.alpha is None else _plane(rescale, picture.alpha)
    return picture.with_pixels(result, alpha)


def _record(
    kind: str, rescaler: Rescaler, source: Picture, *, large: Picture, small: Picture, settings: str
) -> Provenance:
    original = source.format if kind == "down" else source.record.original_format if source.record else "unknown"
    return Provenance(
        kind=kind,
        version=irnscale.__version__,
        model=rescaler.name,
        digest=rescaler.digest,
        scale=rescaler.scale,
        width=large.width,
        height=large.height,
        lr_width=small.width,
        lr_height=small.height,
        padding=(small.width * rescaler.scale - large.width, small.height * rescaler.scale - large.height),
        jpeg_resistant=rescaler.jpeg_resistant,
        original_format=original,
        source_digest=source.source_digest,
        settings_digest=settings_digest(settings),
        crc=pixel_crc(small),
        opaque_alpha=source.opaque_alpha,
        gray=source.gray,
    )


def shrink(
    rescaler: Rescaler, picture: Picture, *, settings: str, depth: int = 8, progress: Progress | None = None
) -> tuple[Picture, Provenance]:
    """`down` for a picture: the small picture, 8 or 16 bits deep, and the record to write into its file.

    Gray pictures stay gray; colour under transparent pixels is replaced by its surroundings first, and
    alpha is shrunk as a plane of its own. `settings` is text that identifies the options used.
    """
    small = _rescale(picture, lambda pixels: rescaler.down(pixels, depth=depth, progress=progress))
    record = _record("down", rescaler, picture, large=picture, small=small, settings=settings)
    return small, record


def restore(
    rescaler: Rescaler,
    picture: Picture,
    *,
    size: tuple[int, int] | None,
    settings: str,
    depth: int = 8,
    progress: Progress | None = None,
) -> tuple[Picture, Provenance]:
    """`up` for a picture: the restored picture, cropped to `size` = (width, height), and its record."""
    full = _rescale(picture, lambda pixels: rescaler.up(pixels, size=size, depth=depth, progress=progress))
    record = _record("up", rescaler, picture, large=full, small=picture, settings=settings)
    return full, record
