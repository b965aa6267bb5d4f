"""From what the user named to a list of jobs, all that can be known checked before any work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from irnscale import batch
from irnscale.batch import Inputs, Job, Selection, Targets
from irnscale.errors import InputError, IrnscaleError
from irnscale.images.provenance import read_provenance
from irnscale.images.write import check_options
from irnscale.jobs.settings import Message, Tell
from irnscale.jobs.task import Task


@dataclass(frozen=True)
class Batch:
    """The jobs of a run, or its share of them, and what they are to become.

    all_jobs: those of the other shares too, whose inputs no output may replace. empty: folders that hold no pictures.
    passed_over: how many other files the folders hold.
    """

    task: Task
    jobs: list[Job]
    all_jobs: list[Job]
    empty: list[str]
    passed_over: int

    @property
    def to_stdout(self) -> bool:
        """Whether a picture goes to stdout."""
        return any(job.folder is None and job.target is None for job in self.jobs)

    @property
    def streams(self) -> bool:
        """Whether a picture comes from stdin or goes to stdout."""
        return self.to_stdout or any(job.item.source is None for job in self.jobs)

    @property
    def inputs(self) -> Inputs:
        """The files that no output may replace."""
        return Inputs.of(self.all_jobs)


def targets(task: Task, inputs: Inputs) -> Targets:
    """The guard of a run's outputs."""
    files = task.settings.files
    overwrite = files.overwrite or files.skip_existing
    return Targets(inputs, overwrite=overwrite, is_own=lambda path: is_made_by(task, path))


def plan(task: Task, selection: Selection, tell: Tell, *, shard: str | None = None) -> Batch:
    """What is to be done. Raises UsageError, and the errors of the options about files."""
    files = task.settings.files
    check_options(files.resolve_format(), files.quality, files.subsampling, files.depth)
    found = batch.collect(selection, avoid=files.folder)
    jobs = batch.plan(found.items, files, task.naming)
    jobs, said = batch.tell_apart(jobs, task.scales, lambda job: _scale_of(task, job))
    if said is not None:
        tell(Message("note", said))
    part, parts = batch.parse_shard(shard)
    chosen = batch.samples_of(jobs[part - 1 :: parts], task.samples)
    return Batch(task, chosen, jobs, found.empty, found.passed_over)


def is_made_by(task: Task, path: Path) -> bool:
    """Whether a file in a folder is one that the same command wrote earlier, which it skips as an input."""
    try:
        record = read_provenance(path)
    except InputError:
        return False
    return record is not None and record.kind == task.kind


def _scale_of(task: Task, job: Job) -> int | None:
    """The scale of an input that will be read later; None where that will fail."""
    try:
        record = read_provenance(job.item.source) if job.item.source and job.item.regular else None
        return task.choose(job.label, record).scale
    except (IrnscaleError, OSError):
        return None
