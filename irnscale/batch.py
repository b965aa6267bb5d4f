"""One file or many: what is read, what is written where, and what happens when one of them fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from irnscale.errors import ExitCode, InputError, IrnscaleError, OutputError, UsageError
from irnscale.images.atomic import write_bytes_atomic
from irnscale.images.formats import canonical_format, format_from_name, is_lossy

if TYPE_CHECKING:
    from irnscale.images.picture import Picture

STREAM = "-"
Say = Callable[[str], None]
Namer = Callable[[str, int], str]
"""(stem of the input, scale) -> name of the output"""


@dataclass(frozen=True)
class Output:
    """Options about files, shared by `down` and `up`."""

    output: str | None = None
    format: str | None = None
    quality: int | None = None
    subsampling: str | None = None
    overwrite: bool = False

    def resolve_format(self) -> str:
        """The format to write: `-f`, else by the extension of `-o`, else PNG. Raises UsageError."""
        named = None
        if self.output not in (None, STREAM) and not _is_folder(str(self.output)):
            suffix = Path(str(self.output)).suffix
            named = format_from_name(str(self.output))
            if suffix and named is None and self.format is None:
                raise UsageError(f"-o {self.output}: cannot write {suffix} files", "use .png, .jpg, .webp or .tiff")
        chosen = canonical_format(self.format) if self.format else (named or "png")
        if self.format and named and named != chosen:
            raise UsageError(f"-f {self.format} contradicts -o {self.output}", "leave one of them out")
        return chosen

    @property
    def settings(self) -> str:
        """Text that identifies what affects the written pixels."""
        return f"format={self.resolve_format()} quality={self.quality} subsampling={self.subsampling}"

    @property
    def lossy(self) -> bool:
        """Whether pixels change in the file."""
        return is_lossy(self.resolve_format(), self.quality)


@dataclass(frozen=True)
class Job:
    """One input and its place in the world; `source` or `target` is None for stdin or stdout.

    The target's name may depend on the file itself (its recorded scale), hence a function.
    """

    label: str
    source: Path | None
    target: Path | None
    name: Callable[[int], str]
    folder: Path | None

    def path(self, scale: int) -> Path | None:
        """Where the output goes; None is stdout."""
        if self.target is not None or self.folder is None:
            return self.target
        return self.folder / self.name(scale)


@dataclass
class Outcome:
    """What became of a job."""

    job: Job
    target: Path | None = None
    error: IrnscaleError | None = None
    notes: list[str] = field(default_factory=list)


def _is_folder(path: str) -> bool:
    return path.endswith(("/", "\\")) or os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for long names


def plan(inputs: Iterable[str], options: Output, name: Namer) -> list[Job]:
    """The jobs of a run; `name(stem, scale)` makes default names. Raises UsageError before any work.

    One input may go to a file, a folder or stdout; several go to a folder or beside themselves.
    """
    labels = list(inputs)
    options.resolve_format()
    several = len(labels) > 1
    to = options.output
    if to == "" or "" in labels:
        raise UsageError("an empty file name", "is a shell variable unset?")
    if to == STREAM and several:
        raise UsageError("-o - takes a single input", "give a folder with -o")
    if to not in (None, STREAM) and several and not _is_folder(str(to)):
        raise UsageError(
            f"-o {to} is not a folder, and there are {len(labels)} inputs",
            "create it first, or end it with /",
        )
    if labels.count(STREAM) > 1:
        raise UsageError("stdin (-) can be read only once", "name it once")
    jobs = []
    for label in labels:
        source = None if label == STREAM else Path(label)
        stem = "stdin" if source is None else source.stem
        target: Path | None = None
        folder: Path | None = None
        if to == STREAM or (to is None and source is None):
            pass
        elif to is None:
            assert source is not None
            folder = source.parent
        elif _is_folder(to):
            folder = Path(to)
        else:
            target = Path(to)
        jobs.append(Job("stdin" if source is None else label, source, target, _named(name, stem), folder))
    return jobs


def _named(name: Namer, stem: str) -> Callable[[int], str]:
    return lambda scale: name(stem, scale)


class Targets:
    """Refuses outputs that would land on an input, on each other, or on what exists."""

    def __init__(self, jobs: list[Job], *, overwrite: bool) -> None:
        self._overwrite = overwrite
        # os.path.realpath and not Path.resolve, which raises for loops of links
        self._inputs = {os.path.realpath(job.source): job.label for job in jobs if job.source is not None}
        self._taken: dict[str, str] = {}

    def claim(self, job: Job, scale: int) -> Path | None:
        """The target of a job, checked before its picture is computed. Raises OutputError."""
        target = job.path(scale)
        if target is None:
            return None
        try:
            return self._claim(job, target)
        except OSError as error:  # a name that is too long, a folder that may not be searched
            raise OutputError(f"{target}: cannot be written: {error.strerror}", "choose another -o") from error

    def _claim(self, job: Job, target: Path) -> Path:
        if target.is_dir():
            raise OutputError(f"{target}: is a folder", "name a file with -o")
        real = os.path.realpath(target)
        if real in self._inputs:
            raise OutputError(f"{target}: the output would replace the input {self._inputs[real]}", "choose another -o")
        if real in self._taken:
            what = f"{target}: both {self._taken[real]} and {job.label} would be written there"
            raise OutputError(what, "run them one by one, with -o")
        if target.exists() and not self._overwrite:
            raise OutputError(f"{target}: already exists", "use --overwrite to replace it")
        folder = target.parent
        if job.folder is not None and not folder.exists():
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"{folder}: cannot create the folder: {error.strerror}", "choose another -o"
                ) from error
        if not folder.is_dir():
            raise OutputError(f"{folder}: no such folder", "create it first")
        self._taken[real] = job.label
        return target


def read_source(job: Job, *, max_pixels: int, frames: str) -> Picture:
    """The picture of a job, from its file or from stdin. Raises InputError."""
    from irnscale.images.read import read_picture

    if job.source is not None:
        return read_picture(job.source, job.label, max_pixels=max_pixels, frames=frames)
    if sys.stdin.isatty():
        raise UsageError("stdin is a terminal", "pipe a picture in, or name a file")
    data = sys.stdin.buffer.read()
    if not data:
        raise InputError("stdin: is empty", "did the command before the pipe fail?")
    return read_picture(data, "stdin", max_pixels=max_pixels, frames=frames)


def write_target(data: bytes, target: Path | None, *, overwrite: bool, stdout: int) -> None:
    """Write the finished file to its target, or to the file descriptor `stdout`. Raises OutputError."""
    if target is not None:
        write_bytes_atomic(data, target, overwrite=overwrite)
        return
    try:
        with open(stdout, "wb", closefd=False) as stream:
            stream.write(data)
    except OSError as error:
        raise OutputError(f"stdout: could not write: {error.strerror}", "use -o FILE") from error


def run(
    jobs: list[Job],
    process: Callable[[Job, list[str]], Path | None],
    *,
    say: Say,
    warn: Say,
    fail: Say,
) -> int:
    """Run every job; one that fails is reported and does not stop the others. Returns the exit code.

    The code is 0, or the class of the failures where all are of one class, else 1.
    """
    outcomes: list[Outcome] = []
    for job in jobs:
        outcome = Outcome(job)
        try:
            outcome.target = process(job, outcome.notes)
        except IrnscaleError as error:
            outcome.error = error
        for note in dict.fromkeys(outcome.notes):
            warn(f"{job.label}: {note}")
        if outcome.error:
            text = str(outcome.error)
            fail(text if job.label in text else f"{job.label}: {text}")
        outcomes.append(outcome)
    failures = [o.error for o in outcomes if o.error]
    if len(jobs) > 1:
        say(f"{len(jobs) - len(failures)} of {len(jobs)} done")
    if not failures:
        return ExitCode.OK
    classes = {error.exit_code for error in failures}
    return classes.pop() if len(classes) == 1 else ExitCode.INPUT
