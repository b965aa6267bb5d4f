"""`down` and `up`: sizes, names, streams, the record, and what people are warned of."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from commandline import KEYWORD, Run, astronaut, decibel, files, picture, pixels, resave, runner, shipped_name
from conftest import synthetic_photo
from PIL import Image

IRNSCALE = [sys.executable, "-m", "irnscale"]


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line, with no imported models."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    return runner(capfdbinary, monkeypatch)


def silent(result, code: int = 0) -> None:
    assert (result.code, result.stdout, result.lines) == (code, b"", [])


@pytest.mark.parametrize(
    ("extension", "width", "height"),
    [(e, 21, 14) for e in ("png", "jpg", "webp", "tif")] + [("png", 1, 1), ("jpg", 3, 50), ("webp", 50, 3)],
)
def test_default_names_and_sizes(run, tmp_path, extension, width, height):
    photo = picture(tmp_path / f"a.{extension}", width, height)
    silent(run("down", photo))
    small = tmp_path / "a_down4x.png"
    assert pixels(small).shape == (-(-height // 4), -(-width // 4), 3)
    silent(run("up", small))
    assert pixels(tmp_path / "a_up4x.png").shape == (height, width, 3)
    assert files(tmp_path) == sorted([photo.name, "a_down4x.png", "a_up4x.png"])


@pytest.mark.parametrize(("suffix", "scale"), [*(("png", scale) for scale in (2, 4, 8, 16)), ("webp", 4), ("tiff", 2)])
def test_every_scale_comes_back(run, tmp_path, scale, suffix):
    photo = picture(tmp_path / "a.png", 37, 18)
    silent(run("down", photo, "-s", scale, "-f", suffix))
    small = tmp_path / f"a_down{scale}x.{suffix}"
    assert pixels(small).shape == (-(-18 // scale), -(-37 // scale), 3)
    silent(run("up", small, "-f", suffix))
    assert pixels(tmp_path / f"a_up{scale}x.{suffix}").shape == (18, 37, 3)


def test_a_long_thin_picture(run, tmp_path):
    photo = picture(tmp_path / "a.png", 5000, 3)
    silent(run("down", photo, "-o", tmp_path / "s.png"))
    silent(run("up", tmp_path / "s.png", "-o", tmp_path / "b.png"))
    assert pixels(tmp_path / "b.png").shape == (3, 5000, 3)


def test_the_picture_comes_back(run, tmp_path):
    """Good at x4, better than a bicubic round trip by far; the record alone says what to do."""
    image = astronaut()
    truth = np.asarray(image)
    image.save(tmp_path / "a.png")
    run("down", tmp_path / "a.png")
    run("up", tmp_path / "a_down4x.png")
    bicubic = image.resize((32, 24), Image.Resampling.BICUBIC).resize((128, 96), Image.Resampling.BICUBIC)
    ours = decibel(pixels(tmp_path / "a_up4x.png"), truth)
    assert ours > decibel(np.asarray(bicubic), truth) + 2
    small = np.asarray(image.resize((32, 24), Image.Resampling.BICUBIC))
    assert decibel(pixels(tmp_path / "a_down4x.png"), small) > 25, "the small image is a picture for people"


def test_places_for_the_output(run, tmp_path):
    photo = picture(tmp_path / "a.png")
    silent(run("down", photo, "-o", tmp_path / "x.webp"))
    (tmp_path / "there").mkdir()
    silent(run("down", photo, "-o", tmp_path / "there"))
    silent(run("down", photo, "-o", f"{tmp_path}/new/deep/"))
    silent(run("down", photo, "-o", tmp_path / "no-extension", "-f", "tiff"))
    assert Image.open(tmp_path / "x.webp").format == "WEBP"
    assert Image.open(tmp_path / "no-extension").format == "TIFF"
    assert files(tmp_path / "there") == files(tmp_path / "new" / "deep") == ["a_down4x.png"]


def test_streams(run, tmp_path):
    photo = picture(tmp_path / "a.png")
    run("down", photo)
    small = (tmp_path / "a_down4x.png").read_bytes()
    for arguments, stdin in [
        (("down", photo, "-o", "-"), None),
        (("down", "-", "-o", "-"), photo.read_bytes()),
        (("down", "-"), photo.read_bytes()),
    ]:
        result = run(*arguments, stdin=stdin)
        assert (result.code, result.stdout, result.lines) == (0, small, [])
    result = run("up", "-", "-o", "-", "-f", "webp", stdin=small)
    assert Image.open(io.BytesIO(result.stdout)).format == "WEBP"
    assert pixels(result.stdout).shape == (14, 21, 3)
    silent(run("up", "-", "-o", tmp_path / "there.png", stdin=small))
    assert np.array_equal(pixels(tmp_path / "there.png"), pixels(result.stdout))


def test_a_pipe_of_processes(tmp_path):
    photo = picture(tmp_path / "a.jpg", 21, 14)
    with photo.open("rb") as stdin:
        down = subprocess.Popen(
            [*IRNSCALE, "down", "-", "-s", "4", "-o", "-", "-v"],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    with down.stdout:
        up = subprocess.run([*IRNSCALE, "up", "-", "-o", "-"], stdin=down.stdout, capture_output=True, timeout=300)
    assert down.wait() == up.returncode == 0
    assert up.stderr == b""
    assert up.stdout.startswith(b"\x89PNG\r\n\x1a\n")
    assert up.stdout.endswith(b"IEND\xaeB`\x82"), "nothing but the image"
    assert pixels(up.stdout).shape == (14, 21, 3)
    assert files(tmp_path) == ["a.jpg"]


@pytest.fixture
def small(run, tmp_path):
    """A small image of 21 x 14, made by `down -s 2`."""
    run("down", picture(tmp_path / "a.png"), "-s", "2")
    return tmp_path / "a_down2x.png"


@pytest.mark.parametrize(
    ("options", "given", "recorded"),
    [
        (["-s", "4"], "-s 4", "x2"),
        (["-m", "irn-x4"], "-m irn-x4", shipped_name(2)),
        (["--size", "20x14"], "20x14", "21x14"),
        (["--jpeg-resistant"], "--jpeg-resistant", f"a plain model ({shipped_name(2)})"),
    ],
)
def test_options_that_contradict_the_record(run, small, options, given, recorded):
    for dry_run in (["--dry-run"], []):
        result = run("up", small, *options, *dry_run)
        assert (result.code, result.stdout) == (2, b"")
        assert len(result.lines) == 1
        assert given in result.lines[0]
        assert recorded in result.lines[0]
        assert "--ignore-provenance" in result.lines[0]


def test_options_that_agree_with_the_record(run, small):
    silent(
        run(
            "up",
            small,
            "-s",
            2,
            "-m",
            shipped_name(2),
            "--size",
            "21x14",
            "--require-provenance",
            "--no-jpeg-resistant",
        )
    )


def test_ignoring_the_record(run, small, tmp_path):
    result = run("up", small, "--ignore-provenance", "-s", 4)
    assert result.code == 0
    assert pixels(tmp_path / "a_down2x_up4x.png").shape == (28, 44, 3)
    result = run("up", small, "--ignore-provenance")
    assert (result.code, len(result.lines)) == (2, 1)
    assert "its record is ignored" in result.lines[0]
    assert "leave --ignore-provenance out" in result.lines[0]


def test_without_a_record(run, small, tmp_path):
    bare = [resave(small, tmp_path / f"{name}.png", lambda image: image, record=False) for name in "xyz"]
    result = run("up", *bare, "-s", 2)
    assert result.code == 0
    assert len(result.warnings) == len(result.lines) == 1, "one warning for three files"
    assert "no irnscale record" in result.lines[0]
    assert pixels(tmp_path / "z_up2x.png").shape == (14, 22, 3)
    result = run("up", bare[0], "-m", shipped_name(2), "--size", "21x14", "-o", tmp_path / "sized.png")
    assert result.code == 0
    run("up", small)
    assert np.array_equal(pixels(tmp_path / "sized.png"), pixels(tmp_path / "a_up2x.png"))
    refused = run("up", bare[0], small, "-s", 2, "--require-provenance", "-o", f"{tmp_path}/out/")
    assert refused.code == 1
    assert "x.png: has no irnscale record" in refused.lines[0]
    assert files(tmp_path / "out") == ["a_up2x.png"]
    silent(run("up", bare[0], "-s", 2, "--quiet", "--overwrite"))


@pytest.mark.parametrize("command", [("down", "--quiet"), ("up", "-s", "2", "--quiet")])
@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_gray_stays_gray_and_alpha_is_kept(run, tmp_path, mode, command):
    photo = picture(tmp_path / "a.png", mode=mode)
    silent(run(*command, photo, "-o", tmp_path / "b.png"))
    with Image.open(tmp_path / "b.png") as image:
        assert image.mode == mode


def test_gray_and_alpha_come_back(run, tmp_path):
    image = astronaut().convert("LA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.save(tmp_path / "a.png")
    run("down", tmp_path / "a.png", "-s", 2)
    run("up", tmp_path / "a_down2x.png")
    truth, back = np.asarray(image), pixels(tmp_path / "a_up2x.png")
    assert back.shape == truth.shape == (96, 128, 2)
    assert decibel(back[..., 1], truth[..., 1]) > 35
    visible = truth[..., 1] > 128
    assert decibel(back[..., 0][visible], truth[..., 0][visible]) > 30


def test_a_restored_picture_is_not_restored_again(run, small, tmp_path):
    run("up", small)
    result = run("up", tmp_path / "a_up2x.png")
    assert result.code == 1
    assert len(result.lines) == 1
    assert "restored picture already" in result.lines[0]
    assert "--ignore-provenance" in result.lines[0]
    result = run("down", small)
    assert result.code == 0
    assert "itself a small image" in result.lines[0]


def test_edited_small_images_warn(run, small, tmp_path):
    def edit(image: Image.Image) -> Image.Image:
        array = np.array(image)
        array[0, 0] ^= 1
        return Image.fromarray(array)

    silent(run("up", resave(small, tmp_path / "same.png", lambda image: image)))
    result = run("up", resave(small, tmp_path / "edited.png", edit))
    assert result.code == 0
    assert [line for line in result.warnings if "was edited" in line] == result.lines
    assert pixels(tmp_path / "edited_up2x.png").shape == (14, 21, 3)


def test_resized_small_images_warn(run, small, tmp_path):
    result = run("up", resave(small, tmp_path / "cropped.png", lambda image: image.crop((0, 0, 5, 6))))
    assert result.code == 0
    assert len(result.lines) == 1
    assert "is 5x6, but its record says 11x7" in result.warnings[0]
    assert pixels(tmp_path / "cropped_up2x.png").shape == (12, 10, 3)


def test_a_broken_record_is_ignored_and_told(run, small, tmp_path):
    def spoil(image: Image.Image) -> Image.Image:
        image.info[KEYWORD] = json.dumps(json.loads(image.info[KEYWORD]) | {"width": -1})
        return image

    spoiled = resave(small, tmp_path / "spoiled.png", spoil)
    assert run("up", spoiled).code == 2
    result = run("up", spoiled, "-s", 2)
    assert result.code == 0
    assert any("record cannot be used" in line for line in result.warnings)


def test_a_bad_file_does_not_stop_the_others(run, tmp_path):
    first, last = picture(tmp_path / "a.png"), picture(tmp_path / "c.png")
    (tmp_path / "b.png").write_text("no picture")
    result = run("down", first, tmp_path / "b.png", last, "-v")
    assert result.code == 1
    assert [line for line in result.lines if "error" in line] == [line for line in result.lines if "b.png" in line]
    assert result.lines[-1] == "irnscale: warning: 2 of 3 done, 1 failed"
    assert (tmp_path / "a_down4x.png").exists()
    assert (tmp_path / "c_down4x.png").exists()
    assert not (tmp_path / "b_down4x.png").exists()
    (tmp_path / "c_down4x.png").unlink()
    mixed = run("down", first, tmp_path / "b.png", last)
    assert mixed.code == 1, "an existing output and a bad input: no common class"
    assert len(mixed.lines) == 3
    assert (tmp_path / "c_down4x.png").exists()


def test_two_inputs_of_one_name(run, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        picture(tmp_path / folder / "a.png")
    picture(tmp_path / "one" / "b.png")
    several = run("down", tmp_path / "one/a.png", tmp_path / "two/a.png", "-o", f"{tmp_path}/tree/")
    assert (several.code, len(several.lines)) == (0, 1)
    assert files(tmp_path / "tree") == ["one", "one/a_down4x.png", "two", "two/a_down4x.png"]
    same = ("--overwrite", "--name", "k.png")
    result = run("down", tmp_path / "one/a.png", tmp_path / "one/b.png", "-o", f"{tmp_path}/out/", *same)
    assert result.code == 5
    assert "both" in result.lines[0]
    assert not (tmp_path / "out").exists(), "found before any work"
    for folder in ("one", "two"):  # what the message advises
        name = f"{folder}_{{stem}}.{{ext}}"
        assert run("down", tmp_path / folder / "a.png", "-o", f"{tmp_path}/out/", "--name", name).code == 0
    assert files(tmp_path / "out") == ["one_a.png", "two_a.png"]


def test_turned_pictures_are_upright(run, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = picture(tmp_path / "a.jpg", 40, 24, exif=exif)
    run("down", photo, "-s", 2)
    silent(run("up", tmp_path / "a_down2x.png"))
    back = pixels(tmp_path / "a_up2x.png")
    assert back.shape == (40, 24, 3)
    assert decibel(back, np.rot90(synthetic_photo(24, 40), -1)) > 25


def test_sixteen_bits_are_noted(run, tmp_path):
    values = np.arange(8 * 8, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(values).save(tmp_path / "deep.png")
    result = run("down", tmp_path / "deep.png")
    assert result.code == 0
    assert len(result.lines) == 2
    assert "--gray color" in result.lines[0]
    assert "has 16 bits per channel" in result.lines[1]
    assert "--depth 16" in result.lines[1]
