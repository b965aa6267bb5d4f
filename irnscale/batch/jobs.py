"""Where each input's output goes, decided and checked before any work."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from irnscale.batch.inputs import Item
from irnscale.batch.lists import STREAM
from irnscale.batch.outputs import Output, is_folder
from irnscale.errors import IrnscaleError, OutputError, UsageError
from irnscale.images.atomic import remove_stale

_FIELDS = re.compile(r"\{(stem|scale|sample|ext|in_ext)\}")


@dataclass(frozen=True)
class Naming:
    """Names of outputs from a template with the fields {stem}, {scale}, {ext}, {in_ext}, the input's extension, and
    {sample}, the output's number where an input has `samples`, which the template must then have.

    `drop` is removed from the end of an input's stem first, itself with {scale} in it: `up` makes
    photo_up4x.png of photo_down4x.png.
    """

    template: str
    ext: str
    drop: str = ""
    samples: int = 1

    def __post_init__(self) -> None:
        fields = set(re.findall(r"\{(.*?)\}", self.template))
        bare = _FIELDS.sub("", self.template)
        known = "the fields are {stem}, {scale}, {ext}, {in_ext} and {sample}"
        if unknown := fields - {"stem", "scale", "ext", "in_ext", "sample"}:
            raise self._wrong(f"knows no field {{{sorted(unknown)[0]}}}", known)
        if "{" in bare or "}" in bare:
            raise self._wrong("has a single brace", known)
        if "/" in bare or os.sep in bare or "\0" in bare:
            raise self._wrong("is not a file name", "give the folder with `target`")
        if "ext" not in fields and not re.search(r"\.[A-Za-z0-9]+$", self.template):
            raise self._wrong("has no extension", "end it with .{ext}")
        if self.samples > 1 and "sample" not in fields:
            raise self._wrong(f"is one name for {self.samples} samples", "put {sample} into it, the number of each")

    def _wrong(self, what: str, hint: str) -> UsageError:
        return UsageError(f"name={self.template}: {what}", hint, parameters=("name", "target"))

    def __call__(self, stem: str, scale: int, in_ext: str = "", *, apart: int = 0, sample: int = 1) -> str:
        """The name for an input of this stem and extension at this scale, and for one of its samples.

        `apart` keeps it from that of another with the same stem: at 1 the input's extension gets into the stem, at 2
        nothing is dropped from it either.
        """
        if self.drop and apart < 2:
            stem = stem.removesuffix(self.drop.replace("{scale}", str(scale))) or stem
        if apart and in_ext:
            stem = f"{stem}_{in_ext}"
        values = {"stem": stem, "scale": str(scale), "ext": self.ext, "in_ext": in_ext, "sample": str(sample)}
        return _FIELDS.sub(lambda match: values[match[1]], self.template)


class Names(Protocol):
    """A function that names outputs, as `Naming` does."""

    def __call__(self, stem: str, scale: int, in_ext: str = "", *, apart: int = 0, sample: int = 1) -> str:
        """The name of an output."""


@dataclass(frozen=True)
class Job:
    """One input and its place in the world; `target` and `folder` are None where the output is stdout.

    The target's name may depend on the file itself (its recorded scale), hence `path`. `apart` and `problem` are what
    `twins.tell_apart` found: the input's extension gets into the name; why it cannot be done. sample: the number of
    this output, where one input has several.
    """

    item: Item
    target: Path | None
    folder: Path | None
    name: Names
    apart: int = 0
    problem: IrnscaleError | None = None
    sample: int = 1

    @property
    def label(self) -> str:
        """What messages call the input."""
        return self.item.label

    @property
    def root(self) -> Path | None:
        """The folder that was named, where outputs of other folders go too."""
        if self.folder is None or not self.item.below.parts:
            return self.folder
        return self.folder.parents[len(self.item.below.parts) - 1]

    def path(self, scale: int) -> Path | None:
        """Where the output goes; None is stdout."""
        if self.target is not None or self.folder is None:
            return self.target
        source = self.item.source
        stem, suffix = ("stdin", "") if source is None else (source.stem, source.suffix)
        return self.folder / self.name(stem, scale, suffix[1:], apart=self.apart, sample=self.sample)


def samples_of(jobs: Sequence[Job], samples: int) -> list[Job]:
    """Each job as often as there are samples of its input. Raises UsageError where they have but one place."""
    if samples == 1:
        return list(jobs)
    for job in jobs:
        if job.item.source is None:
            raise UsageError("stdin can be read once, not for several samples", "save it to a file first")
        if job.folder is None:
            what = "-" if job.target is None else str(job.target)
            what = f"target={what} is one place for {samples} samples"
            raise UsageError(what, "give a folder with `target`", parameters=("target",))
    return [replace(job, sample=number) for job in jobs for number in range(1, samples + 1)]


def plan(items: Sequence[Item], options: Output, name: Names) -> list[Job]:
    """The jobs of a run. Raises UsageError before any work.

    One input may go to a file, a folder or stdout; several, or those found in a folder, go to a folder,
    where the tree they come from is repeated, or beside themselves.
    """
    several = len(items) > 1 or any(item.found for item in items)
    to = options.output
    if to == "":
        raise UsageError("an empty file name", "is a shell variable unset?")
    if to == STREAM and several:
        raise UsageError("target=- takes a single input", "give a folder with `target`", parameters=("target",))
    if to not in (None, STREAM) and several and not is_folder(str(to)):
        count = f"there are {len(items)} inputs" if len(items) > 1 else "the input is a folder"
        what = f"target={to} is not a folder, and {count}"
        remedy = "name a folder" if os.path.exists(str(to)) else "create it first, or end it with /"  # noqa: PTH110
        raise UsageError(what, remedy, parameters=("target",))
    if options.name is not None and (to == STREAM or (to is not None and not is_folder(to))):
        remedy = "give a folder with `target`, or leave `name` out"
        raise UsageError(f"`name` contradicts target={to}", remedy, parameters=("name", "target"))
    return [Job(item, *_place(item, to), name) for item in items]


def _place(item: Item, to: str | None) -> tuple[Path | None, Path | None]:
    """(target, folder)"""
    if to == STREAM or (to is None and item.source is None):
        return None, None
    if to is None:
        assert item.source is not None
        return None, item.source.parent
    if is_folder(to):
        return None, Path(to) / item.below
    return Path(to), None


@dataclass(frozen=True)
class Inputs:
    """The files that a run reads, by their real paths: what messages call them, and which were found in folders."""

    labels: Mapping[str, str]
    found: frozenset[str]

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> Inputs:
        """The inputs that the jobs of a run have, but stdin."""
        # os.path.realpath and not Path.resolve, which raises for loops of links
        real = [(os.path.realpath(job.item.source), job) for job in jobs if job.item.source is not None]
        found = frozenset(path for path, job in real if job.item.found)
        return cls({path: job.label for path, job in real}, found)


class Targets:
    """Refuses outputs that would land on an input, on each other, or on what exists.

    `is_own` says of a file that was found in a folder whether an earlier run wrote it: such a one is no input.
    """

    def __init__(self, inputs: Inputs, *, overwrite: bool, is_own: Callable[[Path], bool] = lambda _: False) -> None:
        self._overwrite, self._is_own = overwrite, is_own
        self._inputs, self._found = inputs.labels, inputs.found
        self._taken: dict[str, str] = {}
        self._swept: set[Path] = set()
        self._lock = threading.Lock()

    def place(self, job: Job, scale: int) -> Path | None:
        """The target of a job, checked against inputs and other targets; it exists only where it may be replaced.

        From any thread. Raises OutputError.
        """
        target = job.path(scale)
        if target is None:
            return None
        try:
            with self._lock:
                return self._place(job, target)
        except (OSError, ValueError) as error:  # a name that is too long, a folder that may not be searched
            reason = getattr(error, "strerror", None) or error
            what = f"{target}: cannot be written: {reason}"
            raise OutputError(what, "choose another `target`", parameters=("target",)) from error

    def _place(self, job: Job, target: Path) -> Path:
        if target.is_dir():
            raise OutputError(f"{target}: is a folder", "name a file with `target`", parameters=("target",))
        real = os.path.realpath(target)
        if target.exists() and not target.is_file():
            remedy = "name a file with `target`, or - for stdout"
            raise OutputError(f"{target}: is a device or a pipe", remedy, parameters=("target",))
        if real in self._inputs and not (real in self._found and self._is_own(target)):
            what = f"{target}: the output would replace the input {self._inputs[real]}"
            raise OutputError(what, "choose another `target`", parameters=("target",))
        if real in self._taken:
            what = f"{target}: both {self._taken[real]} and {job.label} would be written there"
            raise OutputError(what, "give one of them a file of its own with `target`", parameters=("target",))
        if target.exists() and not self._overwrite:
            remedy = "use `overwrite` to replace it, or `skip_existing`"
            raise OutputError(f"{target}: already exists", remedy, parameters=("overwrite", "skip_existing"))
        if job.folder is None and not target.parent.is_dir():
            raise OutputError(f"{target.parent}: no such folder", "create it first")
        self._taken[real] = job.label
        return target

    def sweep(self, target: Path | None) -> None:
        """Clear the target's folder, once, of what killed runs left."""
        if target is None:
            return
        with self._lock:
            known = target.parent in self._swept
            self._swept.add(target.parent)
        if not known:
            remove_stale(target.parent)

    @staticmethod
    def open_folder(target: Path) -> None:
        """Make the target's folder. Raises OutputError."""
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"{target.parent}: cannot create the folder: {error.strerror}"
            raise OutputError(what, "choose another `target`", parameters=("target",)) from error
