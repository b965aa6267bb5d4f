"""Whole pictures through a `Rescaler`: gray, alpha and the record of what was done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import irnscale
from irnscale.engine.canvas import gray_of
from irnscale.engine.executor import Progress
from irnscale.engine.rescaler import Rescaler
from irnscale.images.alpha import bleed
from irnscale.images.picture import Picture
from irnscale.images.provenance import Provenance, pixel_crc, settings_digest


def _plane(rescale: Any, plane: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A single plane (H, W) through the network, as gray: three equal channels in, their rounded mean out."""
    return gray_of(rescale(np.repeat(plane[..., None], 3, axis=2)))


def _rescale(picture: Picture, rescale: Any) -> Picture:
    pixels = picture.pixels if picture.alpha is None else bleed(picture.pixels, picture.alpha)
    alpha = None if picture.alpha is None else _plane(rescale, picture.alpha)
    return _as_gray(picture.with_pixels(rescale(pixels), alpha))


def _rescale_all(pictures: Sequence[Picture], rescale: Any) -> list[Picture]:
    """One picture, or several of one size and without alpha as one batch."""
    if len(pictures) == 1:
        return [_rescale(pictures[0], rescale)]
    if any(picture.alpha is not None for picture in pictures):
        raise ValueError("pictures with alpha are rescaled one by one")
    batch = rescale(np.stack([picture.pixels for picture in pictures]))
    return [_as_gray(picture.with_pixels(pixels)) for picture, pixels in zip(pictures, batch, strict=True)]


def _as_gray(picture: Picture) -> Picture:
    """A picture that is to be gray with equal channels."""
    if not picture.gray:
        return picture
    return picture.with_pixels(np.repeat(gray_of(picture.pixels)[..., None], 3, axis=2), picture.alpha)


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


def shrink_all(
    rescaler: Rescaler,
    pictures: Sequence[Picture],
    *,
    settings: str,
    depth: int = 8,
    progress: Progress | None = None,
) -> list[tuple[Picture, Provenance]]:
    """`down` for pictures: each small picture, 8 or 16 bits deep, and the record to write into its file.

    Gray pictures stay gray; colour under transparent pixels is replaced by its surroundings first, and
    alpha is shrunk as a plane of its own. `settings` is text that identifies the options used. Several
    pictures must have one size and no alpha (ValueError); they share a batch of the network.
    """
    small = _rescale_all(pictures, lambda pixels: rescaler.down(pixels, depth=depth, progress=progress))
    return [
        (result, _record("down", rescaler, source, large=source, small=result, settings=settings))
        for source, result in zip(pictures, small, strict=True)
    ]


def restore_all(
    rescaler: Rescaler,
    pictures: Sequence[Picture],
    *,
    size: tuple[int, int] | None,
    settings: str,
    depth: int = 8,
    temperature: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[tuple[Picture, Provenance]]:
    """`up` for pictures: each restored picture, cropped to `size` = (width, height), and its record."""
    options: dict[str, Any] = {"temperature": temperature, "seed": seed, "progress": progress}
    full = _rescale_all(pictures, lambda pixels: rescaler.up(pixels, size=size, depth=depth, **options))
    return [
        (result, _record("up", rescaler, source, large=result, small=source, settings=settings))
        for source, result in zip(pictures, full, strict=True)
    ]


def shrink(rescaler: Rescaler, picture: Picture, **options: Any) -> tuple[Picture, Provenance]:
    """`shrink_all` for a single picture."""
    return shrink_all(rescaler, [picture], **options)[0]


def restore(rescaler: Rescaler, picture: Picture, **options: Any) -> tuple[Picture, Provenance]:
    """`restore_all` for a single picture."""
    return restore_all(rescaler, [picture], **options)[0]
