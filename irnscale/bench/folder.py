"""`down` of a folder by each backend: pictures per second, how long until the first, bytes between the processes."""

from __future__ import annotations

import multiprocessing
import pickle
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from irnscale.batch import Outcome, Output, Selection, Status
from irnscale.errors import InputError, IrnscaleError
from irnscale.jobs.backends import Running, default_workers, run_on
from irnscale.jobs.backends.worker import Assignment
from irnscale.jobs.down import Down
from irnscale.jobs.planning import plan
from irnscale.jobs.settings import Message, Settings


@dataclass(frozen=True)
class Measured:
    """One backend on the folder, in a process of its own, imports included.

    pictures: those done, of `of`. first_s: seconds until the first was done. total_s: until all were, and the workers
    ended. per_second: pictures after the first, over the time after it. read and written: bytes of the files. sent:
    bytes between the processes, the assignment of each worker, jobs and outcomes; 0 where there is one process.
    """

    backend: str
    workers: int
    pictures: int
    of: int
    first_s: float
    total_s: float
    per_second: float
    read: int
    written: int
    sent: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as an object for JSON: names to numbers and strings."""
        return asdict(self)


def measure(
    folder: Path,
    backends: Sequence[str],
    *,
    scale: int,
    workers: int | None,
    scheduler: str | None,
    settings: Settings,
) -> Iterator[Measured]:
    """Shrink the pictures of a folder by one backend after the other, into folders that are deleted afterwards.

    settings: all but the files. Raises InputError where there are no pictures, and what the backends raise.
    """
    context = multiprocessing.get_context("spawn")
    for name in backends:
        ours, theirs = context.Pipe(duplex=False)
        options = (theirs, folder, name, scale, workers, scheduler, settings)
        process = context.Process(target=_measure, args=options)
        process.start()
        theirs.close()
        try:
            found: Measured | IrnscaleError = ours.recv()
        except EOFError as error:
            raise InputError(f"{folder}: the run by {name} was ended") from error
        finally:
            process.join()
        if isinstance(found, IrnscaleError):
            raise found
        yield found


def _measure(
    connection: Connection,
    folder: Path,
    name: str,
    scale: int,
    workers: int | None,
    scheduler: str | None,
    settings: Settings,
) -> None:
    try:
        connection.send(_run(folder, name, scale, workers, scheduler, settings))
    except IrnscaleError as error:
        connection.send(error)


def _run(
    folder: Path, name: str, scale: int, workers: int | None, scheduler: str | None, settings: Settings
) -> Measured:
    # beside the pictures and not in /tmp: Dask's workers share the one, and perhaps not the other
    place = Path(tempfile.mkdtemp(prefix=".irnscale-bench-", dir=folder if scheduler is not None else None))
    try:
        started = time.perf_counter()
        files = Output(output=f"{place}/", name="{stem}.{in_ext}.{ext}")
        task = Down(replace(settings, files=files), scale)
        planned = plan(task, Selection((str(folder),), recursive=True), _unheard)
        if not planned.jobs:
            raise InputError(f"{folder}: holds no pictures", "name a folder of photographs")
        outcomes: list[Outcome] = []
        times: list[float] = []

        def emit(outcome: Outcome) -> None:
            outcomes.append(outcome)
            times.append(time.perf_counter() - started)

        run_on(name, planned, Running(_unheard, workers=workers, scheduler=scheduler), emit)
        total = time.perf_counter() - started
        done = [outcome for outcome in outcomes if outcome.status is Status.DONE]
        if not done:
            error = outcomes[0].error
            raise error if error is not None else InputError(f"{folder}: nothing could be done")
        read = sum(o.job.item.source.stat().st_size for o in done if o.job.item.source is not None)
        written = sum(o.target.stat().st_size for o in done if o.target is not None)
        count = 1 if name == "threads" else workers or default_workers()
        sent = 0 if name == "threads" else _sent(Assignment.of(planned, task), outcomes, count)
        rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else 0.0
        return Measured(name, count, len(done), len(outcomes), times[0], total, rate, read, written, sent)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _sent(assignment: Assignment, outcomes: Sequence[Outcome], workers: int) -> int:
    jobs = sum(len(pickle.dumps(outcome.job)) + len(pickle.dumps(outcome)) for outcome in outcomes)
    return jobs + workers * len(pickle.dumps(assignment))


def _unheard(message: Message) -> None:
    """What pictures are warned of is not what is measured."""
