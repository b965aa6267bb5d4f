"""`transfer`: content or style of one picture's file into another's, or a picture restored, by an SRFlow."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from irnscale.batch import Item, check_apart, read_source
from irnscale.errors import ModelError, UsageError
from irnscale.images.formats import check_format_limits
from irnscale.images.read import read_picture
from irnscale.images.write import check_options, check_transparency, encode_picture, encoding_notes
from irnscale.jobs.files import PathLike, Written
from irnscale.noise import check_temperature

if TYPE_CHECKING:
    from irnscale.engine.executor import Progress
    from irnscale.engine.rescaler import Rescaler
    from irnscale.images.picture import Picture
    from irnscale.zoo import Model

MODES = ("content", "style", "restore")
Mode = Literal["content", "style", "restore"]


@dataclass(frozen=True)
class Editing:
    """How pictures are edited; see `transfer_file`. Raises UsageError for what contradicts itself."""

    mode: str = "content"
    box: tuple[int, int, int, int] | None = None
    at: tuple[int, int] | None = None
    normalize: str | None = None
    temperature: float = 0.8
    seed: int = 0
    scale: int | None = None
    model: str | None = None
    format: str = "png"
    quality: int | None = None
    subsampling: str | None = None
    depth: int = 8
    device: str = "auto"
    tile: int | None = None
    max_memory: str | None = None
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        check_options(self.format, self.quality, self.subsampling)
        if self.mode not in MODES:
            raise UsageError(f"mode={self.mode} must be one of {', '.join(MODES)}")
        if self.normalize not in (None, "local", "spatial", "global", "none"):
            raise UsageError(f"normalize={self.normalize} must be local, spatial, global or none")
        check_temperature(self.temperature)
        if not 0 <= self.seed < 2**64:
            raise UsageError(f"seed={self.seed}: is not from 0 to 2^64 - 1", parameters=("seed",))
        if self.mode == "restore" and self.at is not None:
            raise UsageError("at has no meaning for restore, which changes a picture where it is", "leave it out")
        if self.mode == "restore" and self.scale is not None:
            raise UsageError("scale has no meaning for restore, which takes the large picture", "leave it out")


@dataclass(frozen=True)
class Transferred:
    """An edited picture as the bytes of a file. size: (width, height); model, digest: what made it.

    warnings: about the target and the file. of_source: about the source, where that is another picture.
    """

    data: bytes
    size: tuple[int, int]
    scale: int
    model: str
    digest: str
    warnings: tuple[str, ...]
    of_source: tuple[str, ...]


def transfer_file(
    source: PathLike,
    target: PathLike,
    output: PathLike,
    *,
    mode: Mode = "content",
    box: tuple[int, int, int, int] | None = None,
    at: tuple[int, int] | None = None,
    normalize: str | None = None,
    temperature: float = 0.8,
    seed: int = 0,
    overwrite: bool = False,
    **options: Any,
) -> Written:
    """Edit a picture's file in the latent space of an SRFlow: `irnscale transfer`.

    source: a picture's file. target: another's; its metadata and transparency are kept. output: the file to write,
    whose extension says the format. mode: "content" sets a box of the source into the target and harmonises it, "style"
    gives the target the textures of the source, "restore" (source and target alike) makes a picture's own latents those
    of an undamaged one. box: (x, y, width, height) in the source; None: as much as fits. at: (x, y) of it in the
    target; None: where it was. normalize: "local", "spatial", "global" or "none"; None: what suits the mode, see
    `engine.transfer`. temperature, seed: of the noise by which latents are normalised.

    options: model, a name or a file; scale, which says that the target is a small picture, to be enlarged first;
    quality, subsampling, depth (8 or 16), device, tile, max_memory, max_pixels. Raises what `down_file` does.
    """
    from irnscale.images.atomic import check_writable, write_bytes_atomic
    from irnscale.images.formats import format_from_name

    path = Path(output)
    found = format_from_name(str(path))
    if found is None:
        raise UsageError(f"{path}: its name does not say the format", "end it with .png, .jpg, .webp, .tiff or .avif")
    sources = [Item(os.fspath(name), Path(name)) for name in (source, target)]
    check_apart(path, sources)
    check_writable(path, overwrite=overwrite)
    try:
        settings = Editing(mode, box, at, normalize, temperature, seed, format=found, **options)
    except TypeError as error:
        raise TypeError(f"unknown option: {error}") from error
    labels, files = [item.label for item in sources], [read_source(item, searched=False) for item in sources]
    limit = settings.max_pixels
    pictures = [read_picture(data, label, max_pixels=limit) for label, data in zip(labels, files, strict=True)]
    done = transferred(pictures[0], pictures[1], settings)
    write_bytes_atomic(done.data, path, overwrite=overwrite)
    warnings = (*(f"{sources[0].label}: {note}" for note in done.of_source), *done.warnings)
    return Written(path, done.size, done.size, done.scale, done.model, warnings)


def transferred(
    source: Picture, target: Picture, settings: Editing, *, progress: Progress | None = None
) -> Transferred:
    """Edit pictures that were read. For "restore" the source is the target."""
    from irnscale.engine.transfer import Box, Edit, Transfer
    from irnscale.images.alpha import bleed

    model = chosen_model(settings.model)
    if settings.scale is not None and settings.scale != model.card.scale:
        raise UsageError(
            f"scale={settings.scale} contradicts {model.card.name}, which is x{model.card.scale}",
            "name another model",
            parameters=("scale",),
        )
    rescaler = _rescaler(model, settings.device, settings.tile, settings.max_memory)
    transfer = Transfer(rescaler, progress=progress)
    edit = Edit(cast(Mode, settings.mode), settings.normalize, settings.temperature, settings.seed)
    colour = target.pixels if target.alpha is None else bleed(target.pixels, target.alpha)
    small = alpha = None
    if settings.scale is None:
        alpha = target.alpha
    else:
        small, target = colour, _enlarged(rescaler, target, settings, colour)
        colour, alpha = target.pixels, target.alpha
    pixels = transfer.edit(
        colour,
        edit,
        source=colour if settings.mode == "restore" else source.pixels,
        cover=_cover(source, settings.mode),
        box=None if settings.box is None else Box(*settings.box),
        at=settings.at,
        small=small,
        depth=settings.depth,
    )
    of_source: list[str] = []
    if settings.mode != "restore":
        of_source += [note for note in source.notes if note not in target.notes]
        if source.icc != target.icc:
            of_source.append("has another colour profile than the target; its numbers are taken as they are")
    result = _result(target, pixels, alpha, settings.depth)
    check_format_limits(settings.format, result.width, result.height)
    check_transparency(result, settings.format)
    data = encode_picture(result, settings.format, quality=settings.quality, subsampling=settings.subsampling)
    notes = (*target.notes, *encoding_notes(result, settings.format))
    made_by = rescaler.scale, rescaler.name, rescaler.digest
    return Transferred(data, (result.width, result.height), *made_by, notes, tuple(of_source))


def chosen_model(name: str | None) -> Model:
    """The SRFlow of a name or file; where none is given, the shipped one, or else the only one that is installed.

    Raises ModelError, UsageError.
    """
    from irnscale.zoo import find, models, newest

    if name is not None:
        model = find(name)
        if not model.samples:
            raise ModelError(f"{name}: has no latents to transfer", "name an SRFlow", parameters=("model",))
        return model
    able = newest(model for model in models({}) if model.samples)
    able = [model for model in able if model.shipped] or able
    if not able:
        remedy = "`irnscale models import` takes SRFlow's weights, `irnscale train srflow-x4-budget` trains a small one"
        raise ModelError("no SRFlow is installed", remedy)
    if len(able) > 1:
        names = ", ".join(model.card.name for model in able)
        raise UsageError(
            f"there are several models with latents: {names}", "name one with `model`", parameters=("model",)
        )
    return able[0]


@lru_cache(maxsize=1)
def _rescaler(model: Model, device: str, tile: int | None, max_memory: str | None) -> Rescaler:
    from irnscale.engine.memory import keep_freed_memory
    from irnscale.engine.rescaler import Rescaler

    keep_freed_memory()
    return Rescaler([model], device=device, precision="float32", tile=tile, max_memory=max_memory)


def _cover(source: Picture, mode: str) -> np.ndarray[Any, Any] | None:
    """How much each pixel of pasted content covers what it is pasted on."""
    if mode != "content" or source.alpha is None:
        return None
    return source.alpha.astype(np.float32) / np.iinfo(source.alpha.dtype).max


def _enlarged(rescaler: Rescaler, small: Picture, settings: Editing, colour: np.ndarray[Any, Any]) -> Picture:
    """A small target as the network draws it, in 16 bits, so that its latents are those that were drawn."""
    options: dict[str, Any] = {"temperature": settings.temperature, "seeds": [settings.seed], "depth": 16}
    (pixels,) = rescaler.samples(colour, **options)
    alpha = None
    if small.alpha is not None:
        alpha = rescaler.up(np.repeat(small.alpha[..., None], 3, axis=2), depth=16)[..., 0]
    return small.with_pixels(pixels, alpha)


def _result(target: Picture, pixels: np.ndarray[Any, Any], alpha: np.ndarray[Any, Any] | None, depth: int) -> Picture:
    """The target with other pixels, in so many bits, gray where it was; the record of what made it is none any more."""
    from irnscale.engine.canvas import gray_of
    from irnscale.images.depth import eight_bits, sixteen_bits

    if alpha is not None:
        alpha = eight_bits(alpha) if depth == 8 else sixteen_bits(alpha)
    if target.gray:
        pixels = np.repeat(gray_of(pixels)[..., None], 3, axis=2)
    return replace(target.with_pixels(pixels, alpha), record=None)
