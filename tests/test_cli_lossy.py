"""Small images in lossy formats: which model is taken, what is said, and what it gains."""

from __future__ import annotations

import json

import numpy as np
import pytest
from commandline import Run, astronaut, decibel, picture, pixels, resave, runner, shipped_name
from PIL import Image

LOSSY = [("jpg", ()), ("avif", ()), ("webp", ("-q", "90"))]


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line, with no imported models."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    return runner(capfdbinary, monkeypatch)


def model_of(run: Run, file: object) -> str:
    return json.loads(run("info", "--json", file).text)["provenance"]["model"]


@pytest.mark.parametrize(("suffix", "options"), LOSSY)
def test_a_lossy_format_takes_the_model_that_survives_it(run, tmp_path, suffix, options):
    photos = [picture(tmp_path / "a.png"), picture(tmp_path / "b.png")]
    result = run("down", *photos, "-f", suffix, *options)
    assert (result.code, len(result.lines)) == (0, 1), "said once, for all inputs"
    assert f"{suffix} is lossy: {shipped_name(4, jpeg_resistant=True)}" in result.lines[0]
    assert "--no-jpeg-resistant" in result.lines[0]
    assert model_of(run, tmp_path / f"a_down4x.{suffix}") == shipped_name(4, jpeg_resistant=True)
    result = run("up", tmp_path / f"a_down4x.{suffix}")
    assert (result.code, result.lines) == (0, [])
    assert pixels(tmp_path / "a_up4x.png").shape == (14, 21, 3)


@pytest.mark.parametrize(
    ("options", "model"),
    [
        (("-o", "s.jpg", "-s", "2"), shipped_name(2, jpeg_resistant=True)),
        (("-o", "s.jpg", "-s", "8"), shipped_name(8, jpeg_resistant=True)),
        (("-o", "s.jpg", "--jpeg-resistant"), shipped_name(4, jpeg_resistant=True)),
        (("-o", "s.jpg", "-m", "irn-jpeg-x2"), "irn-jpeg-x2"),
        (("-o", "s.png", "--jpeg-resistant", "-s", "2"), shipped_name(2, jpeg_resistant=True)),
        (("-o", "s.webp"), shipped_name(4)),
        (("-o", "s.png"), shipped_name(4)),
    ],
)
def test_which_model_is_taken(run, tmp_path, monkeypatch, options, model):
    monkeypatch.chdir(tmp_path)
    result = run("down", picture(tmp_path / "a.png"), *options)
    assert result.code == 0
    assert model_of(run, options[1]) == model
    chosen_here = options[1] == "s.jpg" and not {"-m", "--jpeg-resistant"} & set(options)
    assert len(result.lines) == chosen_here, "who asks for it by name is told nothing"


@pytest.mark.parametrize(("suffix", "options"), LOSSY)
@pytest.mark.parametrize("declined", [("--no-jpeg-resistant",), ("-m", "irn-x4")])
def test_a_plain_model_in_a_lossy_format_warns(run, tmp_path, suffix, options, declined):
    photos = [picture(tmp_path / "a.png"), picture(tmp_path / "b.png")]
    result = run("down", *photos, "-f", suffix, *options, *declined)
    assert (result.code, len(result.warnings), len(result.lines)) == (0, 1, 1)
    assert "lossy" in result.lines[0]
    assert model_of(run, tmp_path / f"a_down4x.{suffix}") == (declined[1] if "-m" in declined else shipped_name(4))
    result = run("up", tmp_path / f"a_down4x.{suffix}")
    assert (result.code, len(result.warnings), len(result.lines)) == (0, 1, 1)


def test_a_scale_without_such_a_model_warns(run, tmp_path, monkeypatch):
    monkeypatch.setattr("irnscale.zoo.store.models", _plain_only)
    result = run("down", picture(tmp_path / "a.png"), "-f", "jpg")
    assert (result.code, len(result.warnings)) == (0, 1)
    assert run("down", picture(tmp_path / "b.png"), "-f", "jpg", "--jpeg-resistant").code == 3


def _plain_only(broken=None):
    from irnscale.zoo import models

    return [m for m in models({} if broken is None else broken) if not m.card.jpeg_resistant]


def test_without_a_record_the_format_decides(run, tmp_path):
    run("down", picture(tmp_path / "a.png", 64, 48), "-f", "jpg")
    bare = resave(tmp_path / "a_down4x.jpg", tmp_path / "bare.jpg", lambda image: image, record=False)
    for options, model in (
        ((), shipped_name(4, jpeg_resistant=True)),
        (("--no-jpeg-resistant",), shipped_name(4)),
        (("-m", "irn-x4"), "irn-x4"),
    ):
        result = run("up", bare, "-s", "4", "--overwrite", *options)
        assert (result.code, len(result.warnings)) == (0, 1)
        assert model_of(run, tmp_path / "bare_up4x.png") == model
    png = resave(tmp_path / "a_down4x.jpg", tmp_path / "bare.png", lambda image: image, record=False)
    assert run("up", png, "-s", "4", "-o", tmp_path / "c.png").code == 0
    assert model_of(run, tmp_path / "c.png") == "sr-x4"
    result = run("up", tmp_path / "a_down4x.jpg", "--no-jpeg-resistant", "--overwrite")
    assert result.code == 2
    assert f"a JPEG-resistant model ({shipped_name(4, jpeg_resistant=True)})" in result.lines[0]


@pytest.mark.parametrize(("scale", "gain"), [(2, 0.5), (4, 0.5)])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_through_jpeg_the_resistant_model_restores_better(run, tmp_path, scale, gain, subsampling):
    astronaut().save(tmp_path / "a.png")
    original = pixels(tmp_path / "a.png")
    scores = {}
    for option in ("--jpeg-resistant", "--no-jpeg-resistant"):
        stored = ("-o", tmp_path / "s.jpg", "-q", "90", "--subsampling", subsampling, "--overwrite")
        assert run("down", tmp_path / "a.png", "-s", scale, option, *stored).code == 0
        assert run("up", tmp_path / "s.jpg", option, "-o", tmp_path / "b.png", "--overwrite").code == 0
        scores[option] = decibel(pixels(tmp_path / "b.png"), original)
    width, height = 128, 96
    with Image.open(tmp_path / "a.png") as image:
        small = image.resize((width // scale, height // scale), Image.Resampling.BICUBIC)
        bicubic = decibel(np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)), original)
    assert scores["--jpeg-resistant"] > scores["--no-jpeg-resistant"] + gain
    assert scores["--jpeg-resistant"] > bicubic


def test_check_takes_the_same_model(run, tmp_path):
    photo = picture(tmp_path / "a.png", 64, 48)
    result = run("check", photo, "-f", "jpg", "--json")
    assert (result.code, len(result.lines)) == (0, 1)
    assert shipped_name(4, jpeg_resistant=True) in result.lines[0]
    assert json.loads(result.text)["model"] == shipped_name(4, jpeg_resistant=True)
    result = run("check", photo, "-f", "jpg", "--json", "--no-jpeg-resistant")
    assert (result.code, len(result.warnings)) == (0, 1)
    assert json.loads(result.text)["model"] == shipped_name(4)
