"""Whole pictures through a `Rescaler`: gray, alpha and the record of what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from irnscale._version import __version__
from irnscale.detail import chunk
from irnscale.engine.canvas import gray_of
from irnscale.engine.detailed import add_detail, shrink_with_detail, without_digits
from irnscale.engine.effort import on_grid, refine
from irnscale.engine.exactly import exact_picture
from irnscale.engine.executor import Progress
from irnscale.engine.rescaler import Rescaler
from irnscale.images.alpha import bleed
from irnscale.images.depth import eight_bits
from irnscale.images.orientation import turn_upright, turned_size
from irnscale.images.picture import Picture, pixel_crc
from irnscale.images.record import Provenance, settings_digest

Through = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


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
    _check_batch(pictures)
    batch = rescale(np.stack([picture.pixels for picture in pictures]))
    return [_as_gray(picture.with_pixels(pixels)) for picture, pixels in zip(pictures, batch, strict=True)]


def _check_batch(pictures: Sequence[Picture]) -> None:
    if len(pictures) > 1 and any(picture.alpha is not None for picture in pictures):
        raise ValueError("pictures with alpha are rescaled one by one")


def _as_gray(picture: Picture) -> Picture:
    """A picture that is to be gray with equal channels."""
    if not picture.gray:
        return picture
    return picture.with_pixels(np.repeat(gray_of(picture.pixels)[..., None], 3, axis=2), picture.alpha)


def _record(
    kind: str,
    rescaler: Rescaler,
    source: Picture,
    *,
    large: Picture,
    small: Picture,
    settings: str,
    in_colour: bool = False,
    detail: dict[str, Any] | None = None,
) -> Provenance:
    original = source.format if kind == "down" else source.record.original_format if source.record else "unknown"
    return Provenance(
        kind=kind,
        version=__version__,
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
        in_colour=in_colour,
        detail=detail,
    )


def shrink_all(
    rescaler: Rescaler,
    pictures: Sequence[Picture],
    *,
    settings: str,
    depth: int = 8,
    detail: int = 0,
    effort: int = 0,
    through: Through | None = None,
    in_colour: bool = False,
    progress: Progress | None = None,
) -> list[tuple[Picture, Provenance]]:
    """`down` for pictures: each small picture, 8 or 16 bits deep, and the record to write into its file.

    detail: bits of each stored sample that carry a coded layer of what the network loses; 0: none. effort: steps of
    `effort.refine` for each small picture. through: what a lossy format makes of (h, w, C) samples. Gray pictures stay
    gray, or get a small picture of three channels with `in_colour`. Colour under transparent pixels is replaced by its
    surroundings first, and alpha is shrunk as a plane of its own. `settings` is text that identifies the options used.
    Several pictures must have one size and no alpha (ValueError); they share a batch of the network.
    """
    _check_batch(pictures)
    sources = pictures
    if in_colour:
        pictures = [replace(picture, gray=False) for picture in pictures]
    made: list[tuple[Picture, dict[str, Any] | None]]
    if detail:
        made = shrink_with_detail(
            rescaler,
            pictures,
            detail,
            depth=depth,
            small_alpha=lambda p: None if p.alpha is None else _plane(lambda x: rescaler.down(x, depth=depth), p.alpha),
            progress=progress,
            effort=effort,
        )
    elif effort:
        made = [(_refined(rescaler, p, depth, effort, through, progress), None) for p in pictures]
    else:
        made = [(p, None) for p in _rescale_all(pictures, lambda x: rescaler.down(x, depth=depth, progress=progress))]
    return [
        (
            small,
            _record(
                "down",
                rescaler,
                source,
                large=source,
                small=small,
                settings=settings,
                in_colour=source.gray and not small.gray,
                detail=facts,
            ),
        )
        for source, (small, facts) in zip(sources, made, strict=True)
    ]


def _refined(
    rescaler: Rescaler,
    picture: Picture,
    depth: int,
    steps: int,
    through: Through | None,
    progress: Progress | None,
) -> Picture:
    """A small picture without detail, after some steps of optimisation."""
    colour = picture.pixels if picture.alpha is None else bleed(picture.pixels, picture.alpha)
    fine = rescaler.down(colour, depth=16)
    fine = gray_of(fine)[..., None] if picture.gray else fine
    fine = refine(rescaler, fine, colour, steps, on_grid(depth, through), progress)
    samples = eight_bits(fine) if depth == 8 else fine
    alpha = None if picture.alpha is None else _plane(lambda x: rescaler.down(x, depth=depth), picture.alpha)
    return picture.with_pixels(np.repeat(samples, 3, axis=2) if picture.gray else samples, alpha)


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
    """`up` for pictures: each restored picture, upright, of `size` = (width, height), and its record.

    `size` is that of the upright picture. The network gets the pixels as they are stored, which is how `down` wrote
    them, wherever a viewer has turned the small picture by its orientation since; the record speaks of these too.
    Where the record of a small picture says gray, gray comes out, however the small one was saved since. Several
    pictures must have one stored size, one orientation and no alpha (ValueError). Where a picture's `layers` are given,
    their detail is added; the network then starts from the samples without the digits that carry it.
    """
    orientation = pictures[0].orientation
    if any(picture.orientation != orientation for picture in pictures):
        raise ValueError("pictures with different orientations are restored one by one")
    size = None if size is None else turned_size(size, orientation)
    small = [_gray_as_recorded(picture.as_stored()) for picture in pictures]
    options: dict[str, Any] = {"temperature": temperature, "seed": seed, "progress": progress}
    whole = [exact_picture(picture, depth, size) for picture in small]
    bases = [without_digits(p) for p, done in zip(small, whole, strict=True) if done is None or not done.complete]
    rest = iter(_rescale_all(bases, lambda x: rescaler.up(x, size=size, depth=depth, **options)) if bases else ())
    full = []
    for picture, done in zip(small, whole, strict=True):
        if done is not None and done.complete:
            full.append(done.picture)
            continue
        result = next(rest)
        for layer in picture.layers:
            if layer.common.flags & chunk.GRAY:
                result = _as_gray(replace(result, gray=True))
            add_detail(result.pixels, layer, picture.pixels, rescaler.scale)
        if picture.record is not None and picture.record.gray:
            result = _as_gray(replace(result, gray=True))
        if done is not None:
            done.fill(result)
        full.append(result)
    return [
        (_upright(result, orientation), _record("up", rescaler, source, large=result, small=source, settings=settings))
        for source, result in zip(small, full, strict=True)
    ]


def restore_samples(
    rescaler: Rescaler,
    picture: Picture,
    *,
    size: tuple[int, int] | None,
    settings: str,
    depth: int = 8,
    temperature: float,
    seeds: Sequence[int],
    progress: Progress | None = None,
) -> list[tuple[Picture, Provenance]]:
    """`up` by a network that draws samples: one picture for each seed, see `Rescaler.samples` and `restore_all`.

    Transparency is that without noise in all of them.
    """
    size = None if size is None else turned_size(size, picture.orientation)
    small = picture.as_stored()
    pixels = small.pixels if small.alpha is None else bleed(small.pixels, small.alpha)
    alpha = None if small.alpha is None else _plane(lambda x: rescaler.up(x, size=size, depth=depth), small.alpha)
    made = rescaler.samples(pixels, temperature=temperature, seeds=seeds, size=size, depth=depth, progress=progress)
    full = [_as_gray(small.with_pixels(sample, alpha)) for sample in made]
    return [
        (
            _upright(result, picture.orientation),
            _record("up", rescaler, small, large=result, small=small, settings=settings),
        )
        for result in full
    ]


def _gray_as_recorded(picture: Picture) -> Picture:
    """Gray again, where `down` wrote gray and the file has three channels: WebP and AVIF have no others."""
    if picture.gray or picture.record is None or not picture.record.gray or picture.record.in_colour:
        return picture
    return replace(picture, gray=True, pixels=np.repeat(gray_of(picture.pixels)[..., None], 3, axis=2))


def _upright(picture: Picture, orientation: int) -> Picture:
    if orientation == 1:
        return picture
    alpha = None if picture.alpha is None else turn_upright(picture.alpha, orientation)
    return picture.with_pixels(turn_upright(picture.pixels, orientation), alpha)


def shrink(rescaler: Rescaler, picture: Picture, **options: Any) -> tuple[Picture, Provenance]:
    """`shrink_all` for a single picture."""
    return shrink_all(rescaler, [picture], **options)[0]


def restore(rescaler: Rescaler, picture: Picture, **options: Any) -> tuple[Picture, Provenance]:
    """`restore_all` for a single picture."""
    return restore_all(rescaler, [picture], **options)[0]
