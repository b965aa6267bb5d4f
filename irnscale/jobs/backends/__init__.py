"""Where the jobs of a run are done: threads of this process, processes of this machine, the workers of a Dask cluster.

A backend is a function `run(batch, run_options, emit)`; all give the same files, outcomes and messages.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from irnscale.batch import Outcome
from irnscale.errors import UsageError
from irnscale.jobs.planning import Batch
from irnscale.jobs.settings import Tell
from irnscale.sizes import parse_memory

if TYPE_CHECKING:
    from irnscale.engine.executor import Progress

BACKENDS = ("threads", "devices", "dask")


def _no_bar(label: str) -> None:
    """No bar for the tiles of a picture."""


@dataclass(frozen=True)
class Running:
    """How a run is done.

    tell: shows a message. fail_fast: no further job is started after a failure. stdout: the file descriptor for
    pictures that go there. tiles: a bar for the tiles of the picture of that name. workers: processes of `devices` and
    of a local Dask cluster; None: what suits the machine. scheduler: the address of a Dask scheduler; None: a local
    cluster.
    """

    tell: Tell
    fail_fast: bool = False
    stdout: int = 1
    tiles: Callable[[str], Progress | None] = _no_bar
    workers: int | None = None
    scheduler: str | None = None


class Backend(Protocol):
    """What a module of this package offers."""

    def run(self, batch: Batch, running: Running, emit: Callable[[Outcome], None]) -> None:
        """Do all jobs, of which there are some, and `emit` their outcomes, in this thread and in the order of the jobs.

        A failure ends its own job alone, unless it is fatal or `fail_fast` is set: then no further job starts. Raises
        DeviceError where the backend itself cannot work, KeyboardInterrupt where the run is interrupted: nothing is
        left half written.
        """


def default_workers() -> int:
    """Processes on the CPUs of this machine: with two threads in each, for more wait for one another all the time."""
    return max(2, (os.cpu_count() or 1) // 2)


def torch_threads(processes: int) -> int:
    """For torch in each of several processes that share this machine's CPUs; no more than OMP_NUM_THREADS allows."""
    share = max(1, (os.cpu_count() or 1) // processes)
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]  # "4,2" is 4, and 2 within each
    return min(share, max(1, int(said))) if said.isdecimal() else share


def share_of_memory(limit: str | None, processes: int) -> str | None:
    """Of `max_memory`, for each of several processes of one machine. Raises UsageError."""
    return None if limit is None else str(parse_memory(limit) // processes)


def run_on(name: str, batch: Batch, running: Running, emit: Callable[[Outcome], None]) -> None:
    """Do all jobs by the backend of that name, see `Backend`; by threads where there is no work for any.

    Raises UsageError for a name that is none, and where another process had to use this one's stdin or stdout.
    """
    if name not in BACKENDS:
        raise UsageError(f"backend={name}: unknown", f"choose {', '.join(BACKENDS)}", parameters=("backend",))
    if batch.task.settings.dry_run or not batch.jobs:
        name = "threads"
    if name != "threads" and batch.streams:
        what = "stdin and stdout belong to this process, and the workers of a backend have none"
        raise UsageError(what, "name files, or use backend=threads", parameters=("backend",))
    backend: Backend = import_module(f"irnscale.jobs.backends.{name}")
    backend.run(batch, running, emit)


def check(name: str, workers: int | None, scheduler: str | None) -> None:
    """Raise UsageError for options that belong to another backend."""
    if scheduler is not None and name != "dask":
        what, hint = f"`scheduler` is of no use to backend={name}", "add backend=dask, or leave it out"
        raise UsageError(what, hint, parameters=("scheduler", "backend"))
    if workers is not None and name == "threads":
        what, hint = "`workers` is of no use to backend=threads", "use `threads`, or backend=devices"
        raise UsageError(what, hint, parameters=("workers", "backend", "threads"))
    if workers is not None and scheduler is not None:
        raise UsageError(
            "`scheduler` has workers of its own", "leave `workers` out", parameters=("scheduler", "workers")
        )
