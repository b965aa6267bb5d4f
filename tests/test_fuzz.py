"""Damaged files through the command line: a correct picture or one clear line, quickly and in little memory."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from commandline import Run, pixels, runner
from fuzz_seeds import SIDE, damaged, seeds
from PIL import Image

from irnscale.errors import InputError, UsageError
from irnscale.images.read import read_picture
from irnscale.images.write import encode_picture
from irnscale.networks import IRN, IRNConfig
from irnscale.zoo.save import save_model

CASES = int(os.environ.get("IRNSCALE_FUZZ_CASES", "2400"))
SECONDS = 10
MEGABYTES = 1000


class Hang(BaseException):  # not an Exception: nothing may swallow it
    """A case that took too long."""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with a model "tiny", which loads and runs at once: what is tested here are files."""
    folder = tmp_path_factory.mktemp("models")
    net = IRN(IRNConfig(scale=2, inv_per_ds=1, growth=4))
    save_model(folder, "tiny", net.config, net.state_dict())
    return folder


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path, models) -> Run:
    """The command line in an empty folder, with an alarm."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(models))

    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang

    monkeypatch.chdir(tmp_path)
    run = runner(capfdbinary, monkeypatch)
    Path("warm.png").write_bytes(seeds()["png"])
    run("down", "warm.png", "-m", "tiny", "-o", "warm2.png")  # imports torch, which may take longer than a case
    Path("warm.png").unlink()
    Path("warm2.png").unlink()
    before = signal.signal(signal.SIGALRM, ring)
    yield run
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def attempt(run: Run, data: bytes) -> int:
    """One file through `down`, or `up` where it still has its record. Returns the exit code."""
    Path("case").write_bytes(data)
    output = Path("out.png")
    output.unlink(missing_ok=True)
    signal.alarm(SECONDS)
    with contextlib.suppress(InputError, UsageError):  # whatever size the file claims: the limits are the default ones
        picture = read_picture(data)
        if picture.width * picture.height <= 100_000:
            for format in ("tiff", "jpg"):  # which arrange metadata in ways of their own
                encode_picture(picture, format)
    signal.alarm(SECONDS)
    verb = ["up"] if b"irnscale" in data else ["down", "-m", "tiny"]
    result = run(*verb, "case", "-o", output, "--max-pixels", 100_000)
    signal.alarm(0)
    errors = [line for line in result.lines if not line.startswith("irnscale: warning: case: ")]
    assert result.stdout == b""
    assert result.code in (0, 1, 2, 3, 5), errors
    if result.code:
        assert len(errors) == 1, result.lines
        assert errors[0].startswith("irnscale: error: case: ")
        assert "internal error" not in errors[0]
        assert not output.exists()
    else:
        assert errors == []
        with Image.open(output) as image:
            image.load()
            assert min(image.size) >= 1
    assert sorted(os.listdir()) == (["case", "out.png"] if output.exists() else ["case"])  # noqa: PTH208
    return result.code


def fuzz(run: Run, name: str, count: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        data = damaged(name, number)
        try:
            attempt(run, data)
        except BaseException as error:
            error.add_note(f"case {number} of {name}: {data[:200]!r}")
            raise
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < MEGABYTES


@pytest.mark.parametrize("name", sorted(seeds()))
def test_the_seeds_are_sound(run, name):
    code = attempt(run, seeds()[name])
    many = name in ("gif-animated", "tiff-pages")
    lies = b"irnscale" in seeds()[name]  # its record names weights that do not exist
    assert code == (1 if many else 3 if lies else 0)
    if code == 0:
        assert pixels(Path("out.png")).shape[:2] == (SIDE // 2, SIDE // 2)


@pytest.mark.parametrize("name", sorted(seeds()))
def test_a_few_damaged_files(run, name):
    fuzz(run, name, 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(seeds()))
def test_many_damaged_files(run, name):
    fuzz(run, name, CASES // len(seeds()) + 1)


def test_mutations_differ_and_repeat():
    cases = [damaged("png", number) for number in range(50)]
    assert cases == [damaged("png", number) for number in range(50)]
    assert len(set(cases)) > 45
    assert np.mean([case != seeds()["png"] for case in cases]) > 0.9
