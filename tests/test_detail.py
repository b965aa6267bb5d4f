"""Pictures that carry detail, through the command line."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pytest
from commandline import Run, decibel, picture, pixels, runner
from conftest import synthetic_photo
from PIL import Image, PngImagePlugin

from irnscale.detail import codec
from irnscale.detail.finding import layers_of
from irnscale.images.provenance import read_provenance
from irnscale.images.read import read_picture


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(capfdbinary, monkeypatch)


def _luma_gain(run: Run, tmp_path, *options: object) -> tuple[float, float]:
    """dB of a photograph's round trip with the detail and without it."""
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2, "-o", "s.png", *options).code == 0
    assert run("up", "s.png", "-o", "with.png").code == 0
    assert run("up", "s.png", "-o", "without.png", "--detail", "none").code == 0
    return tuple(decibel(pixels(source), pixels(tmp_path / name)) for name in ("with.png", "without.png"))


def test_detail_is_the_default_and_brings_decibels(run, tmp_path):
    with_it, without = _luma_gain(run, tmp_path)
    assert with_it > without + 0.5
    record = read_provenance(tmp_path / "s.png")
    assert record.detail["bits"] == 1
    assert "detail: " in run("info", "s.png").text
    assert run("up", "s.png", "-o", "again.png").lines == []


def test_detail_none_is_the_file_of_before(run, tmp_path):
    source = picture(tmp_path / "p.png", 30, 20)
    assert run("down", source, "-s", 2, "-o", "s.png", "--detail", "none").code == 0
    with Image.open(tmp_path / "s.png") as image:
        image.load()
        assert "detail" not in json.loads(image.text["irnscale"])


def test_pixels_alone_are_enough(run, tmp_path):
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2).code == 0
    with Image.open(tmp_path / "p_down2x.png") as image:
        Image.fromarray(np.asarray(image)).save(tmp_path / "bare.png")
        Image.fromarray(np.asarray(image)).save(tmp_path / "bare.webp", lossless=True)
        Image.fromarray(np.asarray(image)).save(tmp_path / "bare.tiff")
    assert run("up", "p_down2x.png", "-o", "whole.png").code == 0
    for name in ("bare.png", "bare.webp", "bare.tiff"):
        result = run("up", name, "-o", "back.png", "--overwrite")
        assert (result.code, result.lines) == (0, [])
        assert np.array_equal(pixels(tmp_path / "back.png"), pixels(tmp_path / "whole.png"))


@pytest.mark.parametrize("options", [["--detail", "none"], ["--temperature", "0.01"]])
def test_without_detail_the_digits_are_no_noise(run, tmp_path, options):
    """What the network makes of the samples without their digits is nearer than what it makes of all of them."""
    source = picture(tmp_path / "p.png", 90, 72)
    assert run("down", source, "-s", 4, "--detail", 3).code == 0
    assert run("up", "p_down4x.png", "-o", "alone.png", *options).code == 0
    ignored = ["--ignore-provenance", "-s", 4, "--size", "90x72"] + options * (options[0] == "--temperature")
    assert run("up", "p_down4x.png", "-o", "noisy.png", *ignored).code == 0
    truth, alone, noisy = (pixels(tmp_path / name) for name in ("p.png", "alone.png", "noisy.png"))
    assert decibel(truth, alone) > decibel(truth, noisy)


def test_detail_has_columns_of_its_own(run, tmp_path):
    (tmp_path / "set").mkdir()
    picture(tmp_path / "set/p.png", 48, 40)
    common = ["evaluate", "--data", "set", "-m", "irn-x2", "-s", 2, "--no-baselines", "--no-cache", "--json"]
    result = run(*common, "--detail", "1,exact", "--attach", "40", "--jpeg", "60")
    assert (result.code, result.lines) == (0, [])
    found = {row["codec"]: row for row in map(json.loads, result.text.splitlines())}
    assert set(found) == {
        "png", "jpg q60 4:2:0", "png, 1 bit", "png, 1 bit + exact", "jpg q60 4:2:0, attached q40"
    }  # fmt: skip
    assert found["png"]["detail_psnr_y"] is None
    assert found["png, 1 bit"]["detail_psnr_y"] > found["png"]["psnr_y"] > found["png, 1 bit"]["psnr_y"]
    assert found["png, 1 bit + exact"]["detail_psnr_y"] == 100
    lossy = found["jpg q60 4:2:0, attached q40"]
    assert lossy["psnr_y"] == found["jpg q60 4:2:0"]["psnr_y"] < lossy["detail_psnr_y"]
    run("down", "set/p.png", "-s", 2, "-o", "small.png")
    assert abs(found["png, 1 bit"]["bytes"] - (tmp_path / "small.png").stat().st_size) < 20, "the digests differ"
    for bad in (["--detail", "4"], ["--attach", "lots"]):
        assert run(*common, *bad).code == 2


@pytest.mark.parametrize("scale", [2, 4])
def test_another_precision_reads_it_as_well(run, tmp_path, scale):
    """The base need not be the same to the bit: a file costs under 0.05 dB in the precision that it was not made in."""
    with Image.open(resources.files("irnscale") / "assets/astronaut.png") as image:
        image.crop((140, 60, 300, 220)).save(tmp_path / "p.png")
    for made in ("float32", "bfloat16"):
        assert run("down", "p.png", "-s", scale, "-o", "s.png", "--overwrite", "--precision", made).code == 0
        scores = {}
        for read in ("float32", "bfloat16"):
            assert run("up", "s.png", "-o", "back.png", "--overwrite", "--precision", read).code == 0
            scores[read] = decibel(pixels(tmp_path / "p.png"), pixels(tmp_path / "back.png"))
        assert min(scores.values()) > scores[made] - 0.05


def test_an_edited_picture_does_not_bring_the_old_detail_back(run, tmp_path):
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2).code == 0
    with Image.open(tmp_path / "p_down2x.png") as image:
        image.load()
        text = PngImagePlugin.PngInfo()
        text.add_itxt("irnscale", image.text["irnscale"])
        edited = image.copy()
        edited.paste((90, 90, 90), (5, 5, 20, 15))
        edited.save(tmp_path / "e.png", pnginfo=text)
    result = run("up", "e.png", "-o", "back.png")
    assert result.code == 0
    assert any("without" in line or "alone" in line for line in result.warnings)
    gray = pixels(tmp_path / "back.png")[14:26, 14:36].astype(int)
    assert np.abs(gray - 90).max() < 40


@pytest.mark.parametrize("options", [["--detail", "2"], ["--detail", "none", "--attach", "60"]])
def test_what_was_made_transparent_does_not_bring_the_old_detail_back(run, tmp_path, options):
    """Though the colours beneath are the same: that is what an eraser does."""
    colour = synthetic_photo(47, 61)
    alpha = np.full((47, 61, 1), 255, np.uint8)
    alpha[:3, :3] = 100
    Image.fromarray(np.concatenate([colour, alpha], axis=2)).save(tmp_path / "p.png")
    assert run("down", "p.png", "-s", 2, "-o", "s.png", *options).code == 0
    assert run("up", "s.png", "-o", "whole.png").lines == []
    data = (tmp_path / "s.png").read_bytes()
    picture_ = read_picture(data)
    assert picture_.alpha is not None
    picture_.alpha[8:16, 8:20] = 0
    found = layers_of(picture_, picture_.record)
    assert not any(layer.payloads for layer in found)


def test_an_alpha_that_becomes_opaque_is_no_change(run, tmp_path):
    """One pixel in a hundred times as many: the small picture hides nothing, and its reader sees no alpha."""
    pixels_ = np.concatenate([synthetic_photo(40, 44), np.full((40, 44, 1), 255, np.uint8)], axis=2)
    pixels_[20, 20, 3] = 254
    Image.fromarray(pixels_).save(tmp_path / "p.png")
    assert run("down", "p.png", "-s", 4, "-o", "s.png").code == 0
    assert run("up", "s.png", "-o", "back.png").lines == []


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_gray_and_alpha_carry_detail(run, tmp_path, mode):
    rgb = synthetic_photo(47, 61)
    image = Image.fromarray(rgb).convert(mode)
    if mode != "L":
        image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 61).astype(np.uint8), (47, 1))))
    image.save(tmp_path / "p.png")
    assert run("down", "p.png", "-s", 2, "-o", "s.png").code == 0
    assert read_provenance(tmp_path / "s.png").detail is not None
    assert run("up", "s.png", "-o", "with.png").lines == []
    assert run("up", "s.png", "-o", "without.png", "--detail", "none").code == 0
    visible = np.asarray(image.getchannel("A")) > 0 if mode != "L" else np.ones((47, 61), bool)
    original = np.asarray(image.convert("RGB")).astype(float)
    errors = []
    for name in ("with.png", "without.png"):
        with Image.open(tmp_path / name) as back:
            assert back.mode == mode
            errors.append(np.square(np.asarray(back.convert("RGB")) - original)[visible].mean())
    assert errors[0] < 0.9 * errors[1]


def test_strip_removes_what_is_hidden(run, tmp_path):
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2, "-o", "s.png").code == 0
    assert run("strip", "s.png").code == 0
    small, clean = pixels(tmp_path / "s.png"), pixels(tmp_path / "s_stripped.png")
    assert set(np.unique(clean & 1)) == {1}
    assert np.array_equal(small >> 1, clean >> 1)
    assert read_provenance(tmp_path / "s_stripped.png").detail is None
    assert run("up", "s_stripped.png", "-o", "back.png").lines == []
    again = run("strip", "s_stripped.png", "-o", "twice.png")
    assert (again.code, len(again.lines)) == (0, 1)
    assert run("strip", "missing.png").code == 1
    assert run("strip", "s.png").code == 5


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--detail", "2", "-f", "jpg"), 2),
        (("--attach", "0.5"), 2),
        (("--attach", "200"), 2),
        (("--attach", "much"), 2),
        (("--detail", "4"), 2),
    ],
)
def test_what_cannot_be_is_refused(run, tmp_path, options, code):
    picture(tmp_path / "p.png", 20, 20)
    result = run("down", "p.png", "-s", 2, *options)
    assert result.code == code
    assert not list(tmp_path.glob("p_down*"))


def test_a_pillow_without_the_codec(run, tmp_path, monkeypatch):
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2, "-o", "s.png").code == 0
    monkeypatch.setattr(codec, "has", lambda kind: False)
    result = run("up", "s.png", "-o", "b.png")
    assert result.code == 1
    assert "--detail none" in result.lines[-1]
    assert run("up", "s.png", "-o", "b.png", "--detail", "none").code == 0
    monkeypatch.setattr(codec, "available", lambda: codec.WEBP)
    monkeypatch.undo()


def test_webp_serves_where_there_is_no_avif(run, tmp_path, monkeypatch):
    monkeypatch.setattr(codec, "available", lambda: codec.WEBP)
    with_it, without = _luma_gain(run, tmp_path, "--detail", "2")
    assert read_provenance(tmp_path / "s.png").detail["codec"] == "WebP"
    assert with_it > without


@pytest.mark.parametrize(
    ("mode", "options"),
    [("L", []), ("L", ["--detail", "none"]), ("LA", []), ("L", ["--detail", "exact"]), ("L", ["--attach", "50"])],
)
def test_gray_in_colour(run, tmp_path, mode, options):
    """Three channels hide more than one, and gray comes out."""
    with Image.open(resources.files("irnscale") / "assets/astronaut.png") as image:
        gray = image.crop((180, 100, 276, 180)).convert(mode)
    if mode == "LA":
        gray.putalpha(Image.linear_gradient("L").resize(gray.size))
    gray.save(tmp_path / "p.png")
    scores = []
    for how in ("keep", "color"):
        result = run("down", "p.png", "-s", 2, "-o", "s.png", "--overwrite", "--gray", how, *options)
        assert (result.code, len(result.lines)) == (0, how == "keep" and "exact" not in options)
        with Image.open(tmp_path / "s.png") as small:
            assert small.mode == (mode if how == "keep" else "RGB" + mode[1:])
        result = run("up", "s.png", "-o", "back.png", "--overwrite")
        assert (result.code, result.lines) == (0, [])
        with Image.open(tmp_path / "back.png") as back:
            assert (back.mode, back.size) == (mode, gray.size)
            error = (np.asarray(back, float) - np.asarray(gray, float)) ** 2
            scores.append(10 * np.log10(255**2 / max(1e-9, error.mean())))
    assert scores[1] > scores[0] + 2 or options == ["--detail", "exact"]
    if "exact" in options:
        assert min(scores) > 99


def test_what_is_said_of_a_layer_without_a_lossy_part(run, tmp_path):
    picture(tmp_path / "p.png", 3, 3)
    result = run("down", "p.png", "-s", 16, "-o", "s.png", "--detail", "exact", "-v")
    assert read_provenance(tmp_path / "s.png").detail["codec"] == "none"
    for text in (*result.lines, run("info", "s.png").text):
        assert "none" not in text
        assert "dB" not in text
    assert "all lossless" in run("info", "s.png").text
