"""The workers of a Dask cluster: one of its own on this machine, or a running one on many.

The files are read and written by the workers, on storage that all of them share; through the scheduler go names and
outcomes alone. What Dask does well is left to it: which worker is free, that what a dead one had is done by another,
the dashboard.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irnscale.batch import Job, Outcome, Status
from irnscale.errors import DeviceError, IrnscaleError, UsageError
from irnscale.jobs.backends import Running, default_workers, share_of_memory, torch_threads
from irnscale.jobs.backends.worker import Assignment, InOrder, elsewhere, lost
from irnscale.jobs.planning import Batch
from irnscale.jobs.settings import Message, Settings
from irnscale.logs import logger

_log = logger(__name__)

if TYPE_CHECKING:
    from irnscale.engine.rescaler import Rescaler

_CHUNK = 16
"""Pictures in a task at most: what the scheduler's millisecond for each is shared by, and what a lost worker costs."""
_CHUNKS_AHEAD = 4
"""Tasks for each worker that the scheduler knows of: enough that none waits, few enough to end soon."""
_PATIENCE = 10  # seconds for the scheduler to answer

Done = tuple[list[Outcome], list[Message]]


def run(batch: Batch, running: Running, emit: Callable[[Outcome], None]) -> None:
    """Do all jobs by a Dask cluster, its workers reading and writing the files. See `Backend`."""
    settings = batch.task.settings
    with _client(running, len(batch.jobs)) as (client, processes):
        task = replace(batch.task, settings=_own_settings(settings, processes))  # type: ignore[type-var]
        assignment = Assignment.of(batch, task, None if processes is None else torch_threads(processes))
        _Tasks(client, batch, running, InOrder(batch.jobs, emit)).work(assignment)


def _own_settings(settings: Settings, processes: int | None) -> Settings:
    """Those of a worker with another working folder, and its share of the memory where all are on this machine."""
    limit = settings.max_memory
    if processes is not None:
        limit = share_of_memory(limit, processes)
    model = settings.model
    if model is not None and model.endswith(".safetensors"):
        model = str(Path(model).absolute())
    return replace(settings, max_memory=limit, model=model)


def _distributed() -> Any:
    """Dask's package, which has no types. Raises UsageError."""
    try:
        return import_module("distributed")
    except ImportError as error:
        remedy = "pip install 'irnscale[dask]', or use backend=devices"
        what = "backend=dask needs Dask's package `distributed`"
        raise UsageError(what, remedy, parameters=("backend",)) from error


@contextmanager
def _client(running: Running, jobs: int) -> Iterator[tuple[Any, int | None]]:
    """A client, and how many processes of this machine it has; None: it is another's cluster. Raises DeviceError."""
    distributed = _distributed()
    for name in ("distributed", "tornado", "bokeh"):  # what they say of a lost worker, this says in one line
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if running.scheduler is not None:
        try:
            client = distributed.Client(running.scheduler, timeout=_PATIENCE, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            what = f"scheduler={running.scheduler}: no Dask scheduler answers there"
            hint = "start one with `dask scheduler`, or leave `scheduler` out"
            raise DeviceError(what, hint, parameters=("scheduler",)) from error
        try:
            yield client, None
        except distributed.comm.CommClosedError as error:
            what = f"scheduler={running.scheduler}: the connection was lost"
            hint = "see whether it still runs, and start again with `skip_existing`"
            raise DeviceError(what, hint, parameters=("scheduler", "skip_existing")) from error
        finally:
            with suppress(OSError):  # a scheduler that is slow to say goodbye has done its work all the same
                client.close(timeout=_PATIENCE)
        return
    processes = min(running.workers or default_workers(), jobs)
    _log.info("a cluster of %d processes on this machine, for %d pictures", processes, jobs)
    # memory_limit=0: Dask's nanny would end workers by its own guess at what a picture may take
    options: dict[str, Any] = {"n_workers": processes, "threads_per_worker": 1, "memory_limit": 0}
    with (
        distributed.LocalCluster(dashboard_address="127.0.0.1:0", host="127.0.0.1", **options) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client, processes


class _Tasks:
    """The pictures of a run as tasks of a few each, not more of them at a time than keep the workers busy."""

    def __init__(self, client: Any, batch: Batch, running: Running, results: InOrder) -> None:
        self._client, self._batch, self._running, self._results = client, batch, running, results
        self._known: dict[Any, list[int]] = {}  # tasks that are not done, and their jobs
        self._stopped = False
        self._assignment: Any = None

    def work(self, assignment: Assignment) -> None:
        """Until all is done or given up. Raises DeviceError where there are no workers or they cannot work."""
        self._await_workers()
        [self._assignment] = self._client.scatter([assignment], broadcast=True, hash=False)
        done = _distributed().as_completed(loop=self._client.loop)
        waiting = self._chunks()
        try:
            while not self._stopped:
                while len(self._known) < _CHUNKS_AHEAD * self._workers() and (chunk := next(waiting, None)):
                    done.add(self._submit(chunk))
                if not self._known:
                    break
                for task in self._finish(next(done)):
                    done.add(task)
        finally:
            self._client.cancel(list(self._known))
            self._results.flush()

    def _await_workers(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            what = f"the Dask scheduler at {self._client.scheduler.address} has no workers"
            raise DeviceError(what, "start some with `dask worker`") from error

    def _workers(self) -> int:
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def _chunks(self) -> Iterator[list[int]]:
        """Smaller ones for few pictures, so that all workers have their share."""
        total = len(self._batch.jobs)
        size = min(_CHUNK, math.ceil(total / (_CHUNKS_AHEAD * self._workers())))
        for start in range(0, total, size):
            yield list(range(start, min(start + size, total)))

    def _submit(self, chunk: list[int]) -> Any:
        jobs = [elsewhere(self._batch.jobs[index]) for index in chunk]
        task = self._client.submit(_work, self._assignment, jobs, self._running.fail_fast, pure=False)
        self._known[task] = chunk
        return task

    def _finish(self, task: Any) -> list[Any]:
        """Take the outcomes of a task; the tasks that take its place where its workers were lost again and again."""
        chunk = self._known.pop(task)
        try:
            outcomes, messages = task.result()
        except _distributed().KilledWorker:
            if len(chunk) > 1:
                return [self._submit([index]) for index in chunk]
            self._take(chunk[0], lost(self._batch.jobs[chunk[0]]))
            return []
        except IrnscaleError:
            raise
        except Exception as error:
            what = f"the Dask workers cannot do irnscale's work: {type(error).__name__}: {error}"
            raise DeviceError(what, "install the same irnscale on every machine") from error
        for message in messages:
            self._running.tell(message)
        for index, outcome in zip(chunk, outcomes, strict=False):  # fewer where one of them ended the run
            self._take(index, outcome)
        return []

    def _take(self, index: int, outcome: Outcome) -> None:
        self._stopped |= outcome.status is Status.FAILED and (outcome.fatal or self._running.fail_fast)
        self._results.add(index, outcome)


_rescalers: dict[str, dict[str, Rescaler]] = {}
"""Of a worker's process, of the latest settings: a task is a few pictures, and loading a model takes a second."""
_guard = threading.Lock()


def _work(assignment: Assignment, jobs: list[Job], fail_fast: bool) -> Done:
    """A task, in a worker."""
    outcomes: list[Outcome] = []
    messages: list[Message] = []
    with _guard:
        key = repr(assignment.task.settings)
        if key not in _rescalers:
            _rescalers.clear()
        rescalers = _rescalers.setdefault(key, {})
    assignment.work(jobs, messages.append, rescalers, outcomes.append, fail_fast=fail_fast)
    return outcomes, messages
