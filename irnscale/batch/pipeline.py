"""Decoding, the network and encoding at the same time, in order, with bounded memory."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Generic, Protocol, TypeVar

from irnscale.batch.jobs import Job
from irnscale.batch.report import Outcome, Status
from irnscale.errors import IrnscaleError

T = TypeVar("T")
Loaded = TypeVar("Loaded")
Result = TypeVar("Result")


class Cancelled(Exception):  # noqa: N818 - not an error: the run ends
    """Raised in a worker that waits for room while the run ends."""


class PixelBudget:
    """Lets pictures into memory in order, as long as all in it have at most `limit` pixels together.

    A picture larger than the limit gets in alone. Tickets count from 0 and every one must come to `give`, so
    that those behind it are let in.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[int, int] = {}
        self._turn = 0
        self._passed: set[int] = set()
        self._closed = False
        self._changed = threading.Condition()

    def take(self, ticket: int, pixels: int) -> None:
        """Wait for the turn of `ticket` and for room. Raises Cancelled where the run ends meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or (ticket == self._turn and self._fits(pixels)))
            if self._closed:
                raise Cancelled
            self._held[ticket] = pixels
            self._pass(ticket)

    def give(self, ticket: int) -> None:
        """This ticket needs no room, or none any more. May be called again."""
        with self._changed:
            self._held.pop(ticket, None)
            self._pass(ticket)

    def close(self) -> None:
        """End all waiting: those who wait raise Cancelled."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _pass(self, ticket: int) -> None:
        if ticket >= self._turn:
            self._passed.add(ticket)
        while self._turn in self._passed:
            self._passed.remove(self._turn)
            self._turn += 1
        self._changed.notify_all()

    def _fits(self, pixels: int) -> bool:
        return not self._held or sum(self._held.values()) + pixels <= self._limit


class Stages(Protocol[Loaded, Result]):
    """What is done to a job. Failures are IrnscaleError; each stage may fill in its outcome."""

    def load(self, ticket: int, job: Job, outcome: Outcome) -> Loaded | None:
        """Read and decode; in a worker. None ends the job, its outcome saying why."""

    def fits(self, group: list[Loaded], other: Loaded) -> bool:
        """Whether `other`, the next job, may be computed at once with these; in the main thread."""

    def compute(self, group: list[Loaded], outcomes: list[Outcome]) -> list[Result]:
        """The network; in the main thread, in order. Where a group fails, its jobs are tried one by one."""

    def store(self, result: Result, job: Job, outcome: Outcome) -> None:
        """Encode and write; in a worker."""

    def discard(self, ticket: int) -> None:
        """The job of this ticket takes no more room; from any thread, perhaps more than once."""

    def close(self) -> None:
        """The run ends: nobody may wait for room any more."""


@dataclass
class _Lazy(Generic[T]):
    """A future that computes when asked, in the thread that asks."""

    function: Callable[[], T]

    def result(self) -> T:
        return self.function()

    def done(self) -> bool:
        return True


@dataclass
class _Entry:
    """A job on its way through the first stage."""

    ticket: int
    outcome: Outcome
    future: Future[Any] | _Lazy[Any]
    settled: bool = False
    value: Any = None

    def loaded(self, stages: Stages[Any, Any]) -> Any:
        """What the first stage gave, waiting for it; None where the job ends there."""
        if not self.settled:
            self.settled = True
            try:
                self.value = self.future.result()
            except IrnscaleError as error:
                self.outcome.status, self.outcome.error = Status.FAILED, error
            if self.value is None:
                stages.discard(self.ticket)
        return self.value


class Feed(Protocol):
    """Where jobs come from, one after the other."""

    def next(self, *, wait: bool) -> Job | None:
        """The next job. None: there is none yet, or with `wait`, which waits until there is one, no more at all."""


@dataclass
class _Listed:
    """All jobs, known beforehand."""

    jobs: Iterator[Job]

    def next(self, *, wait: bool) -> Job | None:
        return next(self.jobs, None)


def run(
    jobs: Sequence[Job] | Feed,
    stages: Stages[Any, Any],
    emit: Callable[[Outcome], None],
    *,
    workers: int,
    fail_fast: bool = False,
) -> None:
    """Take every job through its stages and `emit` the outcomes in the order of the jobs, in this thread.

    Where the jobs come one by one from elsewhere, outcomes are given before it waits for the next.

    `workers` threads decode ahead and as many encode behind; with one worker or one job, all happens here.
    At most 3 * `workers` + 1 pictures are in memory. A failure ends its own job alone, unless it is fatal or
    `fail_fast` is set: then no further job starts.
    """
    threaded = workers > 1 and not (isinstance(jobs, Sequence) and len(jobs) <= 1)
    feed: Feed = _Listed(iter(jobs)) if isinstance(jobs, Sequence) else jobs
    ahead = workers if threaded else 0
    decoders = ThreadPoolExecutor(workers, "decode") if threaded else None
    encoders = ThreadPoolExecutor(workers, "encode") if threaded else None
    tickets = count()
    loading: deque[_Entry] = deque()
    storing: deque[tuple[Outcome, Future[None] | _Lazy[None]]] = deque()

    def begin(job: Job) -> None:
        ticket, outcome = next(tickets), Outcome(job)
        task = partial(stages.load, ticket, job, outcome)
        # what may wait for another program must not hold a thread that Ctrl-C cannot end
        future = decoders.submit(task) if decoders is not None and job.item.regular else _Lazy(task)
        loading.append(_Entry(ticket, outcome, future))

    def refill(depth: int) -> None:
        while len(loading) < depth and (job := feed.next(wait=False)) is not None:
            begin(job)

    def finish(outcome: Outcome, future: Future[None] | _Lazy[None]) -> None:
        try:
            future.result()
        except IrnscaleError as error:
            outcome.status, outcome.error = Status.FAILED, error
        emit(outcome)
        if outcome.error is not None:
            _forget_frames(outcome.error)

    def stopped(outcome: Outcome) -> bool:
        return outcome.status is Status.FAILED and (fail_fast or outcome.fatal)

    def next_group() -> list[_Entry]:
        group = [loading.popleft()]
        refill(ahead)
        first = group[0].loaded(stages)
        while first is not None and loading and isinstance(loading[0].future, Future) and loading[0].future.done():
            other = loading[0].loaded(stages)
            if other is None or not stages.fits([entry.value for entry in group], other):
                break
            group.append(loading.popleft())
        return group

    try:
        ended = False
        while not ended:
            refill(1)
            if not loading:
                if (job := feed.next(wait=True)) is None:
                    break
                begin(job)
            group = next_group()
            results = [None] if group[0].value is None else _compute(stages, group)
            for entry, result in zip(group, results, strict=True):
                store: Future[None] | _Lazy[None] = _Lazy(_nothing)
                if result is not None:
                    task = partial(_store, stages, entry.ticket, result, entry.outcome)
                    store = _Lazy(task) if encoders is None else encoders.submit(task)
                storing.append((entry.outcome, store))
            halt = any(stopped(entry.outcome) for entry in group)
            while storing and (storing[0][1].done() or len(storing) > ahead or not loading or halt):
                done = storing.popleft()
                finish(*done)
                ended = ended or stopped(done[0])
        while storing:
            finish(*storing.popleft())
    finally:
        stages.close()
        for pool in (decoders, encoders):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
        for outcome, store in storing:  # written while the run was being interrupted
            if isinstance(store, Future) and not store.cancelled():
                finish(outcome, store)


def _compute(stages: Stages[Any, Any], group: list[_Entry]) -> list[Any]:
    """The results of a group; None for a job that failed."""
    try:
        return stages.compute([entry.value for entry in group], [entry.outcome for entry in group])
    except IrnscaleError as error:
        if len(group) > 1 and not any(entry.outcome.fatal for entry in group):
            return [result for entry in group for result in _compute(stages, [entry])]
        for entry in group:
            entry.outcome.status, entry.outcome.error = Status.FAILED, error
            stages.discard(entry.ticket)
        return [None] * len(group)


def _forget_frames(error: BaseException) -> None:
    """The report keeps the errors of all jobs, whose tracebacks would keep the bytes and pixels of their files.

    Their causes' too, and what the frames hold: `contextlib`'s keep the error that their traceback belongs to, a ring
    that only the collector undoes, some day.
    """
    chain: list[BaseException | None] = [error]
    while chain:
        link = chain.pop()
        if link is not None:
            chain += [link.__cause__, link.__context__]
            traceback.clear_frames(link.__traceback__)
            link.__traceback__ = link.__cause__ = link.__context__ = None


def _nothing() -> None:
    """What is left to store of a job that failed or was skipped."""


def _store(stages: Stages[Any, Any], ticket: int, result: Any, outcome: Outcome) -> None:
    try:
        stages.store(result, outcome.job, outcome)
    finally:
        stages.discard(ticket)
