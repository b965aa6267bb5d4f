"""What happens to a batch when the machine, the disk, the files or the user turn against it."""

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from commandline import Run, files, picture, runner
from PIL import Image, PngImagePlugin

from irnscale.images.atomic import remove_stale, write_bytes_atomic
from irnscale.images.provenance import read_provenance

TOOL = [sys.executable, "-c", "from irnscale.cli.main import run; run()"]
TIMEOUT = 300


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return runner(capfdbinary, monkeypatch)


def photos(folder: Path, count: int, side: int = 64) -> Path:
    folder.mkdir()
    for i in range(count):
        picture(folder / f"{i:03}.png", side + i % 7, side - i % 5)
    return folder


def start(*arguments: object, cwd: Path, **options) -> subprocess.Popen:
    command = [*TOOL, *map(str, arguments)]
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder) if (folder / name).is_file()}


def ended(process: subprocess.Popen) -> int:
    """The exit code, when it has ended."""
    process.communicate(timeout=TIMEOUT)
    return process.returncode


def wait_for_outputs(folder: Path, count: int, process: subprocess.Popen) -> None:
    """Return when `count` outputs are there or the process has ended."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        if folder.is_dir() and sum(path.suffix == ".png" for path in folder.iterdir()) >= count:
            return
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_at_random_and_run_again(tmp_path):
    photos(tmp_path / "in", 24)
    arguments = ["down", "in", "-r", "-s", "2", "--skip-existing", "-o"]
    assert ended(start(*arguments, "whole/", cwd=tmp_path)) == 0
    rng = random.Random(0)
    for done in (1, 6, 12, 18):
        process = start(*arguments, "cut/", cwd=tmp_path)
        wait_for_outputs(tmp_path / "cut", done, process)
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        ended(process)
    (tmp_path / "cut/.irnscale-0123456789abcdef.tmp").write_bytes(b"half a picture")
    assert ended(start(*arguments, "cut/", cwd=tmp_path)) == 0
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert not list((tmp_path / "cut").glob(".*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path, number):
    photos(tmp_path / "in", 200, 96)
    process = start("down", "in", "-r", "-o", "out/", "--json", "--report", "r.ndjson", cwd=tmp_path)
    wait_for_outputs(tmp_path / "out", 2, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 130
    assert err.decode().splitlines()[-1] == "irnscale: interrupted"
    assert b"Traceback" not in err
    names = files(tmp_path / "out")
    assert 2 <= len(names) < 200
    assert all(read_provenance(tmp_path / "out" / name) for name in names), "no temporary and no half file"
    report = [json.loads(line) for line in (tmp_path / "r.ndjson").read_text().splitlines()]
    assert report == [json.loads(line) for line in out.splitlines()]
    assert report[-1]["code"] == 130
    assert report[-1]["done"] == len(names)
    assert report[-1]["not_started"] == 200 - len(names)


STOPPED = """
import os, signal, sys
import click
from irnscale.cli import main

@click.command()
@click.argument("number", type=int)
@click.option("--nohup", is_flag=True)
def command(number, nohup):
    os.kill(os.getpid(), number)
    return 0

if "--nohup" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
main.LazyGroup.get_command = lambda *_: command
main.run()
"""
"""A command line all of whose commands get a signal."""


@pytest.mark.parametrize(
    ("number", "more", "code", "said"),
    [
        (signal.SIGINT, [], 130, b"irnscale: interrupted"),
        (signal.SIGTERM, [], 130, b"irnscale: interrupted"),
        (signal.SIGHUP, [], 130, b"irnscale: interrupted"),
        (signal.SIGHUP, ["--nohup"], 0, b""),
    ],
)
def test_signals_end_any_command(number, more, code, said):
    command = [sys.executable, "-c", STOPPED, "check", str(int(number)), *more]
    ended = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
    assert (ended.returncode, ended.stderr.strip()) == (code, said)


def test_temporary_files_of_the_dead_go_and_of_the_living_stay(tmp_path):
    dead, living = tmp_path / ".irnscale-dead.tmp", tmp_path / ".irnscale-living.tmp"
    dead.write_bytes(b"x")
    (tmp_path / "own.tmp").write_bytes(b"x")
    with living.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_stale(tmp_path)
        assert files(tmp_path) == [".irnscale-living.tmp", "own.tmp"]


def test_a_writer_survives_being_swept_before_it_locks(tmp_path, monkeypatch):
    flock, swept = fcntl.flock, []

    def slow(file, operation):
        if not swept:
            swept.append(file)
            for path in tmp_path.glob(".irnscale-*"):
                path.unlink()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", slow)
    write_bytes_atomic(b"content", tmp_path / "a.png")
    assert swept
    assert contents(tmp_path) == {"a.png": b"content"}


def test_a_full_disk(tmp_path):
    picture(tmp_path / "a.png", 200, 200)
    picture(tmp_path / "b.png", 8, 8)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))

    process = start("down", "a.png", "b.png", "-s", "2", "-o", "out/", cwd=tmp_path, preexec_fn=limit)
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 5
    assert files(tmp_path / "out") == ["b_down2x.png"]
    assert err.decode().splitlines()[0].startswith("irnscale: error: a.png: out/a_down2x.png: cannot be written")
    assert len(err.splitlines()) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write anything")
def test_what_may_not_be_read_or_written(run, tmp_path):
    picture(tmp_path / "a.png").chmod(0)
    (tmp_path / "locked").mkdir(mode=0o500)
    picture(tmp_path / "b.png")
    assert run("down", "a.png").code == 1
    result = run("down", "b.png", "-o", "locked/")
    assert (result.code, len(result.lines)) == (5, 1)


def test_a_file_that_vanishes(run, tmp_path, monkeypatch):
    photos(tmp_path / "in", 6)
    from irnscale import batch

    read = batch.read_source

    def vanishing(item):
        data = read(item)
        (tmp_path / "in/004.png").unlink(missing_ok=True)
        return data

    monkeypatch.setattr(batch, "read_source", vanishing)
    result = run("down", "in", "-r", "-s", 2, "-o", "out/", "-j", 1)
    assert result.code == 1
    assert "004.png: no such file" in result.lines[0]
    assert result.lines[1].endswith("5 of 6 done, 1 failed")


def test_a_pipe_as_input(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    data = picture(tmp_path / "a.png").read_bytes()
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(data,))
    writer.start()
    assert run("down", "pipe", "a.png", "-s", 2, "-o", "out/").code == 0
    writer.join(10)
    assert files(tmp_path / "out") == ["a_down2x.png", "pipe_down2x.png"]


@pytest.mark.slow
def test_ten_thousand_empty_files(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(10_000):
        (tmp_path / f"in/{i:05}.jpg").touch()
    picture(tmp_path / "in/99999.png")
    process = start("down", "in", "-r", "-s", "2", "-o", "out/", cwd=tmp_path)
    _, err = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    lines = err.decode().splitlines()
    assert len(lines) == 10_001
    assert "00000.jpg: file is empty" in lines[0]
    assert lines[-1].endswith("1 of 10001 done, 10000 failed")
    assert files(tmp_path / "out") == ["99999_down2x.png"]


def test_stdout_that_nobody_reads(tmp_path):
    picture(tmp_path / "a.png", 400, 400)
    process = start("down", "a.png", "-s", "2", "-o", "-", cwd=tmp_path)
    assert process.stdout is not None
    assert len(process.stdout.read(100)) == 100
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read().decode().splitlines()
    assert process.wait(TIMEOUT) == 5
    assert len(err) == 1
    assert err[0].startswith("irnscale: error: a.png: stdout: could not write")
    process.stderr.close()


def test_events_that_nobody_reads(tmp_path):
    photos(tmp_path / "in", 5, 16)
    process = start("down", "in", "-r", "-s", "2", "-o", "out/", "--json", cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(TIMEOUT) == 5
    assert b"Traceback" not in err
    assert not list((tmp_path / "out").glob(".*"))


def forged(path: Path, **changes) -> Path:
    """A small image whose record lies; None removes a key, `text` replaces it all."""
    record = json.loads(read_provenance(path).to_json())
    text = changes.pop("text", None) or json.dumps({**record, **changes})
    with Image.open(path) as image:
        info = PngImagePlugin.PngInfo()
        info.add_itxt("irnscale", text)
        image.save(path, pnginfo=info)
    return path


@pytest.mark.parametrize(
    "lie",
    [
        {"width": 10**9, "height": 10**9},
        {"width": 10**9, "height": 10**9, "lr_width": 250 * 10**6, "lr_height": 250 * 10**6, "padding": [0, 0]},
        {"width": -1},
        {"scale": 10**9},
        {"model": "../../../etc/passwd"},
        {"model": "irn-x4+" * 40 + "irn-x4"},
        {"digest": "0" * 12},
        {"text": "{" * 5000},
        {"text": "[" * 10**5},
        {"text": '{"schema": 1' + " " * 10**6 + "}"},
        {"text": "\x00\x01\x02"},
        {"text": '{"width": 1e999, "schema": 1}'},
        {"schema": 99},
    ],
    ids=lambda lie: next(iter(lie)),
)
def test_records_that_lie(run, tmp_path, lie):
    picture(tmp_path / "a.png", 40, 24)
    run("down", "a.png", "-s", 4)
    forged(tmp_path / "a_down4x.png", **lie)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for options in ([], ["-s", "4"]):
        result = run("up", "a_down4x.png", *options, "-o", "back.png", "--overwrite")
        assert result.code in (0, 1, 2, 3), result.lines
        assert all(line.startswith(("irnscale: warning:", "irnscale: error:")) for line in result.lines)
        assert not any("internal" in line for line in result.lines)
        assert sum("error" in line for line in result.lines) == (result.code != 0)
        if result.code == 0:
            with Image.open(tmp_path / "back.png") as image:
                assert image.size == (40, 24)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
