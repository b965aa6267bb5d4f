"""Real kinds of files through both directions: colour, transparency, metadata, records and encoder options."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from commandline import Run, picture, pixels, runner
from conftest import synthetic_photo
from PIL import Image, ImageCms, JpegImagePlugin, features

from irnscale.cli.console import EPILOG
from irnscale.errors import ExitCode
from irnscale.images.provenance import read_provenance

README = Path(__file__).parent.parent / "README.md"


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return runner(capfdbinary, monkeypatch)


def disc(hidden: tuple[int, int, int], side: int = 96) -> Image.Image:
    """An orange disc with a hard edge; `hidden` is the colour under the transparent rest."""
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    visible = x**2 + y**2 < (0.37 * side) ** 2
    colour = np.where(visible[..., None], (230, 120, 30), hidden).astype(np.uint8)
    return Image.fromarray(np.dstack([colour, 255 * visible.astype(np.uint8)]))


def test_no_fringe_at_a_hard_edge(run, tmp_path):
    found = {}
    for name, hidden in (("green", (0, 255, 0)), ("black", (0, 0, 0)), ("orange", (230, 120, 30))):
        disc(hidden).save(tmp_path / f"{name}.png")
        assert run("down", f"{name}.png", "-s", 4).code == 0
        assert run("up", f"{name}_down4x.png").code == 0
        found[name] = pixels(tmp_path / f"{name}_up4x.png")
    for name in ("green", "black"):
        np.testing.assert_array_equal(found[name], found["orange"], "what is hidden must not show")
    original, restored = pixels(tmp_path / "green.png"), found["green"]
    both = (original[..., 3] == 255) & (restored[..., 3] > 0)
    error = restored[..., :3].astype(int) - original[..., :3]
    assert np.abs(error[both]).max() <= 8, "the colour is the disc's up to its very edge"
    small = pixels(tmp_path / "green_down4x.png")
    shown = small[..., 3] > 0
    assert np.abs(small[shown][:, :3].astype(int) - (230, 120, 30)).max() <= 8
    inside = original[..., 3] == 255
    assert (restored[..., 3] > 127)[inside].mean() > 0.97
    assert (restored[..., 3] > 127)[~inside].mean() < 0.03


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "avif"])
def test_the_colour_profile_goes_along(run, tmp_path, suffix):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    wide = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    wide[-1] ^= 1  # a profile like no other
    picture(tmp_path / f"a.{suffix}", icc_profile=bytes(wide))
    assert run("down", f"a.{suffix}", "-s", 2, "-o", f"s.{suffix}").code == 0
    assert run("up", f"s.{suffix}", "-o", f"b.{suffix}").code == 0
    for name in ("s", "b"):
        with Image.open(tmp_path / f"{name}.{suffix}") as image:
            assert image.info["icc_profile"] == bytes(wide)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "tiff", "avif"])
def test_the_record_survives_a_rewrite_that_keeps_xmp(run, tmp_path, suffix):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    picture(tmp_path / "a.png")
    assert run("down", "a.png", "-s", 2, "--no-jpeg-resistant", "-o", f"s.{suffix}").code == 0
    with Image.open(tmp_path / f"s.{suffix}") as image:
        packet = image.info["xmp"]
        lossless = {"webp": {"lossless": True}, "jpg": {"quality": "keep"}}.get(suffix, {})
        image.save(tmp_path / f"again.{suffix}", xmp=packet, **lossless)
        image.convert("RGB").save(tmp_path / "again.webp", xmp=packet, lossless=True)
    for name in (f"again.{suffix}", "again.webp"):
        assert read_provenance(tmp_path / name) == read_provenance(tmp_path / f"s.{suffix}")
        result = run("up", name, "-o", "b.png", "--overwrite")
        assert result.code == 0
        assert pixels(tmp_path / "b.png").shape == (14, 21, 3)
        recompressed = suffix in ("jpg", "avif") and name == "again.webp"
        assert any("edited or recompressed" in line for line in result.lines) == recompressed


def test_quality_and_subsampling_are_honoured(run, tmp_path):
    picture(tmp_path / "a.png", 96, 96)
    sizes = []
    for number, quality in enumerate((30, 60, 95)):
        assert run("down", "a.png", "-s", 2, "-o", f"{number}.jpg", "-q", quality).code == 0
        sizes.append((tmp_path / f"{number}.jpg").stat().st_size)
    assert sizes == sorted(set(sizes))
    for option, expected in ((None, 0), ("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)):
        chosen = ["--subsampling", option] if option else []
        assert run("down", "a.png", "-s", 2, "-o", "s.jpg", "--overwrite", *chosen).code == 0
        with Image.open(tmp_path / "s.jpg") as image:
            assert JpegImagePlugin.get_sampling(image) == expected


@pytest.mark.parametrize(("suffix", "name"), [("jpg", "photo.png"), ("png", "photo.jpg"), ("webp", "photo")])
def test_formats_are_told_by_content(run, tmp_path, suffix, name):
    picture(tmp_path / f"true.{suffix}").rename(tmp_path / name)
    assert run("down", name, "-s", 2, "-o", "s.png").code == 0
    assert read_provenance(tmp_path / "s.png").original_format == suffix


@pytest.mark.parametrize("format", ["GIF", "BMP", "TIFF", "JPEG2000", "PPM", "TGA", "AVIF", "MPO"])
def test_formats_that_are_only_read(run, tmp_path, format):
    Image.init()
    if format not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {format}")
    image = Image.fromarray(synthetic_photo(20, 30))
    image.save(tmp_path / "a", format, **({"save_all": True, "append_images": [image]} if format == "MPO" else {}))
    result = run("down", "a", "-s", 2, "-o", "s.png")
    assert result.code == 0
    assert bool(result.lines) == (format == "MPO"), "a second picture is dropped, and told"
    assert run("up", "s.png", "-o", "b.png").code == 0
    assert pixels(tmp_path / "b.png").shape == (20, 30, 3)


def test_pages_and_frames(run, tmp_path):
    first, second = Image.fromarray(synthetic_photo(20, 30)), Image.new("RGB", (30, 20))
    for name in ("a.tif", "a.gif", "a.webp"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        refused = run("down", name, "-s", 2)
        assert (refused.code, "--frames first" in refused.lines[0]) == (1, True)
        assert run("down", name, "-s", 2, "--frames", "first", "-o", "s.png", "--overwrite").code == 0
        assert pixels(tmp_path / "s.png").std() > 10


def test_exit_codes_are_documented(run):
    table = dict(re.findall(r"^\| (\d+) \| (.+?) \|$", README.read_text(encoding="utf-8"), re.MULTILINE))
    for code in ExitCode:
        assert str(int(code)) in table
        assert re.search(rf"^  {int(code)} ", EPILOG, re.MULTILINE)
    for command in ([], ["down"], ["up"]):
        help_ = run(*command, "--help").text
        assert all(meaning.split(";")[0].split(",")[0][:20] in help_ for meaning in table.values()), table


def test_transparency_is_refused_for_jpeg_before_the_network_runs(run, tmp_path, monkeypatch):
    from irnscale.jobs import stages

    monkeypatch.setattr(stages.RescalingStages, "compute", None)
    picture(tmp_path / "a.png", mode="RGBA")
    result = run("down", "a.png", "-s", 2, "-o", "a.jpg")
    assert (result.code, len(result.lines)) == (2, 1)
    assert "a.png" in result.lines[0]
    assert "no transparency" in result.lines[0]
