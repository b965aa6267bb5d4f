"""Two runs on one folder at the same time."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from commandline import Run, picture, runner

from irnscale import batch


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line in a folder with a photograph."""
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    return runner(capfdbinary, monkeypatch)


@pytest.fixture
def meanwhile(monkeypatch):
    """`meanwhile(action)`: `action` happens when the next output is about to be written."""
    write = batch.write_target

    def arrange(action) -> None:
        def interrupted(data: bytes, target: Path, **options) -> None:
            action(target)
            write(data, target, **options)

        monkeypatch.setattr(batch, "write_target", interrupted)

    return arrange


def made(run: Run, *arguments: object) -> bytes:
    """What another run writes."""
    assert run(*arguments, "-o", "other.png").code == 0
    data = Path("other.png").read_bytes()
    Path("other.png").unlink()
    return data


@pytest.mark.parametrize("verb", ["down", "up"])
def test_what_another_run_has_just_written_is_skipped(run, meanwhile, verb):
    arguments = ["down", "a.png", "-s", 2]
    if verb == "up":
        assert run(*arguments).code == 0
        arguments = ["up", "a_down2x.png"]
    theirs = made(run, *arguments)
    meanwhile(lambda target: target.write_bytes(theirs))
    result = run(*arguments, "--skip-existing", "--json")
    assert (result.code, result.lines) == (0, [])
    event = json.loads(result.text.splitlines()[0])
    target = {"down": "a_down2x.png", "up": "a_up2x.png"}[verb]
    assert (event["status"], event["output"]) == ("skipped", target)
    assert Path(target).read_bytes() == theirs


def test_a_name_that_another_run_has_claimed(run, meanwhile):
    theirs = made(run, "down", "a.png", "-s", 2)
    threads = []

    def claim(target: Path) -> None:
        target.touch()
        threads.append(threading.Thread(target=lambda: (time.sleep(0.2), target.write_bytes(theirs))))
        threads[0].start()

    meanwhile(claim)
    result = run("down", "a.png", "-s", 2, "--skip-existing")
    threads[0].join()
    assert (result.code, result.lines) == (0, [])


@pytest.mark.parametrize("other", ["settings", "input", "no picture", "without the option"])
def test_what_is_not_the_same_is_not_taken_for_it(run, meanwhile, tmp_path, other):
    if other == "input":
        picture(tmp_path / "b.png", 23, 14)
    theirs = made(
        run,
        "down",
        "b.png" if other == "input" else "a.png",
        "-s",
        2,
        *["--detail", "none"][: 2 * (other == "settings")],
    )
    if other == "no picture":
        theirs = b"something else"
    meanwhile(lambda target: target.write_bytes(theirs))
    result = run("down", "a.png", "-s", 2, *["--skip-existing"] * (other != "without the option"))
    assert (result.code, len(result.lines)) == (5, 1)
    assert "already exists" in result.lines[0]
    assert Path("a_down2x.png").read_bytes() == theirs, "nobody's file is replaced"
