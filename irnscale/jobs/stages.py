"""The stages of a job of `down` or `up`: read and decode, the network, encode and write."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irnscale import batch
from irnscale.batch import Job, Outcome, Status
from irnscale.errors import InputError, IrnscaleError, ModelError, OutputError
from irnscale.images.atomic import AlreadyThereError
from irnscale.images.formats import check_format_limits
from irnscale.images.provenance import read_provenance
from irnscale.images.read import read_header, read_picture
from irnscale.images.write import check_transparency, encoding_notes
from irnscale.jobs.settings import Message, Tell
from irnscale.jobs.task import Choice, Request, Task
from irnscale.logs import logger
from irnscale.sizes import parse_memory

if TYPE_CHECKING:
    from irnscale.engine.executor import Progress
    from irnscale.engine.rescaler import Rescaler
    from irnscale.images.picture import Picture
    from irnscale.images.record import Provenance
    from irnscale.jobs.task import Rescaled

PIXELS_IN_MEMORY = 2 * 10**8
"""Of all pictures between reading and writing: some 2 GB. A larger one is processed alone."""
BYTES_PER_PIXEL = 10
"""While a picture is read or written: its file, the decoder's pixels and ours."""
PIXELS_IN_A_BATCH = 8 * 10**6
_log = logger(__name__)

_TRIES, _PAUSE = 20, 0.1  # seconds


@dataclass
class Loaded:
    """A job after its first stage."""

    picture: Picture
    choice: Choice
    size: tuple[int, int]
    target: Path | None
    sample: int = 1


@dataclass
class Finished:
    """A job after the network."""

    picture: Picture
    record: Provenance
    target: Path | None


class RescalingStages:
    """The stages of a job of `down` or `up`, as `batch.run` wants them.

    stdout: the file descriptor for pictures that go there. tiles: a bar for the picture of that name. since: the time,
    by the clock of the outputs' file system, after which this run's own workers may have written an output of one that
    was lost before it could say so. Rescalers are loaded once and kept in `rescalers`.
    """

    def __init__(
        self,
        task: Task,
        targets: batch.Targets,
        tell: Tell,
        *,
        stdout: int = 1,
        tiles: Callable[[str], Progress | None] = lambda _: None,
        since: float | None = None,
        rescalers: dict[str, Rescaler] | None = None,
    ) -> None:
        self._task, self._settings, self._targets, self._tell = task, task.settings, targets, tell
        self._stdout, self._tiles, self._since = stdout, tiles, since
        self._format = self._settings.files.resolve_format()
        self._budget = batch.PixelBudget(_pixels_in_memory(self._settings.max_memory))
        self._rescalers = {} if rescalers is None else rescalers
        self._ahead: tuple[Any, dict[int, Rescaled]] | None = None

    def load(self, ticket: int, job: Job, outcome: Outcome) -> Loaded | None:
        """Read and decode, unless the job is to be skipped or only planned."""
        settings, label = self._settings, job.label
        if job.problem is not None:
            raise job.problem
        data = batch.read_source(job.item)
        header = read_header(data, label, max_pixels=settings.max_pixels, frames=settings.frames)
        header = self._task.recover(label, data, header)
        outcome.size = header.width, header.height
        if job.item.found and header.record is not None and header.record.kind == self._task.kind:
            _skip(outcome, None, f"it was itself made by `irnscale {self._task.kind}`")
            return None
        choice = self._task.choose(label, header.record, header.format, sample=job.sample)
        outcome.scale, outcome.model, outcome.facts = choice.scale, choice.name, dict(choice.facts)
        whose = "as recorded" if header.record else "as chosen"
        _log.debug("%s: %s by %s, %s", label, self._task.kind, choice.name, whose)
        outcome.new_size = size = self._task.size(choice, header)
        check_format_limits(self._format, *size)
        if not settings.dry_run:
            self._targets.sweep(job.path(choice.scale))
        if self._is_done_before(job.path(choice.scale), data, choice):
            outcome.target, outcome.status = job.path(choice.scale), Status.DONE
            return None
        if settings.files.skip_existing and self._is_up_to_date(job.path(choice.scale), data, choice):
            _skip(outcome, job.path(choice.scale), "it is up to date")
            return None
        target = self._targets.place(job, choice.scale)
        if settings.dry_run:
            outcome.target, outcome.status = target, Status.PLANNED
            return None
        self._budget.take(ticket, max(header.width * header.height, size[0] * size[1]))
        picture = read_picture(data, label, max_pixels=settings.max_pixels, frames=settings.frames)
        check_transparency(picture, self._format)
        picture = self._task.prepare(label, picture, self._tell)
        outcome.notes.extend(picture.notes)
        outcome.notes.extend(self._task.notes(choice, picture))
        outcome.notes_once.extend(self._task.notes_once(choice, picture))
        return Loaded(picture, choice, size, target, job.sample)

    def fits(self, group: list[Loaded], other: Loaded) -> bool:
        """On a GPU, pictures of one size share a batch, as long as their pixels are few enough to profit."""
        first = group[0]
        rescaler = self._rescalers.get(_key(first.choice))
        pixels = max(first.size[0] * first.size[1], first.picture.width * first.picture.height)
        return (
            rescaler is not None
            and rescaler.batches
            and self._task.samples == 1
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
        """Run the network over a group of pictures of one size. Raises DeviceError, ModelError, InputError."""
        first = group[0]
        rescaler = self._rescaler(first.choice, outcomes[0])
        for loaded in group:
            if loaded.target is not None:
                self._targets.open_folder(loaded.target)
        started = time.perf_counter()
        if self._settings.verbose:
            large = max(first.size, (first.picture.width, first.picture.height))
            given, made = (3 * depth / 8 for depth in (first.picture.depth, self._settings.files.depth or 8))
            for plan in rescaler.plans(self._task.kind, *large, bytes_per_pixel=given, result_bytes_per_pixel=made):
                self._tell(Message("say", f"plan: {plan.describe()}"))
        progress = self._tiles(outcomes[0].job.label)
        results = self._results(rescaler, group, progress)
        for outcome in outcomes:
            outcome.seconds = (time.perf_counter() - started) / len(group)
        return [
            Finished(picture, record, loaded.target) for (picture, record), loaded in zip(results, group, strict=True)
        ]

    def _results(self, rescaler: Rescaler, group: list[Loaded], progress: Progress | None) -> list[Rescaled]:
        """Of each job in a group. All samples of an input are made when the first is asked for, and kept until then;
        but one by one where the others may be another worker's.
        """
        first = group[0]
        pictures = [loaded.picture for loaded in group]
        request = Request(first.size, first.choice.settings, self._tell, progress)
        if self._task.samples == 1:
            return self._task.compute(rescaler, pictures, request)
        whose = (first.picture.source_digest, _key(first.choice), first.size)
        if self._ahead is None or self._ahead[0] != whose or first.sample not in self._ahead[1]:
            wanted = range(first.sample, (self._task.samples if self._since is None else first.sample) + 1)
            made = self._task.compute(rescaler, pictures, replace(request, samples=wanted))
            self._ahead = (whose, dict(zip(wanted, made, strict=True)))
        picture, record = self._ahead[1].pop(first.sample)
        return [(picture, replace(record, settings_digest=first.choice.digest))]

    def store(self, result: Finished, job: Job, outcome: Outcome) -> None:
        """Encode the result with its record, and write it. Raises OutputError, UsageError."""
        files = self._settings.files
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
        """Give the room of this ticket's pixels to others."""
        self._budget.give(ticket)

    def close(self) -> None:
        """End all waiting for room: the run ends."""
        self._budget.close()

    def _is_done_before(self, target: Path | None, data: bytes, choice: Choice) -> bool:
        """Whether a worker of this run wrote the target and was lost before it could say so."""
        if self._since is None or target is None:
            return False
        try:
            found = target.stat()
            if not found.st_size or found.st_mtime < self._since:
                return False
            record = read_provenance(target)
        except (InputError, OSError):
            return False
        return _origin(record) == (self._task.kind, hashlib.sha256(data).hexdigest(), choice.digest)

    def _is_up_to_date(self, target: Path | None, data: bytes, choice: Choice) -> bool:
        """Whether the target exists and its record says that it was made of this input with these settings.

        Raises OutputError where it exists, was made otherwise, and may not be replaced.
        """
        if target is None or not target.is_file():
            return False
        if not target.stat().st_size:  # a name that a killed run had claimed: see `images.atomic`
            if not self._settings.dry_run:
                target.unlink(missing_ok=True)
            return False
        try:
            record = read_provenance(target)
        except InputError:  # it vanished
            return False
        same = _origin(record) == (self._task.kind, hashlib.sha256(data).hexdigest(), choice.digest)
        if not same and not self._settings.files.overwrite:
            what = f"{target}: exists, and was made from another input or with other settings"
            raise OutputError(what, "add `overwrite` to replace such files too", parameters=("overwrite",))
        return same

    def _rescaler(self, choice: Choice, outcome: Outcome) -> Rescaler:
        """The rescaler of the chosen models, loaded on first use. Imports torch."""
        key = _key(choice)
        if key not in self._rescalers:
            from irnscale.engine.memory import keep_freed_memory
            from irnscale.engine.rescaler import Rescaler

            keep_freed_memory()
            settings = self._settings
            try:
                self._rescalers[key] = Rescaler(
                    choice.models,
                    assistant=choice.assistant,
                    completion=choice.completion,
                    device=settings.device,
                    precision=settings.precision,
                    tile=settings.tile,
                    max_memory=settings.max_memory,
                    warn=lambda text: self._tell(Message("warn", text)),
                )
            except IrnscaleError as error:
                # The next input would meet the same device, and in `down` the same model.
                outcome.fatal = not isinstance(error, ModelError) or len(self._task.scales) == 1
                raise
            compiled = self._rescalers[key].compiled
            if settings.verbose and compiled is not None:
                self._tell(Message("say", compiled.describe()))
        return self._rescalers[key]


def _key(choice: Choice) -> str:
    used = [model for model in (choice.assistant, choice.completion, *choice.models) if model is not None]
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
