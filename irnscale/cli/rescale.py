"""What `down` and `up` do alike: inputs to jobs, models loaded once, the stages of a job, reporting."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from irnscale import batch
from irnscale.batch import Job, Outcome, Status
from irnscale.cli.options import Common
from irnscale.cli.watch import Watcher, guarded_stdout, interruptible
from irnscale.errors import InputError, IrnscaleError, ModelError, OutputError
from irnscale.images.atomic import AlreadyThereError
from irnscale.images.formats import check_format_limits
from irnscale.images.provenance import read_provenance, settings_digest
from irnscale.images.read import Header, read_header, read_picture
from irnscale.images.write import check_options, check_transparency, encoding_notes
from irnscale.sizes import parse_memory

if TYPE_CHECKING:
    from irnscale.engine.executor import Progress
    from irnscale.engine.rescaler import Rescaler
    from irnscale.images.picture import Picture
    from irnscale.images.provenance import Provenance
    from irnscale.zoo import Model

PIXELS_IN_MEMORY = 2 * 10**8
"""Of all pictures between reading and writing: some 2 GB. A larger one is processed alone."""
BYTES_PER_PIXEL = 10
"""While a picture is read or written: its file, the decoder's pixels and ours."""
PIXELS_IN_A_BATCH = 8 * 10**6
_TRIES, _PAUSE = 20, 0.1  # seconds


@dataclass(frozen=True)
class Choice:
    """Which models rescale an input, and text that identifies all that its output depends on but its bytes."""

    models: Sequence[Model]
    scale: int
    settings: str
    assistant: Model | None = None

    @property
    def name(self) -> str:
        """As the record has it."""
        return self.assistant.card.name if self.assistant else "+".join(m.card.name for m in self.models)

    @property
    def digest(self) -> str:
        """What the record keeps of the settings."""
        return settings_digest(self.settings)


class Verb(Protocol):
    """What distinguishes `down` and `up`."""

    @property
    def kind(self) -> str:
        """What the records of its outputs say: "down" or "up"."""

    @property
    def scales(self) -> Sequence[int]:
        """The scales that inputs may have."""

    def choose(self, label: str, record: Provenance | None, format: str | None = None) -> Choice:
        """The models for an input with this record, stored as `format`. Raises IrnscaleError. Does not import torch.

        The scale does not depend on the format.
        """

    def size(self, choice: Choice, header: Header) -> tuple[int, int]:
        """(width, height) of the output."""

    def recover(self, label: str, data: bytes, header: Header) -> Header:
        """The header, with what the pixels alone tell: the record that they stand in for, how they were turned."""

    def prepare(self, label: str, picture: Picture) -> Picture:
        """The picture with what else is found in it. Raises IrnscaleError."""

    def notes(self, label: str, choice: Choice, picture: Picture) -> list[str]:
        """What the user should know about this input."""

    def compute(
        self,
        rescaler: Rescaler,
        pictures: Sequence[Picture],
        size: tuple[int, int],
        settings: str,
        progress: Progress | None,
    ) -> list[tuple[Picture, Provenance]]:
        """The rescaled pictures, all of one size, and the records to write."""


@dataclass
class Loaded:
    """A job after its first stage."""

    picture: Picture
    choice: Choice
    size: tuple[int, int]
    target: Path | None


@dataclass
class Finished:
    """A job after the network."""

    picture: Picture
    record: Provenance
    target: Path | None


class Rescaling:
    """The stages of a job of `down` or `up`, as `batch.run` wants them."""

    def __init__(self, common: Common, verb: Verb, targets: batch.Targets, stdout: int, watcher: Watcher) -> None:
        self._common, self._verb, self._targets = common, verb, targets
        self._stdout, self._watcher = stdout, watcher
        self._format = common.files.resolve_format()
        self._budget = batch.PixelBudget(_pixels_in_memory(common.max_memory))
        self._rescalers: dict[str, Rescaler] = {}

    def load(self, ticket: int, job: Job, outcome: Outcome) -> Loaded | None:
        """Read and decode, unless the job is to be skipped or only planned."""
        common, label = self._common, job.label
        if job.problem is not None:
            raise job.problem
        data = batch.read_source(job.item)
        header = read_header(data, label, max_pixels=common.max_pixels, frames=common.frames)
        header = self._verb.recover(label, data, header)
        outcome.size = header.width, header.height
        if job.item.found and header.record is not None and header.record.kind == self._verb.kind:
            _skip(outcome, None, f"it was itself made by `irnscale {self._verb.kind}`")
            return None
        choice = self._verb.choose(label, header.record, header.format)
        outcome.scale, outcome.model = choice.scale, choice.name
        outcome.new_size = size = self._verb.size(choice, header)
        check_format_limits(self._format, *size)
        if not common.dry_run:
            self._targets.sweep(job.path(choice.scale))
        if common.files.skip_existing and self._is_up_to_date(job.path(choice.scale), data, choice):
            _skip(outcome, job.path(choice.scale), "it is up to date")
            return None
        target = self._targets.place(job, choice.scale)
        if common.dry_run:
            outcome.target, outcome.status = target, Status.PLANNED
            return None
        self._budget.take(ticket, max(header.width * header.height, size[0] * size[1]))
        picture = read_picture(data, label, max_pixels=common.max_pixels, frames=common.frames)
        check_transparency(picture, self._format)
        picture = self._verb.prepare(label, picture)
        outcome.notes.extend(picture.notes)
        outcome.notes.extend(self._verb.notes(label, choice, picture))
        return Loaded(picture, choice, size, target)

    def fits(self, group: list[Loaded], other: Loaded) -> bool:
        """On a GPU, pictures of one size share a batch, as long as their pixels are few enough to profit."""
        first = group[0]
        rescaler = self._rescalers.get(_key(first.choice))
        pixels = max(first.size[0] * first.size[1], first.picture.width * first.picture.height)
        return (
            rescaler is not None
            and rescaler.batches
            and (len(group) + 1) * pixels <= PIXELS_IN_A_BATCH
            and other.choice == first.choice
            and other.size == first.size
            and other.picture.orientation == first.picture.orientation
            and other.picture.pixels.shape == first.picture.pixels.shape
            and other.picture.pixels.dtype == first.picture.pixels.dtype
            and other.picture.alpha is None
            and first.picture.alpha is None
        )

    def compute(self, group: list[Loaded], outcomes: list[Outcome]) -> list[Finished]:
        """The network."""
        first = group[0]
        rescaler = self._rescaler(first.choice, outcomes[0])
        for loaded in group:
            if loaded.target is not None:
                self._targets.open_folder(loaded.target)
        started = time.perf_counter()
        if self._common.verbose:
            large = max(first.size, (first.picture.width, first.picture.height))
            given, made = (3 * depth / 8 for depth in (first.picture.depth, self._common.files.depth or 8))
            for plan in rescaler.plans(self._verb.kind, *large, bytes_per_pixel=given, result_bytes_per_pixel=made):
                self._common.say(f"plan: {plan.describe()}")
        progress = self._watcher.tiles(outcomes[0].job.label)
        pictures = [loaded.picture for loaded in group]
        results = self._verb.compute(rescaler, pictures, first.size, first.choice.settings, progress)
        for outcome in outcomes:
            outcome.seconds = (time.perf_counter() - started) / len(group)
        return [
            Finished(picture, record, loaded.target) for (picture, record), loaded in zip(results, group, strict=True)
        ]

    def store(self, result: Finished, job: Job, outcome: Outcome) -> None:
        """Encode and write."""
        files = self._common.files
        outcome.notes.extend(encoding_notes(result.picture, self._format))
        data = files.encode(result.picture, result.record)
        try:
            batch.write_target(data, result.target, overwrite=files.overwrite, stdout=self._stdout)
        except AlreadyThereError:
            if not files.skip_existing or not _was_written_meanwhile(result):
                raise
            _skip(outcome, result.target, "another run has just written it")
            return
        outcome.target = result.target
        outcome.status = Status.DONE

    def discard(self, ticket: int) -> None:
        """Make room for others."""
        self._budget.give(ticket)

    def close(self) -> None:
        """Let nobody wait any more."""
        self._budget.close()

    def _is_up_to_date(self, target: Path | None, data: bytes, choice: Choice) -> bool:
        """Whether the target exists and its record says that it was made of this input with these settings.

        Raises OutputError where it exists, was made otherwise, and may not be replaced.
        """
        if target is None or not target.is_file():
            return False
        if not target.stat().st_size:  # a name that a killed run had claimed: see `images.atomic`
            if not self._common.dry_run:
                target.unlink(missing_ok=True)
            return False
        try:
            record = read_provenance(target)
        except InputError:  # it vanished
            return False
        same = _origin(record) == (self._verb.kind, hashlib.sha256(data).hexdigest(), choice.digest)
        if not same and not self._common.files.overwrite:
            what = f"{target}: exists, and was made from another input or with other settings"
            raise OutputError(what, "add --overwrite to replace such files too")
        return same

    def _rescaler(self, choice: Choice, outcome: Outcome) -> Rescaler:
        """The rescaler of the chosen models, loaded on first use. Imports torch."""
        key = _key(choice)
        if key not in self._rescalers:
            from irnscale.engine.memory import keep_freed_memory
            from irnscale.engine.rescaler import Rescaler

            keep_freed_memory()
            common = self._common
            try:
                self._rescalers[key] = Rescaler(
                    choice.models,
                    assistant=choice.assistant,
                    device=common.device,
                    precision=common.precision,
                    tile=common.tile,
                    max_memory=common.max_memory,
                    warn=common.warn,
                )
            except IrnscaleError as error:
                # The next input would meet the same device, and in `down` the same model.
                outcome.fatal = not isinstance(error, ModelError) or len(self._verb.scales) == 1
                raise
        return self._rescalers[key]


def _key(choice: Choice) -> str:
    used = [choice.assistant, *choice.models] if choice.assistant else choice.models
    return "+".join(str(m.weights) for m in used)


def _pixels_in_memory(limit: str | None) -> int:
    """Of all pictures between reading and writing, within a limit as the user gave it. Raises UsageError."""
    return PIXELS_IN_MEMORY if limit is None else min(PIXELS_IN_MEMORY, parse_memory(limit) // BYTES_PER_PIXEL)


def _origin(record: Provenance | None) -> tuple[str, str, str] | None:
    """What a file was made of, and how."""
    return None if record is None else (record.kind, record.source_digest, record.settings_digest)


def _was_written_meanwhile(result: Finished) -> bool:
    """Whether the target, which was not there, now is a file with the same record: of another run beside this one.

    Where the file system has no hard links, such a run claims the name by an empty file a moment before; see
    `images.atomic`.
    """
    assert result.target is not None
    for _ in range(_TRIES):
        try:
            if result.target.stat().st_size:
                return _origin(read_provenance(result.target)) == _origin(result.record)
        except (InputError, OSError):  # it vanished
            return False
        time.sleep(_PAUSE)
    return False


def _skip(outcome: Outcome, target: Path | None, reason: str) -> None:
    outcome.status, outcome.target, outcome.reason = Status.SKIPPED, target, reason


def execute(common: Common, verb: Verb, name: batch.Naming) -> int:
    """Read, rescale and write every input. Returns the exit code."""
    started = time.perf_counter()
    files = common.files
    check_options(files.resolve_format(), files.quality, files.subsampling, files.depth)
    found = batch.collect(common.selection, avoid=files.folder)
    jobs = batch.plan(found.items, files, name)
    jobs, said = batch.tell_apart(jobs, verb.scales, lambda job: _scale_of(verb, job))
    if said is not None:
        common.note(said)
    targets = batch.Targets(
        jobs, overwrite=files.overwrite or files.skip_existing, is_own=lambda path: _is_made_by(verb, path)
    )
    part, parts = batch.parse_shard(common.shard)
    jobs = jobs[part - 1 :: parts]
    to_stdout = any(job.folder is None and job.target is None for job in jobs)
    if common.report is not None:
        batch.check_report(common.report, (job.item.source for job in jobs if job.item.source))
    with guarded_stdout(image=to_stdout and not common.dry_run, events=common.json) as stdout, interruptible():
        watcher = Watcher(common, jobs, stdout, started)
        for folder in found.empty:
            common.warn(f"{folder}: holds no pictures")
        if found.passed_over:
            common.say(f"{found.passed_over} files in folders that are no pictures are passed over")
        if not jobs:
            common.warn("there is nothing to do")
        stages = Rescaling(common, verb, targets, stdout, watcher)
        with watcher:
            batch.run(jobs, stages, watcher.emit, workers=common.jobs, fail_fast=common.fail_fast)
    return watcher.report.code


def _is_made_by(verb: Verb, path: Path) -> bool:
    """Whether a file in a folder is one that the same command wrote earlier, which it skips as an input."""
    try:
        record = read_provenance(path)
    except InputError:
        return False
    return record is not None and record.kind == verb.kind


def _scale_of(verb: Verb, job: Job) -> int | None:
    """The scale of an input that will be read later; None where that will fail."""
    try:
        record = read_provenance(job.item.source) if job.item.source and job.item.regular else None
        return verb.choose(job.label, record).scale
    except (IrnscaleError, OSError):
        return None
