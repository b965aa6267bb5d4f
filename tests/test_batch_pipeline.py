"""The pipeline alone, with stages that only count: order, overlap, bounds, failures and interruption."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from irnscale.batch import Item, Naming, Outcome, Output, PixelBudget, Report, Status, plan, run
from irnscale.errors import ExitCode, InputError, ModelError


def jobs(count: int) -> list:
    items = [Item(f"{i}.png", Path(f"/nowhere/{i}.png")) for i in range(count)]
    return plan(items, Output(), Naming("{stem}_x.{ext}", "png"))


class Counting:
    """Stages that sleep and record; a job whose number is in `broken` fails in that stage."""

    def __init__(self, broken: dict[int, str] | None = None, pixels: int = 10, limit: int = 10**9, sleep: float = 0.0):
        self.broken, self.pixels, self.sleep = broken or {}, pixels, sleep
        self.budget = PixelBudget(limit)
        self.lock = threading.Lock()
        self.open = self.most = 0
        self.computed: list[int] = []
        self.groups: list[int] = []
        self.threads: dict[str, set[str]] = {"load": set(), "compute": set(), "store": set()}

    def _stage(self, name: str, job) -> int:
        number = int(Path(job.label).stem)
        self.threads[name].add(threading.current_thread().name)
        if self.broken.get(number) == name:
            raise InputError(f"{job.label}: {name}")
        time.sleep(self.sleep)
        return number

    def load(self, ticket, job, outcome):
        if self.broken.get(ticket) == "skip":
            outcome.status = Status.SKIPPED
            return None
        number = self._stage("load", job)
        self.budget.take(ticket, self.pixels)
        with self.lock:
            self.open += 1
            self.most = max(self.most, self.open)
        return number

    def fits(self, group, other):
        return False

    def compute(self, group, outcomes):
        self.groups.append(len(group))
        for outcome in outcomes:
            self._stage("compute", outcome.job)
        self.computed += group
        return group

    def store(self, result, job, outcome):
        self._stage("store", job)
        outcome.status = Status.DONE

    def discard(self, ticket):
        with self.lock:
            if ticket in self.budget._held:
                self.open -= 1
        self.budget.give(ticket)

    def close(self):
        self.budget.close()


@pytest.mark.parametrize("workers", [1, 3])
def test_everything_in_order_with_failures_in_every_stage(workers):
    stages = Counting({1: "load", 4: "compute", 5: "store", 7: "skip", 11: "store"}, sleep=0.001)
    outcomes: list[Outcome] = []
    run(jobs(12), stages, outcomes.append, workers=workers)
    assert [int(Path(o.job.label).stem) for o in outcomes] == list(range(12))
    failed = {i for i, o in enumerate(outcomes) if o.status is Status.FAILED}
    assert failed == {1, 4, 5, 11}
    assert outcomes[7].status is Status.SKIPPED
    assert sum(o.status is Status.DONE for o in outcomes) == 7
    assert stages.computed == [i for i in range(12) if i not in (1, 4, 7)]
    assert stages.threads["compute"] == {threading.main_thread().name}


def test_stages_overlap():
    stages = Counting(sleep=0.02)
    started = time.perf_counter()
    run(jobs(20), stages, lambda outcome: None, workers=2)
    assert time.perf_counter() - started < 0.85 * 20 * 3 * 0.02
    assert all(name.startswith("decode") for name in stages.threads["load"])
    assert all(name.startswith("encode") for name in stages.threads["store"])


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_memory_is_bounded(workers):
    stages = Counting(sleep=0.0005)
    run(jobs(300), stages, lambda outcome: None, workers=workers)
    assert 0 < stages.most <= 2 * workers + 1
    tight = Counting(pixels=10, limit=25, sleep=0.0005)
    run(jobs(50), tight, lambda outcome: None, workers=workers)
    assert tight.most <= 2
    alone = Counting(pixels=10, limit=5)
    run(jobs(20), alone, lambda outcome: None, workers=workers)
    assert alone.most == 1
    assert len(alone.computed) == 20


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("stage", ["load", "compute", "store"])
def test_fail_fast(workers, stage):
    outcomes: list[Outcome] = []
    run(jobs(50), Counting({3: stage}), outcomes.append, workers=workers, fail_fast=True)
    assert outcomes[3].status is Status.FAILED
    assert len(outcomes) <= 4 + workers
    report = Report(50)
    report.outcomes = outcomes
    assert report.summary_event(1.0)["not_started"] == 50 - len(outcomes)


def test_a_fatal_failure_stops_the_run():
    class Fatal(Counting):
        def compute(self, group, outcomes):
            outcomes[0].fatal = True
            raise ModelError("damaged")

    outcomes: list[Outcome] = []
    run(jobs(9), Fatal(), outcomes.append, workers=2)
    assert [o.status for o in outcomes] == [Status.FAILED]


def test_an_interruption_lets_writers_finish_and_wakes_those_who_wait():
    class Interrupted(Counting):
        def compute(self, group, outcomes):
            if group == [3]:
                raise KeyboardInterrupt
            return super().compute(group, outcomes)

    stages = Interrupted(pixels=10, limit=15, sleep=0.01)
    outcomes: list[Outcome] = []
    with pytest.raises(KeyboardInterrupt):
        run(jobs(20), stages, outcomes.append, workers=2)
    assert [o.status for o in outcomes] == [Status.DONE] * 3
    assert not [t for t in threading.enumerate() if t.name.startswith(("decode", "encode"))]


def test_groups_keep_the_order_and_fail_one_by_one():
    class Grouping(Counting):
        def fits(self, group, other):
            return len(group) < 3

    stages = Grouping({5: "compute", 8: "skip"}, sleep=0.0)
    stages.store = lambda result, job, outcome: (time.sleep(0.003), setattr(outcome, "status", Status.DONE))
    outcomes: list[Outcome] = []
    run(jobs(30), stages, outcomes.append, workers=4)
    assert [int(Path(o.job.label).stem) for o in outcomes] == list(range(30))
    assert [i for i, o in enumerate(outcomes) if o.status is Status.FAILED] == [5]
    assert stages.computed == [i for i in range(30) if i not in (5, 8)]
    assert 2 <= max(stages.groups) <= 3


def test_a_pipe_is_read_in_the_main_thread(tmp_path):
    os.mkfifo(tmp_path / "0.png")
    items = [Item("0.png", tmp_path / "0.png"), Item("1.png", tmp_path / "1.png")]
    stages = Counting()
    run(plan(items, Output(), Naming("{stem}_x.{ext}", "png")), stages, lambda outcome: None, workers=2)
    assert threading.main_thread().name in stages.threads["load"]
    assert len(stages.threads["load"]) == 2


def test_exit_codes_and_events():
    report = Report(4)
    (job,) = jobs(1)
    report.outcomes = [Outcome(job, Status.DONE, Path("o.png"), size=(4, 3), new_size=(1, 1), notes=["n", "n"])]
    assert report.code == ExitCode.OK
    assert report.outcomes[0].event() == {
        "input": "0.png",
        "status": "done",
        "output": "o.png",
        "width": 4,
        "height": 3,
        "output_width": 1,
        "output_height": 1,
        "warnings": ["n"],
    }
    report.outcomes.append(Outcome(job, Status.FAILED, error=ModelError("what", "hint")))
    assert report.code == ExitCode.MODEL
    assert report.outcomes[1].event()["remedy"] == "hint"
    report.outcomes.append(Outcome(job, Status.FAILED, error=InputError("what")))
    assert report.code == ExitCode.INPUT
    assert report.summary == "1 of 4 done, 2 failed, 1 not started"
