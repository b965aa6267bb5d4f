"""Processes of this machine: one for each GPU, or several on the CPU. One that dies loses nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from irnscale.batch import Job, Outcome, Status
from irnscale.errors import DeviceError, IrnscaleError
from irnscale.jobs.backends import Running, default_workers, share_of_memory, torch_threads
from irnscale.jobs.backends.worker import Assignment, InOrder, lost
from irnscale.jobs.planning import Batch
from irnscale.jobs.settings import Message, Settings
from irnscale.logs import logger

_log = logger(__name__)

_MOST_DEATHS = 2
"""At a picture that a process had for itself: the picture is given up."""
_STILLBORN = 3
"""Processes in a row that ended before they could begin: the run is given up."""
_PATIENCE = 10  # seconds for a process to end


def run(batch: Batch, running: Running, emit: Callable[[Outcome], None]) -> None:
    """Do all jobs by processes of this machine, one for each GPU. See `Backend`."""
    settings = batch.task.settings
    places = _places(settings, running.workers, len(batch.jobs))
    _log.info("%d processes for %d pictures, on %s", len(places), len(batch.jobs), ", ".join(dict.fromkeys(places)))
    pool = _Pool(batch, running, places, InOrder(batch.jobs, emit))
    try:
        pool.work()
    finally:
        pool.close()


def _places(settings: Settings, workers: int | None, jobs: int) -> list[str]:
    """The device of each process, as `Rescaler` takes it."""
    gpus = 0
    if settings.device in ("auto", "cuda"):
        import torch

        gpus = torch.cuda.device_count()
    if gpus:
        return [f"cuda:{index % gpus}" for index in range(min(workers or gpus, jobs))]
    return [settings.device] * min(workers or default_workers(), jobs)


def _own_settings(settings: Settings, device: str, processes: int) -> Settings:
    """Those of one of several processes: its device, and its share of the memory where they share it."""
    limit = settings.max_memory
    if not device.startswith("cuda"):
        limit = share_of_memory(limit, processes)
    return replace(settings, device=device, max_memory=limit)


@dataclass
class _Worker:
    """A process, the end of the pipe to it, and the jobs that it has, by index."""

    process: BaseProcess
    connection: Connection
    place: int
    ready: bool = False
    held: deque[int] = field(default_factory=deque)


class _Pool:
    """The processes of a run and what they have to do."""

    def __init__(self, batch: Batch, running: Running, places: list[str], results: InOrder) -> None:
        self._batch, self._running, self._places, self._results = batch, running, places, results
        self._waiting = deque(range(len(batch.jobs)))
        self._deaths: dict[int, int] = {}  # of those whose process died
        self._stillborn = 0
        self._stopped = False
        self._workers: list[_Worker] = []
        self._assignments = []
        for place in places:
            settings = _own_settings(batch.task.settings, place, len(places))
            task = replace(batch.task, settings=settings)  # type: ignore[type-var]
            threads = None if place.startswith("cuda") else torch_threads(len(places))
            self._assignments.append(Assignment.of(batch, task, threads))
        self._depth = 2 * batch.task.settings.threads + 2

    def work(self) -> None:
        """Until all is done or given up."""
        for place in range(len(self._places)):
            self._start(place)
        while not self._stopped and self._workers and (self._waiting or any(w.held for w in self._workers)):
            for worker in self._workers:
                self._feed(worker)
            found = wait([worker.connection for worker in self._workers])
            for worker in [worker for worker in self._workers if worker.connection in found]:
                try:
                    self._hear(worker, worker.connection.recv())
                except (EOFError, OSError):
                    self._bury(worker)

    def close(self) -> None:
        """End all processes, those that work by the signal that makes them clean up, and emit what is known."""
        for worker in self._workers:
            if worker.held:
                worker.process.terminate()
            else:
                worker.connection.close()  # which it understands as the end
        for worker in self._workers:
            self._hear_the_last(worker)
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.connection.close()
        self._results.flush()

    def _start(self, place: int) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        options = (theirs, self._assignments[place], self._running.fail_fast)
        process = context.Process(target=_serve, args=options, daemon=True, name=f"irnscale-{place}")
        with _without_main_module():
            process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours, place))

    def _feed(self, worker: _Worker) -> None:
        """Jobs that it can decode ahead; one whose process died before, only by itself: it may be to blame."""
        while self._waiting and len(worker.held) < self._depth:
            index = self._waiting[0]
            if worker.held and (index in self._deaths or worker.held[0] in self._deaths):
                return
            try:
                worker.connection.send(self._batch.jobs[index])
            except OSError:  # it is dead, which `wait` will tell
                return
            worker.held.append(self._waiting.popleft())

    def _hear(self, worker: _Worker, said: Message | Outcome | IrnscaleError | str) -> None:
        if isinstance(said, Message):
            self._running.tell(said)
        elif isinstance(said, Outcome):
            self._stopped |= said.status is Status.FAILED and (said.fatal or self._running.fail_fast)
            self._results.add(worker.held.popleft(), said)
        elif isinstance(said, IrnscaleError):
            raise said
        else:
            worker.ready, self._stillborn = True, 0

    def _hear_the_last(self, worker: _Worker) -> None:
        """What it wrote while it was being ended."""
        try:
            while worker.held and worker.connection.poll(_PATIENCE):
                said = worker.connection.recv()
                if isinstance(said, (Message, Outcome)):
                    self._hear(worker, said)
        except (EOFError, OSError):
            pass

    def _bury(self, worker: _Worker) -> None:
        """Its jobs are done by others, one by one."""
        self._workers.remove(worker)
        worker.connection.close()
        worker.process.join(_PATIENCE)
        alone = len(worker.held) == 1
        for index in worker.held:
            self._deaths[index] = self._deaths.get(index, 0) + alone
        again = [index for index in worker.held if self._deaths[index] < _MOST_DEATHS]
        for index in worker.held:
            if index not in again:
                self._results.add(index, lost(self._batch.jobs[index]))
                self._stopped |= self._running.fail_fast
        self._waiting.extendleft(reversed(again))
        if not worker.ready:
            self._stillborn += 1
            if self._stillborn >= _STILLBORN:
                code = worker.process.exitcode
                what = f"the processes of backend=devices end as soon as they start (exit code {code})"
                raise DeviceError(what, "use backend=threads", parameters=("backend",))
        elif again:
            self._running.tell(
                Message("warn", f"a worker process was ended; {len(again)} pictures are done by another")
            )
        if self._waiting:
            self._start(worker.place)


class _Pipe:
    """Jobs as they come through the pipe, for `batch.run`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def next(self, *, wait: bool) -> Job | None:
        try:
            if not wait and not self._connection.poll():
                return None
            job: Job = self._connection.recv()
        except (EOFError, OSError):  # the run is over, or who started it is gone
            return None
        return job


def _serve(connection: Connection, assignment: Assignment, fail_fast: bool) -> None:
    """The life of a process: outcomes and messages for jobs, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, whose Ctrl-C all get: who started this one decides
    signal.signal(signal.SIGTERM, _interrupted)
    lock = threading.Lock()

    def send(what: Message | Outcome | IrnscaleError | str) -> None:
        with lock:
            connection.send(what)

    try:
        send("ready")
        assignment.work(_Pipe(connection), send, {}, send, fail_fast=fail_fast)
    except IrnscaleError as error:
        send(error)
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(130)


def _interrupted(number: int, frame: Any) -> None:
    raise KeyboardInterrupt


class _without_main_module:  # noqa: N801 - used as a statement
    """Inside, a new process does not import the program's main module, which it has no use for and may run it again."""

    def __enter__(self) -> None:
        main = sys.modules["__main__"]
        self._saved = {name: getattr(main, name) for name in ("__file__", "__spec__") if hasattr(main, name)}
        main.__spec__ = None
        if "__file__" in self._saved:
            del main.__file__

    def __exit__(self, *_: object) -> None:
        for name, value in self._saved.items():
            setattr(sys.modules["__main__"], name, value)
