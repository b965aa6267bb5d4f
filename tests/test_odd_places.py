"""Streams that are closed, files that are none, and files far larger than they should be."""

from __future__ import annotations

import gc
import io
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from commandline import Run, files, picture, runner
from PIL import Image

from irnscale.cli import streams
from irnscale.errors import InputError
from irnscale.images import opening
from irnscale.images.opening import read_bytes

TOOL = f"{sys.executable} -c 'from irnscale.cli.main import run; run()'"


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return runner(capfdbinary, monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("down a.png -n 2>&-", 0, ""),
        ("down missing.png -n 2>&-", 1, ""),
        ("down a.png -n >&-", 5, "stdout: could not write"),
        ("down a.png -s 2 -o - >&-", 5, "stdout: could not write"),
        ("info a.png >&-", 5, "stdout: could not write"),
        ("--version >&-", 5, "stdout: could not write"),
        ("models list >&-", 5, "stdout: could not write"),
        ("down - -n <&-", 1, "stdin: is empty"),
        ("down a.png -n --json <&- >&- 2>&-", 5, ""),
    ],
)
def test_closed_streams(tmp_path, arguments, code, words):
    picture(tmp_path / "a.png")
    done = subprocess.run(
        f"{TOOL} {arguments}", shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, "internal" in done.stderr) == (code, False), done.stderr
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == bool(words)
    assert files(tmp_path) == ["a.png"]


PRINTING = ["--help", "models list", "models verify irn-x2", "info a.png", "train recipes", "doctor", "check a.png"]
PRINTING += ["evaluate experiment --list"]


def unread_pipe() -> int:
    """The end to write to of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("place", ["full disk", "unread pipe"])
@pytest.mark.parametrize("arguments", [*PRINTING, "down a.png -n"])
def test_stdout_that_takes_nothing(run, tmp_path, monkeypatch, arguments, place):
    picture(tmp_path / "a.png")
    descriptor = os.open("/dev/full", os.O_WRONLY) if place == "full disk" else unread_pipe()
    with streams.guarded(descriptor) as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        result = run(*arguments.split())
    monkeypatch.undo()
    os.close(descriptor)
    assert (result.code, len(result.lines)) == (5, 1), result.lines
    reason = "No space left on device" if place == "full disk" else "Broken pipe"
    assert f"irnscale: error: stdout: could not write: {reason} (" in result.lines[0]


@pytest.mark.parametrize("arguments", PRINTING)
def test_tables_are_written_in_one_piece(run, tmp_path, monkeypatch, arguments):
    """So that what `| head -1` does to them does not depend on who is faster."""
    picture(tmp_path / "a.png")
    pieces: list[bytes] = []

    class Raw(io.RawIOBase):
        def writable(self):
            return True

        def write(self, data):
            pieces.append(bytes(data))
            return len(data)

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(Raw())))
    assert run(*arguments.split()).code == 0
    monkeypatch.undo()
    assert len(pieces) == 1
    assert pieces[0].endswith(b"\n")


def test_streams_of_the_process(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("text")
    for arguments, code in (("info a.png >/dev/full", 5), ("info a.png b.png 2>/dev/full", 1)):
        done = subprocess.run(
            f"{TOOL} {arguments}", shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (code, code == 5), done.stderr
    assert "irnscale: no record" in done.stdout


@pytest.mark.parametrize("option", [[], ["--overwrite"], ["--skip-existing"]])
def test_an_output_is_never_a_pipe_or_device(run, tmp_path, option):
    picture(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "null.png").symlink_to(os.devnull)
    for name in ("pipe.png", "null.png"):
        result = run("down", "a.png", "-s", 2, "-o", name, *option)
        assert (result.code, len(result.lines)) == (5, 1)
        assert "a device or a pipe" in result.lines[0]
    assert (tmp_path / "pipe.png").is_fifo()
    assert (tmp_path / "null.png").is_symlink()


def test_a_report_is_a_file(run, tmp_path):
    picture(tmp_path / "a.png")
    os.mkfifo(tmp_path / "pipe")
    for name, code in (("pipe", 5), ("-", 2)):
        result = run("down", "a.png", "-s", 2, "--report", name)
        assert (result.code, len(result.lines)) == (code, 1)
    assert files(tmp_path) == ["a.png", "pipe"]


def test_a_huge_file_is_not_read_to_learn_that_it_is_no_picture(tmp_path):
    path = tmp_path / "video.png"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match=r"video.png: is not a picture"):
        read_bytes(path, "video.png")
    picture(tmp_path / "a.png")
    with (tmp_path / "a.png").open("ab") as file:
        file.truncate(2**40)
    with pytest.raises(InputError, match=r"a.png: has 1099511627776 bytes, too many for a picture of 21x14"):
        read_bytes(tmp_path / "a.png", "a.png")


def test_endless_input_ends(run, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "MAX_BYTES", 10**6)
    result = run("down", "-", "-o", "a.png", stdin=bytes(2 * 10**6))
    assert (result.code, len(result.lines)) == (1, 1)
    assert "stdin: more than 1000000 bytes" in result.lines[0]


def test_failures_hold_no_pixels(run, tmp_path):
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    data = (tmp_path / "noise.png").read_bytes()
    for i in range(40):
        (tmp_path / f"in/{i:02}.png").write_bytes(data[:-50_000])
    gc.collect()
    tracemalloc.start()
    result = run("down", "in", "-r", "-s", 2, "-o", "out/", "-j", 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.code == 1
    assert len(result.lines) == 41
    assert peak < 5 * len(data), "a failed file must not be kept until the end of the run"


def test_debug_shows_the_traceback_of_a_file(run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"text")
    assert any("UnidentifiedImageError" in line for line in run("down", "a.png", "--debug").lines)
    assert len(run("down", "a.png").lines) == 1


def test_skipping_clears_what_a_killed_run_left(run, tmp_path):
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in/a.png")
    arguments = ["down", "in", "-r", "-s", 2, "-o", "out/", "--skip-existing"]
    assert run(*arguments).code == 0
    stale = Path("out/.irnscale-0123456789abcdef.tmp")
    stale.write_bytes(b"half a picture")
    assert run(*arguments, "-n").code == 0
    assert stale.exists(), "a dry run changes nothing"
    assert run(*arguments).code == 0
    assert files(tmp_path / "out") == ["a_down2x.png"]


def test_an_empty_output_was_never_finished(run, tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "a_down2x.png").touch()
    assert run("down", "a.png", "-s", 2).code == 5
    assert run("down", "a.png", "-s", 2, "--skip-existing").code == 0
    assert (tmp_path / "a_down2x.png").stat().st_size
