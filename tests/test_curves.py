"""Quality over bytes: codecs, curves, and the page that is made of them."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import torch
from commandline import Run, picture, runner, tiny_model
from conftest import synthetic_photo

from irnscale import load
from irnscale.errors import UsageError
from irnscale.evaluation.cache import Cache
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.curves import (
    Curve,
    Point,
    as_markdown,
    comparison,
    detailed_methods,
    exact_rates,
    exact_table,
    measured_curves,
    verdict,
)
from irnscale.evaluation.loop import evaluate, evaluate_files
from irnscale.evaluation.methods import baselines, full_size, model_method

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    tiny_model(tmp_path / "models")
    return runner(capfdbinary, monkeypatch)


@pytest.fixture
def photos(tmp_path) -> Path:
    """A set of two."""
    (tmp_path / "set").mkdir()
    for n in range(2):
        picture(tmp_path / "set" / f"{n}.png", 64 + 4 * n, 48)
    return tmp_path / "set"


@pytest.mark.parametrize("format", ["jpg", "webp", "avif"])
def test_codecs_lose_less_at_more_bytes(format):
    image = torch.from_numpy(synthetic_photo(48, 64)).permute(2, 0, 1)[None].float() / 255
    errors, sizes = [], []
    for quality in (10, 50, 95):
        pixels, size = Codec(quality, format=format).store(image)
        errors.append(float((pixels - image).square().mean()))
        sizes.append(size)
    assert errors == sorted(errors, reverse=True)
    assert sizes == sorted(sizes)
    assert errors[-1] > 0


def test_names_and_what_makes_no_sense():
    image = torch.from_numpy(synthetic_photo(16, 16)).permute(2, 0, 1)[None].float() / 255
    for codec in (Codec(), Codec(format="webp")):
        assert codec.lossless
        assert torch.equal(codec.store(image)[0], image)
    names = [Codec().name, Codec(9).name, Codec(9, format="webp").name, Codec(format="webp").name]
    assert names == ["png", "jpg q9 4:2:0", "webp q9", "webp lossless"]
    for bad in ({"format": "jpg"}, {"format": "png", "quality": 9}, {"format": "gif"}, {"quality": 0}):
        with pytest.raises(UsageError):
            Codec(**bad)


def test_a_lossless_codec_is_not_restored_again(photos):
    bicubic, calls = baselines(2)[0], []

    def restore(x, draw):
        calls.append(draw)
        return bicubic.restore(x, draw)

    method = type(bicubic)("counted", 2, "c", bicubic.shrink, restore)
    png, webp = evaluate(photos, [method], [Codec(), Codec(format="webp")], cache=Cache(None))
    assert webp.mean["psnr_y"] == png.mean["psnr_y"]
    assert webp.mean["bytes"] != png.mean["bytes"]
    assert webp.mean["bpp"] / png.mean["bpp"] == pytest.approx(webp.mean["bytes"] / png.mean["bytes"], rel=0.05)
    assert len(calls) <= 4


def curve(name: str, *points: tuple[float, float], small: bool = False) -> Curve:
    found = tuple(Point(f"q{n}", bpp, psnr, 0.5) for n, (bpp, psnr) in enumerate(points))
    return Curve(name, found, small, model=small)


def test_equal_bytes_by_hand():
    plain = curve("JPEG, full size", (0.1, 30), (1, 40), (4, 50))
    assert plain.at(math.sqrt(0.1)) == pytest.approx(35), "half way in the logarithm"
    assert plain.at(2) == pytest.approx(45)
    assert plain.at(4) == 50
    assert math.isnan(plain.at(0.05)), "below the curve nothing is known"
    assert plain.shown(5) == "≥ 50.00", "above it, at least what fewer bytes reach"
    small = curve("m, lossless", (0.05, 29), (2, 44), (4, 51), (5, 49), small=True)
    rows = comparison([small, plain])
    assert [row[1].bpp for row in rows] == [0.05, 2, 4, 5]
    text = as_markdown([small, plain])
    assert "| m, q0 | 0.050 | **29.00** | - |" in text
    assert "| m, q1 | 2.000 | 44.00 | **45.00** |" in text
    assert "| m, q2 | 4.000 | **51.00** | 50.00 |" in text
    assert "| m, q3 | 5.000 | 49.00 | **≥ 50.00** |" in text
    assert "of 3 settings of the models' small pictures: JPEG, full size is ahead at 2 of the 3 that" in verdict(
        [small, plain]
    )
    assert "No codec" in verdict([curve("m", (0.01, 20), small=True), plain])


def test_measured_curves(photos):
    curves = measured_curves("set", sorted(photos.iterdir()), baselines(2)[:1], qualities=(20, 80), cache=Cache(None))
    names = [c.name for c in curves]
    assert names == ["bicubic, lossless", "bicubic, JPEG", "JPEG, full size", "WebP, full size", "AVIF, full size"]
    assert [c.small for c in curves] == [True, True, False, False, False]
    for c in curves:
        rates = [p.bpp for p in c.points]
        assert rates == sorted(rates)
    for c in curves[1:]:
        assert c.points[-1].psnr_y > c.points[0].psnr_y


def test_detail_has_curves_of_its_own(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    tiny_model(tmp_path / "models")
    rescaler = load("tiny", device="cpu")
    detailed = detailed_methods(rescaler, "4:2:0")
    options = {"qualities": (), "formats": ("webp",), "cache": Cache(None)}
    paths = sorted(photos.iterdir())
    plain, pixels, webp = measured_curves("set", paths, [model_method(rescaler)], detailed=detailed, **options)
    assert (pixels.name, pixels.small, pixels.model, pixels.detail) == ("tiny, detail in the pixels", True, True, True)
    assert [p.setting for p in pixels.points] == ["webp, 1 bit", "webp, 2 bits", "webp, 3 bits"]
    assert pixels.points[-1].psnr_y > plain.points[0].psnr_y + 1, "scores are those with the detail"
    said = verdict([plain, pixels, webp])
    assert "settings of the models' small pictures: WebP" in said
    assert "settings of the models' small pictures that carry detail: WebP" in said
    rates = exact_rates("set", paths, [rescaler], cache=Cache(None))
    assert {what for what, _ in rates} == {"png, full size", "webp, full size", "tiny, webp, exact"}
    assert [bpp for _, bpp in rates] == sorted(bpp for _, bpp in rates)
    assert f"| tiny, webp, exact | {dict(rates)['tiny, webp, exact']:.3f} |" in exact_table(rates)
    row = evaluate_files("set", paths, [full_size()], [Codec()], cache=Cache(None))[0].mean
    assert dict(rates)["png, full size"] == pytest.approx(row["bpp"])


def test_a_jpeg_resistant_model_has_detail_attached(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    tiny_model(tmp_path / "models", jpeg_resistant=True)
    rescaler = load("tiny", device="cpu")
    ((title, methods),) = detailed_methods(rescaler, "4:2:0").items()
    assert title == "tiny, JPEG + detail attached"
    options = {"qualities": (), "formats": (), "cache": Cache(None)}
    _, attached = measured_curves(
        "set", sorted(photos.iterdir()), [model_method(rescaler)], detailed={title: methods[::2]}, **options
    )
    assert [p.setting for p in attached.points] == [f"jpg q50 4:2:0, attached q{q}" for q in (10, 40, 70)]
    assert [p.psnr_y for p in attached.points] == sorted(p.psnr_y for p in attached.points)
    assert exact_rates("set", sorted(photos.iterdir()), [rescaler], cache=Cache(None))[0][0].endswith("full size")


def test_the_page(run, photos, tmp_path):
    pytest.importorskip("matplotlib")
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- curves: begin -->\n<!-- curves: end -->\nafter\n")
    command = ["evaluate", "--data", photos, "-m", "tiny", "--jpeg", "50", "--no-cache", "--rate-distortion", page]
    result = run(*command)
    assert result.code == 0, result.lines
    text = page.read_text()
    assert "![set, 2 photographs](page.svg)" in text
    assert "| tiny, jpg q50 4:2:0 |" in text
    assert "| tiny, webp, 2 bits |" in text
    assert "| tiny, webp, exact |" in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    rows = list(csv.DictReader((tmp_path / "page.csv").read_text().splitlines()))
    assert {row["curve"] for row in rows} >= {"tiny, lossless", "tiny, JPEG", "AVIF, full size"}
    svg = (tmp_path / "page.svg").read_bytes()
    assert run(*command).code == 0
    assert (page.read_text(), (tmp_path / "page.svg").read_bytes()) == (text, svg), "two runs are equal"


def test_a_page_is_begun_where_there_is_none(run, photos, tmp_path):
    pytest.importorskip("matplotlib")
    (photos / "broken.png").write_bytes(b"junk")
    page = tmp_path / "new.md"
    command = ["evaluate", "--data", photos, "-m", "tiny", "--jpeg", "50", "--no-cache", "--rate-distortion"]
    (tmp_path / "new.csv").write_text("mine\n")
    result = run(*command, page)
    assert (result.code, len(result.lines)) == (5, 1)
    assert "new.csv: already exists" in result.lines[0]
    assert (tmp_path / "new.csv").read_text() == "mine\n"
    result = run(*command, page, "--overwrite")
    assert result.code == 1
    assert sum("broken.png" in line for line in result.lines) == 1, "said once, though each curve goes over the set"
    assert "| tiny, jpg q50 4:2:0 |" in page.read_text()
    assert (tmp_path / "new.svg").is_file()


def test_what_cannot_be_written_is_said_before_the_work(run, photos, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")

    def never(*args, **options):
        raise AssertionError("hours of work")

    monkeypatch.setattr("irnscale.evaluation.curves.measured_curves", never)
    monkeypatch.setattr("irnscale.evaluation.loop.evaluate", never)
    (tmp_path / "plain.md").write_text("no block\n")
    (tmp_path / "file").write_text("")
    (tmp_path / "taken.csv").write_text("mine\n")
    tries = [
        ("--rate-distortion", "plain.md", 2, "there are no lines"),
        ("--rate-distortion", "nowhere/page.md", 5, "its folder does not exist"),
        ("--rate-distortion", "page.svg", 2, "name it .md"),
        ("--rate-distortion", ".", 1, "cannot be read"),
        ("--readme", "plain.md", 2, "there are no lines"),
        ("--readme", "absent.md", 1, "absent.md: cannot be read: No such file"),
        ("--csv", "taken.csv", 5, "already exists"),
        ("--csv", "file/x.csv", 5, "no folder"),
        ("--report", "nowhere/x.html", 5, "its folder does not exist"),
    ]
    for option, name, code, said in tries:
        result = run("evaluate", "--data", photos, "-m", "tiny", option, tmp_path / name)
        assert (result.code, len(result.lines)) == (code, 1), (option, name, result.lines)
        assert said in result.lines[0]
    assert (tmp_path / "taken.csv").read_text() == "mine\n"
    assert not list(tmp_path.glob(".irnscale-*"))


def test_the_page_in_the_repository_is_complete():
    text = (ROOT / "docs" / "rate-distortion.md").read_text()
    assert (ROOT / "docs" / "rate-distortion.svg").is_file()
    rows = list(csv.DictReader((ROOT / "docs" / "rate-distortion.csv").read_text().splitlines()))
    for row in rows:
        if row["curve"].startswith("irn"):
            assert f"{row['curve'].split(',')[0]}, {row['setting']} | {float(row['bpp']):.3f} |" in text
