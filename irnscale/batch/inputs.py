"""What the user named: files, folders, lists and streams, as a list of single inputs."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from irnscale.batch.lists import STREAM, read_list
from irnscale.errors import InputError, IrnscaleError, UsageError
from irnscale.images.opening import is_picture_head, read_bounded, read_bytes

SUFFIXES = frozenset(
    [
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".mpo",
        ".webp",
        ".tif",
        ".tiff",
        ".avif",
        ".avifs",
        ".gif",
        ".bmp",
        ".dib",
        ".jp2",
        ".j2k",
        ".jpf",
        ".jpx",
        ".j2c",
        ".jpc",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".heic",
        ".heif",
        ".hif",
        ".jxl",
        ".tga",
    ]
)
"""Extensions, in any case of letters, that a file must have to be taken from a folder."""


@dataclass(frozen=True)
class Item:
    """One input.

    label: what messages call it. source: its file; None: stdin. below: the folder of its output, relative to the folder
    of all outputs: where it was found in a tree, or as its name in a list says. found: it was found in a folder rather
    than named. problem: why it cannot be read, where that is known already.
    """

    label: str
    source: Path | None
    below: Path = Path()
    found: bool = False
    problem: IrnscaleError | None = None

    @property
    def regular(self) -> bool:
        """Whether reading it cannot wait for another program, as reading a stream or a pipe can."""
        if self.source is None:
            return False
        try:
            return not stat.S_ISFIFO(self.source.stat().st_mode)
        except (OSError, ValueError):
            return True  # reading it fails at once


@dataclass(frozen=True)
class Selection:
    """The options that say which inputs there are."""

    inputs: tuple[str, ...] = ()
    recursive: bool = False
    files_from: str | None = None
    null: bool = False


@dataclass
class Found:
    """The inputs, each once, in the order of work; the folders without any; how many other files they hold."""

    items: list[Item]
    empty: list[str]
    passed_over: int


def collect(selection: Selection, *, avoid: Path | None = None) -> Found:
    """The inputs of a run. Raises UsageError.

    With `recursive`, folders are searched in sorted order without following links to folders; hidden names
    and the folder `avoid` (where the outputs go) are left out. A folder without it is an input that fails.
    The names of a list keep their folders, as rsync's `--files-from` has it.
    """
    if "" in selection.inputs:
        raise UsageError("an empty file name", "is a shell variable unset?")
    if selection.inputs.count(STREAM) > 1:
        raise UsageError("stdin (-) can be read only once", "name it once")
    if selection.null and selection.files_from is None:
        raise UsageError(
            "`null` belongs to `files_from`",
            "for example: find . -print0 | ... files_from=- `null`",
            parameters=("files_from", "null"),
        )
    named, listed = list(selection.inputs), []
    if selection.files_from is not None:
        if selection.files_from == STREAM and STREAM in named:
            raise UsageError("stdin (-) can be read only once", "give the list in a file")
        listed = read_list(selection.files_from, selection.null)
    elif not named:
        hint, otherwise = "name pictures, - for stdin, or use `files_from`", "name pictures, or - for stdin"
        raise UsageError("no INPUT is given", hint, parameters=("files_from",), otherwise=otherwise)
    items: dict[tuple[str, Path], Item] = {}
    searched: set[str] = set()  # files found, for a folder may be given together with one in it
    empty: list[str] = []
    passed = [0]
    for index, name in enumerate([*named, *listed]):
        from_list = index >= len(named)
        if name == STREAM:
            items[STREAM, Path()] = Item("stdin", None)
        elif selection.recursive and os.path.isdir(name):  # noqa: PTH112 - Path.is_dir raises for long names
            anything = False
            for item in _walk(Path(name), avoid, passed, _inside(name) if from_list else Path()):
                key = _normal(item.label)
                if from_list or key not in searched:
                    items.setdefault((key, item.below), item)
                searched.add(key)
                anything = True
            if not anything:
                empty.append(name)
        elif not (from_list and (_normal(name), Path()) in items):
            below = _inside(os.path.dirname(name)) if from_list else Path()  # noqa: PTH120
            problem = _misread(name) if from_list else None
            items.setdefault((_normal(name), below), Item(name, Path(name), below, problem=problem))
    return Found(list(items.values()), empty, passed[0])


def parse_shard(text: str | None) -> tuple[int, int]:
    """ "2/8" as (2, 8): the second of eight parts; (1, 1) for None. Raises UsageError."""
    if text is None:
        return 1, 1
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        what = f"shard={text}: not of the form I/N with I from 1 to N"
        raise UsageError(what, "for example shard=1/8", parameters=("shard",))
    return int(match[1]), int(match[2])


def read_source(item: Item, *, searched: bool = True) -> bytes:
    """The bytes of an input; `searched` says whether folders could be. Raises InputError; UsageError for a terminal."""
    if item.problem is not None:
        raise item.problem
    if item.source is not None:
        if searched and os.path.isdir(item.source):  # noqa: PTH112 - Path.is_dir raises for long names
            raise InputError(
                f"{item.label}: is a folder",
                "add `recursive` to take the pictures in it",
                parameters=("recursive",),
                otherwise="give a picture file",
            )
        return read_bytes(item.source, item.label)
    if sys.stdin.isatty():
        raise UsageError("stdin is a terminal", "pipe a picture in, or name a file")
    data = read_bounded(sys.stdin.buffer, item.label)
    if not data:
        raise InputError("stdin: is empty", "did the command before the pipe fail?")
    return data


def _normal(name: str) -> str:
    return os.path.abspath(name)  # noqa: PTH100 - Path.absolute keeps ".."


def _inside(folder: str) -> Path:
    """A folder's name as a path that cannot lead out of where it is put: without root, drive and leading `..`."""
    path = Path(os.path.normpath(folder))
    return Path(*(part for part in path.parts if part not in (path.anchor, "..")))


def _misread(name: str) -> InputError | None:
    """Why there is no such file, where its name in a list is not written as file names are."""
    if os.path.lexists(name) or name.isascii():
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        return InputError(f"{name}: no such file, and its name in the list is not UTF-8", "write the list in UTF-8")
    return None


def _walk(root: Path, avoid: Path | None, passed: list[int], below: Path) -> Iterator[Item]:
    """The pictures in a tree, in sorted order, the tree itself put `below`; `passed[0]` counts the other files."""
    avoided = os.path.realpath(avoid) if avoid is not None else None
    problems: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=problems.append):
        while problems:
            yield _unreadable(problems.pop())
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and (avoided is None or os.path.realpath(here / name) != avoided)
        )
        for name in sorted(names):
            if name.startswith("."):
                continue
            if _is_picture(here / name):
                path = here / name
                yield Item(str(path), path, below / here.relative_to(root), found=True)
            else:
                passed[0] += 1
    while problems:
        yield _unreadable(problems.pop())


def _is_picture(path: Path) -> bool:
    """By extension; by its first bytes where it has none. Pipes, sockets and devices are none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        if path.suffix:
            return path.suffix.lower() in SUFFIXES
        with path.open("rb") as file:
            return is_picture_head(file.read(16))
    except OSError:  # a broken link, a loop of links, a vanished file: reported where it is read
        return path.suffix.lower() in SUFFIXES


def _unreadable(error: OSError) -> Item:
    name = str(error.filename)
    problem = InputError(f"{name}: the folder cannot be read: {error.strerror}", "check its permissions")
    return Item(name, Path(name), found=True, problem=problem)
