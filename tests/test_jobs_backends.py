"""Backends: processes and Dask's workers give the files, outcomes and words that threads give, and lose nothing."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
from commandline import Run, files, picture, runner
from dying_workers import dies_of_1, stillborn

from irnscale.batch import Job, Outcome, Output, Selection, Status
from irnscale.errors import DeviceError, UsageError
from irnscale.jobs.backends import Running, run_on, torch_threads
from irnscale.jobs.backends.worker import Assignment, InOrder, elsewhere
from irnscale.jobs.down import Down
from irnscale.jobs.planning import Batch, plan
from irnscale.jobs.settings import Message, Settings

TOOL = [sys.executable, "-c", "from irnscale.cli.main import run; run()"]


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / ".models"))
    return runner(capfdbinary, monkeypatch)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Some photographs in two folders, one of them gray, and a broken file."""
    (tmp_path / "in/sub").mkdir(parents=True)
    for index in range(4):
        picture(tmp_path / f"in/{index}.png", 20 + index, 14)
    picture(tmp_path / "in/gray.png", 9, 16, "L")
    picture(tmp_path / "in/sub/0.webp", 9, 16)
    (tmp_path / "in/broken.png").write_bytes((tmp_path / "in/0.png").read_bytes()[:60])
    return tmp_path / "in"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A Dask cluster of two processes on the loopback."""
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", memory_limit=0
    ) as started:
        yield started


def told(result: Any) -> list[dict[str, Any]]:
    """The objects of --json without what differs from run to run."""
    lines = [json.loads(line) for line in result.text.splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def compare(run: Run, tmp_path: Path, *options: object, fewer: tuple[object, ...] = ()) -> None:
    """A folder with a broken file by threads and by `options`: the same files, objects, lines and exit code; then the
    one that is missing, by `fewer` too.
    """
    plain = run("down", "in", "-s", 2, "-o", "out/", "--json")
    expected = {
        name: (tmp_path / "out" / name).read_bytes()
        for name in files(tmp_path / "out")
        if (tmp_path / "out" / name).is_file()
    }
    assert (plain.code, len(expected)) == (1, 6)
    (tmp_path / "out").rename(tmp_path / "out-threads")
    other = run("down", "in", "-s", 2, "-o", "out/", "--json", *options)
    found = {
        name: (tmp_path / "out" / name).read_bytes()
        for name in files(tmp_path / "out")
        if (tmp_path / "out" / name).is_file()
    }
    assert other.code == plain.code
    assert found == expected
    assert told(other) == told(plain)
    assert sorted(other.lines) == sorted(plain.lines)
    (tmp_path / "out/0_down2x.png").unlink()
    newer = run("down", "in", "-s", 2, "-o", "out/", "--skip-existing", "--json", *options, *fewer)
    assert [line["status"] for line in told(newer)[:-1]].count("skipped") == 5
    assert (tmp_path / "out/0_down2x.png").read_bytes() == expected["0_down2x.png"]


def test_processes_do_what_threads_do(run, photos, tmp_path):
    compare(run, tmp_path, "--backend", "devices", "--workers", 2, "--device", "cpu", fewer=("--workers", 1))


@pytest.mark.slow
def test_a_dask_cluster_does_what_threads_do(run, photos, tmp_path, cluster):
    compare(run, tmp_path, "--backend", "dask", "--scheduler", cluster.scheduler_address)


@pytest.mark.slow
def test_dask_starts_a_cluster_of_its_own(run, photos, tmp_path):
    pytest.importorskip("distributed")
    result = run("down", "in/0.png", "in/1.png", "-s", 2, "-o", "out/", "--backend", "dask", "--workers", 1)
    assert (result.code, result.lines) == (0, [])
    assert files(tmp_path / "out") == ["0_down2x.png", "1_down2x.png"]


def planned(photos: Path, **settings: Any) -> Batch:
    task = Down(Settings(Output(output=f"{photos.parent}/out/"), device="cpu", threads=1, **settings), 2)
    names = tuple(str(path) for path in sorted(photos.glob("?.png")))
    return plan(task, Selection(names), lambda message: None)


def do(name: str, batch: Batch, **options: Any) -> tuple[list[Outcome], list[Message], list[Path]]:
    """All jobs by a backend, of whose processes one is killed when the first picture is done."""
    outcomes: list[Outcome] = []
    messages: list[Message] = []
    kill = options.pop("kill")

    def emit(outcome: Outcome) -> None:
        outcomes.append(outcome)
        if len(outcomes) == 1:
            kill()

    run_on(name, batch, Running(messages.append, **options), emit)
    return outcomes, messages, sorted(path for path in (Path(batch.task.settings.files.output or "")).iterdir())


def test_a_killed_process_loses_nothing(photos):
    for index in range(4):
        picture(photos / f"{index}.png", 96, 72)  # enough that the first is told before the last is done

    def kill() -> None:
        os.kill(_processes()[0].pid or 0, signal.SIGKILL)

    batch = planned(photos)
    outcomes, messages, written = do("devices", batch, kill=kill, workers=1)
    assert [outcome.status for outcome in outcomes] == [Status.DONE] * 4
    assert [outcome.job for outcome in outcomes] == batch.jobs
    assert [path.name for path in written] == [f"{index}_down2x.png" for index in range(4)]
    assert any("done by another" in message.text for message in messages)
    assert not _processes()


def _processes() -> list[BaseProcess]:
    """Those of the backend, not those of the cluster beside it."""
    return [process for process in multiprocessing.active_children() if process.name.startswith("irnscale-")]


@pytest.mark.slow
def test_a_killed_dask_worker_loses_nothing(photos, cluster):
    def kill() -> None:
        os.kill(next(iter(cluster.workers.values())).pid, signal.SIGKILL)

    for index in range(4):
        picture(photos / f"{index}.png", 160, 120)
    batch = planned(photos)
    outcomes, _, written = do("dask", batch, kill=kill, scheduler=cluster.scheduler_address)
    assert [outcome.status for outcome in outcomes] == [Status.DONE] * 4
    assert [path.name for path in written] == [f"{index}_down2x.png" for index in range(4)]


def test_what_a_lost_worker_had_written_is_done(photos, tmp_path):
    batch = planned(photos)
    assignment = Assignment.of(batch, batch.task)
    first: list[Outcome] = []
    assignment.work(batch.jobs[:2], lambda message: None, {}, first.append, fail_fast=False)
    assert [outcome.status for outcome in first] == [Status.DONE] * 2
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again: list[Outcome] = []
    assignment.work(batch.jobs, lambda message: None, {}, again.append, fail_fast=False)
    assert [outcome.status for outcome in again] == [Status.DONE] * 4
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    later = replace(assignment, since=time.time() + 3600)
    late: list[Outcome] = []
    later.work(batch.jobs, lambda message: None, {}, late.append, fail_fast=False)
    assert [outcome.status for outcome in late] == [Status.FAILED] * 4, "an earlier run's output is not replaced"


def test_a_picture_that_ends_every_worker_is_given_up(photos, monkeypatch):
    from irnscale.jobs.backends import devices

    monkeypatch.setattr(devices, "_serve", dies_of_1)
    outcomes, _, written = do("devices", planned(photos), kill=lambda: None, workers=2)
    assert [outcome.status.value for outcome in outcomes] == ["done", "failed", "done", "done"]
    error = outcomes[1].error
    assert isinstance(error, DeviceError)
    assert "1.png" in error.what
    assert "`max_memory`" in error.hint
    assert [path.name for path in written] == ["0_down2x.png", "2_down2x.png", "3_down2x.png"]


def test_processes_that_cannot_start_are_one_line(photos, monkeypatch):
    from irnscale.jobs.backends import devices

    monkeypatch.setattr(devices, "_serve", stillborn)
    with pytest.raises(DeviceError, match="end as soon as they start"):
        do("devices", planned(photos), kill=lambda: None, workers=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["devices", "dask"])
def test_fail_fast_ends_the_run(name, run, photos, tmp_path, cluster):
    where = ("--workers", 1) if name == "devices" else ("--scheduler", cluster.scheduler_address)
    (photos / "0.png").write_bytes(b"")
    result = run("down", "in", "-s", 2, "-o", "out/", "--fail-fast", "-j", 1, "--json", "--backend", name, *where)
    assert result.code == 1
    assert told(result)[-1]["failed"] == 1
    assert told(result)[-1]["not_started"] >= 1


def test_a_scheduler_that_is_not_there_is_one_line(run, photos, monkeypatch):
    pytest.importorskip("distributed")
    from irnscale.jobs.backends import dask

    monkeypatch.setattr(dask, "_PATIENCE", 1)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        result = run("down", "in", "-o", "out/", "--backend", "dask", "--scheduler", address)
    errors = [line for line in result.lines if "error" in line]
    assert (result.code, len(errors)) == (4, 1)
    assert address in errors[0]
    assert "dask scheduler" in errors[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--workers", "2"], "--backend devices"),
        (["--scheduler", "tcp://a:1"], "--backend dask"),
        (["--backend", "devices", "--scheduler", "tcp://a:1"], "--backend dask"),
        (["--backend", "dask", "--scheduler", "tcp://a:1", "--workers", "2"], "--workers"),
        (["--backend", "dask", "--scheduler", "nonsense"], "no Dask scheduler"),
    ],
)
def test_options_that_contradict_each_other_are_refused(run, photos, options, said, monkeypatch):
    from irnscale.jobs.backends import dask

    monkeypatch.setattr(dask, "_PATIENCE", 1)
    result = run("down", "in", "-o", "out/", *options)
    assert result.code in (2, 4)
    assert said in result.lines[-1]


@pytest.mark.parametrize("name", ["devices", "dask"])
def test_streams_belong_to_this_process(run, photos, name):
    """Refused before a process is started or a scheduler is asked: nobody listens at this one."""
    where = ("--workers", 1) if name == "devices" else ("--scheduler", "tcp://127.0.0.1:9")
    data = (photos / "0.png").read_bytes()
    result = run("down", "-", "-s", 2, "-o", "small.png", "--backend", name, *where, stdin=data)
    assert (result.code, "--backend threads" in result.lines[-1]) == (2, True)


def test_a_worker_of_another_kind_refuses(photos):
    batch = planned(photos)
    assignment = Assignment.of(batch, batch.task)
    assert pickle.loads(pickle.dumps(assignment)) == assignment
    for other in (replace(assignment, version="9.9"), replace(assignment, fingerprint="other weights")):
        with pytest.raises(DeviceError, match=r"every machine"):
            other.stages(lambda message: None, {})


def test_outcomes_come_in_the_order_of_the_jobs_and_speak_of_them(tmp_path):
    jobs = [Job(item, None, Path("out"), Down(Settings(), 2).naming) for item in _items("a", "b", "c")]
    seen: list[Outcome] = []
    results = InOrder(jobs, seen.append)
    for index in (2, 0):
        job = elsewhere(jobs[index])
        assert job.item.source is not None and job.item.source.is_absolute()  # noqa: PT018
        results.add(index, Outcome(job, Status.DONE, target=job.path(2), scale=2))
    assert [outcome.job for outcome in seen] == jobs[:1]
    assert seen[0].target == Path("out/a_down2x.png")
    results.flush()
    assert [outcome.job for outcome in seen] == [jobs[0], jobs[2]]


def _items(*names: str) -> list[Any]:
    from irnscale.batch import Item

    return [Item(f"{name}.png", Path(f"{name}.png")) for name in names]


def test_threads_of_a_process_are_a_share_of_the_cpus(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    for said, threads in (("", 4), ("1", 1), ("3,2", 3), ("16", 4), ("0", 1), ("many", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert torch_threads(2) == threads
    assert torch_threads(20) == 1


def test_there_is_no_other_backend(photos):
    with pytest.raises(UsageError, match="threads, devices, dask"):
        run_on("ray", planned(photos), Running(print), print)


@pytest.mark.slow
def test_an_interrupted_run_ends_its_processes(photos, tmp_path):
    for index in range(40):
        picture(photos / f"more{index}.png", 64, 64)
    command = [*TOOL, "down", str(photos), "-o", str(tmp_path / "out") + "/", "-s", "2"]
    started = subprocess.Popen(
        [*command, "--backend", "devices", "--workers", "2", "--report", str(tmp_path / "r.json")]
    )
    while not (tmp_path / "out").is_dir() or not list((tmp_path / "out").iterdir()):
        time.sleep(0.05)
        assert started.poll() is None
    started.send_signal(signal.SIGTERM)
    assert started.wait(60) == 130
    left = [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert all(name.endswith("_down2x.png") for name in left), left
    events = [json.loads(line) for line in (tmp_path / "r.json").read_text().splitlines()]
    done = {Path(event["output"]).name for event in events if event.get("status") == "done"}
    assert set(left) == done, "what is there was told, and what was told is there"
    assert events[-1]["code"] == 130
