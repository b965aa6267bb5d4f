"""`irnscale check`: what photographs would lose, by the path that `down` and `up` take."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from commandline import Run, decibel, files, picture, pixels, runner, shipped_name, tiny_model
from conftest import synthetic_photo
from test_metrics import luma_of

from irnscale.evaluation.check import Checked
from irnscale.evaluation.contact_sheet import GAP, LABEL, PANEL, Column, difference_map, sheet


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path, tmp_path_factory) -> Run:
    """The command line in an empty folder, with a model "tiny"."""
    models = tmp_path_factory.mktemp("models")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IRNSCALE_MODELS", str(models))
    tiny_model(models)
    return runner(capfdbinary, monkeypatch)


def test_the_scores_are_those_of_down_and_up(run, tmp_path):
    photo = picture(tmp_path / "a.png", 45, 38)
    result = run("check", photo, "-s", 2, "--json")
    assert (result.code, result.lines) == (0, [])
    record = json.loads(result.text)
    assert files(tmp_path) == ["a.png"], "nothing is written unasked"
    run("down", photo, "-s", 2)
    run("up", tmp_path / "a_down2x.png", "--detail", "none")
    one, other = (pixels(tmp_path / name)[2:-2, 2:-2] for name in ("a.png", "a_up2x.png"))
    assert record["psnr_rgb"] == pytest.approx(decibel(one, other))
    run("up", tmp_path / "a_down2x.png", "--overwrite")
    one, other = (luma_of(pixels(tmp_path / name)[2:-2, 2:-2]) for name in ("a.png", "a_up2x.png"))
    assert record["detail_psnr_y"] == pytest.approx(decibel(one, other))
    assert record["detail_psnr_y"] > record["psnr_y"]
    assert record["original_bytes"] == photo.stat().st_size
    assert abs(record["small_bytes"] - (tmp_path / "a_down2x.png").stat().st_size) < 20, "the record's digests differ"
    assert (record["width"], record["height"], record["scale"], record["model"]) == (45, 38, 2, shipped_name(2))
    assert record["psnr_y"] > record["bicubic_psnr_y"] + 3
    assert record["lr_psnr_y"] > 30


def test_the_table(run, tmp_path):
    photos = [picture(tmp_path / "a.png", 40, 30), picture(tmp_path / "b.jpg", 33, 47)]
    (tmp_path / "c.png").write_text("no picture")
    result = run("check", *photos, tmp_path / "c.png", "-m", "tiny")
    assert (result.code, len(result.lines)) == (1, 1)
    assert "c.png" in result.lines[0]
    title, one, other, mean = result.text.splitlines()
    assert title.split()[:4] == ["size", "model", "PSNR-Y", "SSIM-Y"]
    assert (one.split()[1:3], other.split()[1:3]) == (["40x30", "tiny"], ["33x47", "tiny"])
    values = [float(line.split("tiny")[1].split()[0]) for line in (one, other)]
    assert float(mean.removeprefix("mean; bytes in all").split()[0]) == pytest.approx(np.mean(values), abs=0.011)
    recursive = run("check", tmp_path, "-r", "-m", "tiny")
    assert recursive.code == 1
    assert recursive.text.count("tiny") == 2


@pytest.mark.parametrize("mode", ["L", "RGBA", "1x1"])
def test_what_is_no_plain_photograph(run, tmp_path, mode):
    photo = picture(tmp_path / "a.png", *((1, 1) if mode == "1x1" else (40, 36)), "RGB" if mode == "1x1" else mode)
    result = run("check", photo, "-m", "tiny", "--json", "--picture", "sheet.png", "--report", "r.html")
    assert (result.code, result.lines) == (0, [])
    record = json.loads(result.text)
    assert record["psnr_y"] > 15
    assert (record["ssim_y"] is None) == (mode == "1x1"), "too small for its window"


def test_a_lossy_small_picture_costs_and_is_warned_of(run, tmp_path):
    photo = picture(tmp_path / "a.png", 64, 48)
    plain = json.loads(run("check", photo, "-m", "tiny", "--json").text)
    result = run("check", photo, "-m", "tiny", "--json", "-f", "jpg", "-q", 50, "--subsampling", "4:2:0")
    lossy = json.loads(result.text)
    assert len(result.warnings) == 1
    assert lossy["stored"] == "jpg q50"
    assert lossy["psnr_y"] < plain["psnr_y"]
    assert lossy["small_bytes"] < plain["small_bytes"]


def test_pictures(run, tmp_path):
    photo = picture(tmp_path / "a.png", 96, 64)
    assert run("check", photo, "-m", "tiny", "--picture", "sheet.png").code == 0
    shape = pixels(tmp_path / "sheet.png").shape
    assert shape == (LABEL + PANEL * 64 // 96 + GAP + PANEL + GAP, 5 * (PANEL + GAP) + GAP, 3)
    assert run("check", photo, "--picture", "sheet.png").code == 5, "an existing file is not replaced"
    other = picture(tmp_path / "b.png", 20, 20)
    assert run("check", photo, other, "--picture", "sheet.png", "--overwrite").code == 2, "two need a folder"
    (tmp_path / "out").mkdir()
    assert run("check", photo, other, "-m", "tiny", "--picture", "out").code == 0
    assert files(tmp_path / "out") == ["a_check.png", "b_check.png"]
    assert run("check", photo, "--picture", "nowhere/sheet.png").code == 5


def test_a_sheet_shows_the_part_it_frames():
    original = synthetic_photo(40, 60)
    small = original[::2, ::2]
    sheet_pixels = pixels(sheet([Column("one", "", original), Column("two", "", small, 2)], (20, 10, 16), (60, 40)))
    below = LABEL + PANEL * 40 // 60 + GAP
    for column, source in enumerate((original[10:26, 20:36], small[5:13, 10:18])):
        left = GAP + column * (PANEL + GAP)
        shown = sheet_pixels[below : below + PANEL, left : left + PANEL]
        step = PANEL // len(source)
        assert (shown[step // 2 :: step, step // 2 :: step] == source).all(), "each pixel enlarged"
    assert difference_map(original, original, 8).max() == 0
    assert (difference_map(original, original ^ 1, 8) == 8).all()


def test_the_plot_and_the_report(run, tmp_path):
    pytest.importorskip("matplotlib")
    photo = picture(tmp_path / "a.png", 48, 40)
    command = ["check", photo, "-m", "tiny", "--plot", "p.svg", "--report", "r.html"]
    result = run(*command)
    assert result.code == 0, result.lines
    assert result.lines[-1].startswith("At equal bytes, of ")
    svg = (tmp_path / "p.svg").read_bytes()
    for name in (b"tiny, lossless", b"tiny, JPEG", b"JPEG, full size", b"WebP, full size", b"AVIF, full size"):
        assert name in svg
    html = (tmp_path / "r.html").read_text()
    assert escape(result.lines[-1]) in html
    assert run(*command, "--overwrite").code == 0
    assert (tmp_path / "p.svg").read_bytes() == svg, "two runs are equal"
    assert run("check", photo, "--plot", "p.gif").code == 2
    if CHROMIUM is not None:
        with Browser(tmp_path / "profile") as browser:
            browser.open(tmp_path / "r.html")
            assert browser.evaluate("[...document.images].map((i) => i.naturalWidth > 0)") == [True] * 3
            assert browser.messages == []


def test_without_matplotlib(run, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    result = run("check", picture(tmp_path / "a.png"), "--plot", "p.svg")
    assert (result.code, len(result.lines)) == (2, 1)
    assert "irnscale[plots]" in result.lines[0]
    assert not Path("p.svg").exists()


@pytest.mark.parametrize(
    "options", [["-s", 5], ["-s", 2, "-m", "irn-x4"], ["-q", 50], ["-f", "gif"], ["-m", "irn-x2", "--jpeg-resistant"]]
)
def test_wrong_options(run, tmp_path, options):
    result = run("check", picture(tmp_path / "a.png"), *options)
    assert (result.code, len(result.lines)) == (2, 1)


def test_what_was_checked_is_given_by_name():
    with pytest.raises(TypeError, match="positional"):
        Checked("a.png", 64, 48)


@pytest.mark.parametrize("option", ["--picture", "--report", "--plot"])
def test_nothing_is_written_over_a_photograph(run, tmp_path, option):
    photo = picture(tmp_path / "a.png").rename(tmp_path / "a.svg")
    before = photo.read_bytes()
    result = run("check", photo, "-m", "tiny", option, tmp_path / "." / "a.svg", "--overwrite")
    assert result.code == 5
    assert "would replace the input" in result.lines[0]
    assert photo.read_bytes() == before


def test_two_outputs_have_two_places(run, tmp_path):
    result = run("check", picture(tmp_path / "a.png"), "-m", "tiny", "--picture", "x.png", "--report", "./x.png")
    assert (result.code, "two outputs would be written there" in result.lines[0]) == (5, True)
    assert not (tmp_path / "x.png").exists()


def test_two_sheets_of_one_name_are_refused_before_any_work(run, tmp_path):
    (tmp_path / "out").mkdir()
    photos = [picture(tmp_path / "a.png"), picture(tmp_path / "a.jpg")]
    result = run("check", *photos, "-m", "tiny", "--picture", "out", "--overwrite")
    assert result.code == 2
    assert "would both be written there" in result.lines[0]
    assert not list((tmp_path / "out").iterdir())
