"""Small pictures whose pixels were turned since `down` made them, as editors and lossless rotation do it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commandline import KEYWORD, Run, picture, pixels, resave, runner
from conftest import synthetic_photo
from PIL import Image, ImageOps, PngImagePlugin

from irnscale.images import segments
from irnscale.images.read import read_header, read_picture

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(capfdbinary, monkeypatch)


def as_turned(array: np.ndarray, turn: int) -> np.ndarray:
    return np.asarray(Image.fromarray(array).transpose(TURNS[turn]))


@pytest.mark.parametrize("record", [True, False])
@pytest.mark.parametrize("turn", TURNS)
def test_turned_pixels_are_restored_as_they_were_written(run, tmp_path, turn, record):
    run("down", picture(tmp_path / "a.png", 61, 45), "-s", 2, "-o", "s.png")
    run("up", "s.png", "-o", "one.png")
    resave(tmp_path / "s.png", tmp_path / "t.png", lambda image: image.transpose(TURNS[turn]), record=record)
    result = run("up", "t.png", "-o", "two.png")
    assert (result.code, result.lines) == (0, [])
    assert np.array_equal(pixels(tmp_path / "two.png"), as_turned(pixels(tmp_path / "one.png"), turn))


@pytest.mark.parametrize(("width", "height"), [(40, 40), (39, 40), (3, 2)])
@pytest.mark.parametrize("options", [("--detail", "none"), ("--depth", "16")])
def test_square_small_pictures_and_those_without_detail(run, tmp_path, width, height, options):
    tifffile = pytest.importorskip("tifffile")
    run("down", picture(tmp_path / "a.png", width, height), "-s", 2, "-o", "s.tiff", *options)
    run("up", "s.tiff", "-o", "one.png")
    samples = tifffile.imread(tmp_path / "s.tiff")
    with tifffile.TiffFile(tmp_path / "s.tiff") as file:
        packet = file.pages[0].tags[700].value
    tags = [(700, 1, len(packet), packet, True)]
    samples = np.rot90(samples)
    tifffile.imwrite(tmp_path / "t.tiff", samples, photometric="rgb", metadata=None, extratags=tags)
    result = run("up", "t.tiff", "-o", "two.png")
    assert (result.code, result.lines) == (0, [])
    assert np.array_equal(pixels(tmp_path / "two.png"), np.rot90(pixels(tmp_path / "one.png")))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("detail", ["none", "1"])
def test_eight_bits_stored_in_sixteen(run, tmp_path, mode, detail):
    tifffile = pytest.importorskip("tifffile")
    run("down", picture(tmp_path / "a.png", 61, 45, mode), "-s", 2, "-o", "s.tiff", "--detail", detail)
    run("up", "s.tiff", "-o", "one.png")
    with tifffile.TiffFile(tmp_path / "s.tiff") as file:
        packet, samples = file.pages[0].tags[700].value, file.pages[0].asarray().astype(np.uint16) * 257
    tags = [(700, 1, len(packet), packet, True)]
    kind = {"photometric": "minisblack" if mode == "L" else "rgb"} | ({"extrasamples": [2]} if mode == "RGBA" else {})
    tifffile.imwrite(tmp_path / "t.tiff", samples, metadata=None, extratags=tags, **kind)
    result = run("up", "t.tiff", "-o", "two.png")
    assert (result.code, result.lines) == (0, [])
    assert np.array_equal(pixels(tmp_path / "two.png"), pixels(tmp_path / "one.png"))
    if detail == "1":
        tifffile.imwrite(tmp_path / "bare.tiff", samples, metadata=None, **kind)
        assert run("up", "bare.tiff", "-o", "three.png").lines == []
        assert np.array_equal(pixels(tmp_path / "three.png"), pixels(tmp_path / "one.png"))


def test_turned_in_both_ways(run, tmp_path):
    """Pixels mirrored by an editor, then turned by a viewer's orientation."""
    run("down", picture(tmp_path / "a.png", 61, 45, "RGBA"), "-s", 2, "-o", "s.png")
    run("up", "s.png", "-o", "one.png")
    with Image.open(tmp_path / "s.png") as image:
        info = PngImagePlugin.PngInfo()
        info.add_itxt(KEYWORD, image.info[KEYWORD])
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        image.transpose(TURNS[2]).save(tmp_path / "t.png", pnginfo=info, exif=exif)
    assert run("up", "t.png", "-o", "two.png").lines == []
    expected = as_turned(as_turned(pixels(tmp_path / "one.png"), 2), 6)
    assert np.array_equal(pixels(tmp_path / "two.png"), expected)


def test_the_lossless_layer_and_what_strip_and_info_say(run, tmp_path):
    source = picture(tmp_path / "a.png", 61, 45)
    run("down", source, "-s", 2, "-o", "s.png", "--detail", "exact")
    block = segments.attachment((tmp_path / "s.png").read_bytes())
    target = resave(tmp_path / "s.png", tmp_path / "t.png", lambda image: image.transpose(TURNS[8]))
    assert block is not None
    target.write_bytes(segments.attached(target.read_bytes(), block, "png"))
    assert "note:" not in run("info", "t.png").text
    assert run("up", "t.png", "-o", "two.png").lines == []
    assert np.array_equal(pixels(tmp_path / "two.png"), as_turned(pixels(source), 8))
    for name in ("s.png", "t.png"):
        assert run("strip", name, "-o", f"bare_{name}").code == 0
        assert run("up", f"bare_{name}", "-o", f"back_{name}").lines == []
    assert np.array_equal(pixels(tmp_path / "back_t.png"), as_turned(pixels(tmp_path / "back_s.png"), 8))


def test_strip_of_what_a_viewer_turned(run, tmp_path):
    run("down", picture(tmp_path / "a.png", 61, 45), "-s", 2, "-o", "s.png")
    run("up", "s.png", "-o", "one.png", "--detail", "none")
    with Image.open(tmp_path / "s.png") as image:
        info = PngImagePlugin.PngInfo()
        info.add_itxt(KEYWORD, image.info[KEYWORD])
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        image.save(tmp_path / "t.png", pnginfo=info, exif=exif)
    assert run("strip", "t.png", "-o", "u.png").code == 0
    assert run("up", "u.png", "-o", "two.png").lines == []
    one, two = pixels(tmp_path / "one.png"), pixels(tmp_path / "two.png")
    assert two.shape == (61, 45, 3)
    assert np.abs(two.astype(int) - as_turned(one, 6)).max() <= 12, "the digits became neutral"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("kind", ["u1", "u2"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_orientation_that_only_the_xmp_of_a_tiff_has(tmp_path, orientation, kind, encoding):
    tifffile = pytest.importorskip("tifffile")
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:t="http://ns.adobe.com/tiff/1.0/">'
        f"<t:Orientation> {orientation} </t:Orientation></rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode(encoding)
    array = synthetic_photo(14, 23)
    path: Path = tmp_path / "a.tif"
    samples = array if kind == "u1" else array.astype(np.uint16) * 257
    tags = [(700, 1, len(packet), packet, True)]
    tifffile.imwrite(path, samples, photometric="rgb", metadata=None, extratags=tags)
    image = Image.fromarray(array)
    image.getexif()[ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    header, found = read_header(path), read_picture(path)
    assert (header.width, header.height) == (found.width, found.height) == expected.shape[1::-1]
    assert (header.orientation, found.orientation) == (orientation, orientation)
    assert np.array_equal(found.pixels if kind == "u1" else found.pixels // 257, expected)


def test_the_facts_of_a_turned_picture_are_those_of_the_one_written(run, tmp_path):
    run("down", picture(tmp_path / "a.png", 61, 45), "-s", 2, "-o", "s.png")
    resave(tmp_path / "s.png", tmp_path / "t.png", lambda image: image.transpose(TURNS[6]))
    run("up", "t.png", "-o", "two.png")
    one, two = (json.loads(run("info", name, "--json").text)["provenance"] for name in ("s.png", "two.png"))
    for key in ("width", "height", "lr_width", "lr_height", "padding", "crc"):
        assert one[key] == two[key]
