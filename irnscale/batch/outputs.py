"""Options about what is written, and the writing itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irnscale.batch.inputs import SUFFIXES, Item, Selection
from irnscale.batch.lists import STREAM
from irnscale.errors import OutputError, UsageError, check_choice
from irnscale.images.atomic import check_writable, write_bytes_atomic
from irnscale.images.formats import FORMATS, canonical_format, format_from_name, is_lossy

if TYPE_CHECKING:
    from irnscale.images.picture import Picture
    from irnscale.images.pixels import Pixels
    from irnscale.images.record import Provenance


@dataclass(frozen=True)
class Output:
    """Options about files, shared by `down` and `up`."""

    output: str | None = None
    format: str | None = None
    name: str | None = None
    quality: int | None = None
    subsampling: str | None = None
    depth: int | None = None
    strip: str | None = None
    overwrite: bool = False
    skip_existing: bool = False

    def __post_init__(self) -> None:
        check_choice("depth", self.depth, (None, 8, 16))
        check_choice("strip", self.strip, (None, "metadata", "all"))

    @property
    def folder(self) -> Path | None:
        """The folder that `-o` names; None where it names none."""
        return Path(self.output) if self.output not in (None, STREAM) and is_folder(str(self.output)) else None

    def resolve_format(self) -> str:
        """The format to write: `-f`, else by the extension of `-o` or `--name`, else PNG. Raises UsageError."""
        parameter, path = "target", self.output
        if path in (None, STREAM) or is_folder(str(path)):
            parameter, path = "name", self.name
        named = None
        if path is not None:
            suffix = Path(path).suffix
            known = suffix and "{" not in suffix
            named = format_from_name(path) if known else None
            if known and named is None and self.format is None:
                kinds = ", ".join(f".{name}" for name in FORMATS)
                remedy = f"use one of {kinds}" + (", or end it with / for a folder" if parameter == "target" else "")
                what = f"{parameter}={path}: cannot write {suffix} files"
                raise UsageError(what, remedy, parameters=(parameter,))
        chosen = canonical_format(self.format) if self.format else (named or "png")
        if self.format and named and named != chosen:
            what = f"format={self.format} contradicts {parameter}={path}"
            raise UsageError(what, "leave one of them out", parameters=("format", parameter))
        return chosen

    @property
    def settings(self) -> str:
        """Text that identifies what affects the written file."""
        text = f"format={self.resolve_format()} quality={self.quality} subsampling={self.subsampling}"
        return text + (f" depth={self.depth}" if self.depth else "") + (f" strip={self.strip}" if self.strip else "")

    def encode(self, picture: Picture, record: Provenance) -> bytes:
        """The file, with what is attached to the picture. Raises UsageError, OutputError as `encode_picture` does."""
        from irnscale.images.segments import attached
        from irnscale.images.write import encode_picture

        format = self.resolve_format()
        options: dict[str, Any] = {"quality": self.quality, "subsampling": self.subsampling}
        data = encode_picture(picture.stripped(self.strip), format, record=record, **options)
        return data if picture.attachment is None else attached(data, picture.attachment, format)

    @property
    def through(self) -> Callable[[Pixels], Pixels] | None:
        """What a lossy format makes of (h, w, C) samples; None where it is lossless."""
        from irnscale.images.through import through_format

        if not self.lossy:
            return None
        return partial(through_format, format=self.resolve_format(), quality=self.quality, subsampling=self.subsampling)

    @property
    def lossy(self) -> bool:
        """Whether pixels change in the file."""
        return is_lossy(self.resolve_format(), self.quality)


def is_folder(path: str) -> bool:
    """Whether a name is that of a folder, or can only be one."""
    return path.endswith(("/", "\\")) or os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for long names


def place_of(output: str | None, selection: Selection, *, named: bool) -> tuple[str | None, Selection]:
    """`-o` and the inputs as they are meant.

    A place that does not exist is a folder, and gets a `/`, where several pictures may go to it or `named` says that
    it is to hold names from a template, unless its own name ends in a picture's extension. Where folders alone go to
    another place, `--recursive` goes without saying: nothing else can be meant.
    """
    if output in (None, "", STREAM):
        return output, selection
    assert output is not None
    folders = [name for name in selection.inputs if name and os.path.isdir(name)]  # noqa: PTH112
    several = len(selection.inputs) > 1 or selection.files_from is not None or bool(folders)
    missing = not os.path.lexists(output) and Path(output).suffix.lower() not in SUFFIXES
    if (several or named) and missing and not is_folder(output):
        output += "/"
    alone = len(selection.inputs) == len(folders) > 0 and selection.files_from is None
    if alone:
        selection = replace(selection, recursive=True)
    return output, selection


def check_apart(target: Path, inputs: Iterable[Item]) -> None:
    """Raise OutputError where writing the target would replace one of the inputs, whatever it is called."""
    real = os.path.realpath(target)
    for item in inputs:
        if item.source is not None and os.path.realpath(item.source) == real:
            raise OutputError(f"{target}: the output would replace the input {item.label}", "choose another place")


def check_outputs(targets: Iterable[Path], inputs: Iterable[Item], *, overwrite: bool) -> None:
    """Raise the OutputError, before any work, of what would fail at its end, or replace an input or another output."""
    items, taken = list(inputs), set()
    for target in targets:
        check_apart(target, items)
        if (real := os.path.realpath(target)) in taken:
            raise OutputError(f"{target}: two outputs would be written there", "choose another place for one of them")
        taken.add(real)
        check_writable(target, overwrite=overwrite)


def write_target(data: bytes, target: Path | None, *, overwrite: bool, stdout: int) -> None:
    """Write the finished file to its target, or to the file descriptor `stdout`. Raises OutputError."""
    if target is not None:
        write_bytes_atomic(data, target, overwrite=overwrite)
        return
    try:
        with open(stdout, "wb", closefd=False) as stream:
            stream.write(data)
    except OSError as error:
        raise OutputError(
            f"stdout: could not write: {error.strerror}", "name a file with `target`", parameters=("target",)
        ) from error
