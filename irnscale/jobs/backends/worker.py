"""What a worker outside this process is told once, and how it works with that."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from irnscale import batch as batches
from irnscale._version import __version__
from irnscale.batch import Inputs, Job, Outcome, Status
from irnscale.errors import DeviceError
from irnscale.jobs.planning import Batch, targets
from irnscale.jobs.settings import Tell
from irnscale.jobs.stages import RescalingStages
from irnscale.jobs.task import Task

if TYPE_CHECKING:
    from irnscale.engine.rescaler import Rescaler


@dataclass(frozen=True)
class Assignment:
    """What a worker has to know besides its jobs. Picklable.

    inputs: of the whole run. fingerprint and version: of the process that made the task. since: see `RescalingStages`.
    torch_threads: how many torch may use; None: as many as it likes.
    """

    task: Task
    inputs: Inputs
    fingerprint: str
    version: str
    since: float
    torch_threads: int | None = None

    @classmethod
    def of(cls, batch: Batch, task: Task, torch_threads: int | None = None) -> Assignment:
        """For the workers of a run. `task` is the batch's own, perhaps with other settings for its workers."""
        return cls(task, batch.inputs, task.fingerprint, __version__, _now_of(batch), torch_threads)

    def stages(self, tell: Tell, rescalers: dict[str, Rescaler]) -> RescalingStages:
        """The stages of this worker. Raises DeviceError where it could not make what the others make."""
        if self.version != __version__:
            what = f"this worker runs irnscale {__version__}, and the run was started by {self.version}"
            raise DeviceError(what, "install the same version on every machine")
        if self.task.fingerprint != self.fingerprint:
            what = "this worker has other models, or other libraries for images, than the machine that started the run"
            raise DeviceError(what, "install the same on every machine")
        guard = targets(self.task, self.inputs)
        return RescalingStages(self.task, guard, tell, since=self.since, rescalers=rescalers)

    def work(
        self,
        jobs: list[Job] | batches.Feed,
        tell: Tell,
        rescalers: dict[str, Rescaler],
        emit: Callable[[Outcome], None],
        *,
        fail_fast: bool,
    ) -> None:
        """Do the jobs in this process. Raises DeviceError as `stages` does."""
        if self.torch_threads is not None:
            import torch

            torch.set_num_threads(self.torch_threads)
        stages = self.stages(tell, rescalers)
        batches.run(jobs, stages, emit, workers=self.task.settings.threads, fail_fast=fail_fast)


class InOrder:
    """Outcomes that come in any order, emitted in that of the jobs and about the very jobs of this process."""

    def __init__(self, jobs: list[Job], emit: Callable[[Outcome], None]) -> None:
        self._jobs, self._emit = jobs, emit
        self._waiting: dict[int, Outcome] = {}
        self._next = 0

    def add(self, index: int, outcome: Outcome) -> None:
        """Take the outcome of the job of this index; emit all that are next in order."""
        job = self._jobs[index]
        outcome.job = job
        if outcome.target is not None and outcome.scale is not None:
            outcome.target = job.path(outcome.scale)
        self._waiting[index] = outcome
        while self._next in self._waiting:
            self._emit(self._waiting.pop(self._next))
            self._next += 1

    def flush(self) -> None:
        """The run ends: emit what is still waiting for others."""
        for index in sorted(self._waiting):
            self._emit(self._waiting.pop(index))


def lost(job: Job) -> Outcome:
    """The outcome of a job at which its worker was ended again and again."""
    what = f"{job.label}: the worker was ended whenever it came to this picture"
    hint = "is there memory enough? try fewer `workers`, or `max_memory`"
    error = DeviceError(what, hint, parameters=("workers", "max_memory"))
    return Outcome(job, Status.FAILED, error=error)


def elsewhere(job: Job) -> Job:
    """The job for a process with another working folder."""
    item = job.item
    source = None if item.source is None else Path(os.path.abspath(item.source))  # noqa: PTH100 - keeps links
    target, folder = (None if path is None else Path(os.path.abspath(path)) for path in (job.target, job.folder))  # noqa: PTH100
    return replace(job, item=replace(item, source=source), target=target, folder=folder)


def _now_of(batch: Batch) -> float:
    """The time by the clock of the file system that the outputs go to."""
    for job in batch.jobs[:1]:
        folder = job.folder if job.target is None else job.target.parent
        for place in () if folder is None else _with_parents(folder):
            try:
                with tempfile.TemporaryFile(dir=place) as file:
                    file.write(b"\0")
                    file.flush()
                    return os.fstat(file.fileno()).st_mtime
            except OSError:
                continue
    return time.time()


def _with_parents(folder: Path) -> Iterable[Path]:
    absolute = Path(os.path.abspath(folder))  # noqa: PTH100 - Path.absolute keeps ".."
    return (absolute, *absolute.parents)
