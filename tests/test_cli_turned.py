"""Small pictures that somebody turned by their orientation, or saved with other channels, since `down` made them."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from commandline import KEYWORD, Run, picture, pixels, resave, runner
from conftest import synthetic_photo
from PIL import Image, ImageOps, PngImagePlugin

from irnscale.engine.pictures import restore_all
from irnscale.images.jpegxl import JpegXlHeader
from irnscale.images.orientation import turn_back, turn_upright
from irnscale.images.read import read_header, read_picture

ORIENTATION = 0x0112


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line, with no imported models."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    return runner(capfdbinary, monkeypatch)


def as_shown(array: np.ndarray, orientation: int) -> np.ndarray:
    """What a viewer shows of pixels with this orientation, by Pillow."""
    image = Image.fromarray(array)
    image.getexif()[ORIENTATION] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def exif(orientation: int) -> bytes:
    block = Image.Exif()
    block[ORIENTATION] = orientation
    return block.tobytes()


def turned(small: Path, target: Path, orientation: int) -> Path:
    """The same pixels with an orientation. A lossy file is encoded again, in the same way for each orientation."""
    with Image.open(small) as image:
        options: dict[str, object] = {"exif": exif(orientation)}
        if image.format == "PNG":
            options["pnginfo"] = PngImagePlugin.PngInfo()
            options["pnginfo"].add_itxt(KEYWORD, image.info[KEYWORD])
        elif image.format == "TIFF":
            options["tiffinfo"] = {700: image.tag_v2[700], ORIENTATION: orientation}
            del options["exif"]
        else:
            options["xmp"] = image.info["xmp"]
        if image.format == "WEBP":
            options |= {"lossless": True, "exact": True}
        image.save(target, **options)
    return target


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_there_and_back(orientation):
    for shape in ((3, 5), (3, 5, 3)):
        array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        assert np.array_equal(turn_upright(array, orientation), as_shown(array, orientation))
        assert np.array_equal(turn_back(turn_upright(array, orientation), orientation), array)


@pytest.mark.parametrize(
    ("format", "orientation"),
    [
        pytest.param(format, n, marks=[] if format == "png" or n in (3, 6) else pytest.mark.slow)
        for format in ("png", "webp", "tiff", "jpg", "avif")
        for n in range(1, 9)
    ],
)
def test_it_is_restored_as_stored_and_turned_afterwards(run, tmp_path, format, orientation):
    photo = picture(tmp_path / "a.png", 23, 14)
    run("down", photo, "-f", format)
    small = tmp_path / f"a_down4x.{format}"
    before = turned(small, tmp_path / f"before.{format}", 1)
    after = turned(small, tmp_path / f"after.{format}", orientation)
    run("up", before, "-o", tmp_path / "one.png")
    result = run("up", after, "-o", tmp_path / "two.png")
    assert (result.code, result.lines) == (0, []), "neither edited nor of another size"
    restored = pixels(tmp_path / "one.png")
    assert restored.shape == (14, 23, 3)
    assert np.array_equal(pixels(tmp_path / "two.png"), as_shown(restored, orientation))
    with Image.open(tmp_path / "two.png") as image:
        assert image.getexif().get(ORIENTATION, 1) == 1
    facts = json.loads(run("info", tmp_path / "two.png", "--json").stdout)["provenance"]
    original = json.loads(run("info", small, "--json").stdout)["provenance"]
    for key in ("width", "height", "lr_width", "lr_height", "padding"):
        assert facts[key] == original[key]
    if format in ("png", "webp", "tiff"):
        assert facts["crc"] == original["crc"]


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_gray_and_alpha_are_turned_too(run, tmp_path, mode, orientation):
    photo = picture(tmp_path / "a.png", 23, 14, mode)
    run("down", photo)
    small = tmp_path / "a_down4x.png"
    run("up", small, "-o", tmp_path / "one.png")
    result = run("up", turned(small, tmp_path / "t.png", orientation), "-o", tmp_path / "two.png")
    assert (result.code, result.lines) == (0, [])
    assert np.array_equal(pixels(tmp_path / "two.png"), as_shown(pixels(tmp_path / "one.png"), orientation))


def test_an_orientation_that_only_xmp_has(run, tmp_path):
    photo = picture(tmp_path / "a.png", 23, 14)
    run("down", photo)
    run("up", tmp_path / "a_down4x.png", "-o", tmp_path / "one.png")
    packet = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
        "</rdf:RDF></x:xmpmeta>"
    )
    with Image.open(tmp_path / "a_down4x.png") as image:
        info = PngImagePlugin.PngInfo()
        info.add_itxt(KEYWORD, image.info[KEYWORD])
        info.add_itxt("XML:com.adobe.xmp", packet)
        image.save(tmp_path / "t.png", pnginfo=info)
    result = run("up", tmp_path / "t.png", "-o", tmp_path / "two.png")
    assert (result.code, result.lines) == (0, [])
    assert np.array_equal(pixels(tmp_path / "two.png"), as_shown(pixels(tmp_path / "one.png"), 6))


def test_in_jpeg_xl_whose_codestream_is_turned(monkeypatch):
    """No encoder at hand writes an orientation; decoders give the pixels upright."""
    codecs = pytest.importorskip("imagecodecs")
    upright = synthetic_photo(12, 20)
    monkeypatch.setattr("irnscale.images.jpegxl.jpegxl_header", lambda data: JpegXlHeader(12, 20, 6))
    data = codecs.jpegxl_encode(upright, lossless=True)
    image = read_picture(data)
    assert (image.orientation, image.width, image.height) == (6, 20, 12)
    assert read_header(data).stored_size == image.stored_size == (12, 20)
    assert np.array_equal(image.pixels, upright)
    assert np.array_equal(as_shown(image.as_stored().pixels, 6), upright)


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", ["23x14", "14x23", "24x16", "40x40"])
def test_size_without_a_record(run, tmp_path, orientation, size):
    """The original's, as it was or as it is shown."""
    run("down", picture(tmp_path / "a.png", 23, 14))
    with Image.open(tmp_path / "a_down4x.png") as image:
        image.save(tmp_path / "bare.png", exif=exif(orientation))
    result = run("up", tmp_path / "bare.png", "-s", 4, "--size", size, "-o", tmp_path / "b.png", "--quiet")
    possible = size in ("23x14", "24x16") or (size == "14x23" and orientation == 6)
    assert (result.code == 0) == possible
    if possible:
        width, height = sorted(map(int, size.split("x")), reverse=orientation == 1)
        assert pixels(tmp_path / "b.png").shape == (height, width, 3)


@pytest.mark.parametrize(("size", "code"), [("23x14", 0), ("14x23", 0), ("22x14", 2)])
def test_size_beside_a_record(run, tmp_path, size, code):
    run("down", picture(tmp_path / "a.png", 23, 14))
    turned(tmp_path / "a_down4x.png", tmp_path / "t.png", 8)
    assert run("up", tmp_path / "t.png", "--size", size).code == code


def test_an_edited_one_is_still_noticed(run, tmp_path):
    run("down", picture(tmp_path / "a.png", 23, 14))
    small = tmp_path / "a_down4x.png"
    resave(small, tmp_path / "e.png", lambda image: ImageOps.invert(image))
    turned(tmp_path / "e.png", tmp_path / "t.png", 6)
    assert "was edited" in run("up", tmp_path / "t.png").lines[0]
    resave(small, tmp_path / "c.png", lambda image: image.crop((0, 0, 5, 4)))
    turned(tmp_path / "c.png", tmp_path / "u.png", 6)
    result = run("up", tmp_path / "u.png", "-o", tmp_path / "v.png")
    assert "is 5x4, but its record says 6x4" in result.lines[0]
    assert pixels(tmp_path / "v.png").shape == (20, 16, 3)


def test_a_batch_has_one_orientation(tmp_path):
    one = read_picture(picture(tmp_path / "a.png", 8, 8))
    file = io.BytesIO()
    Image.fromarray(one.pixels).save(file, "PNG", exif=exif(3))
    with pytest.raises(ValueError, match="orientations"):
        restore_all(None, [one, read_picture(file.getvalue())], size=None, settings="")  # type: ignore[arg-type]


# Gray


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_gray_comes_out_of_a_gray_small_picture_saved_as_colour(run, tmp_path, mode):
    run("down", picture(tmp_path / "a.png", 23, 14, "L"))
    small = tmp_path / "a_down4x.png"
    run("up", small, "-o", tmp_path / "one.png")
    resave(small, tmp_path / "c.png", lambda image: image.convert("RGB").convert(mode, dither=0))
    with Image.open(tmp_path / "c.png") as image:
        exact = np.array_equal(np.asarray(image.convert("RGB"))[..., 0], pixels(small))
    result = run("up", tmp_path / "c.png", "-o", tmp_path / "two.png")
    assert result.code == 0
    assert bool(result.lines) == (not exact)
    with Image.open(tmp_path / "two.png") as image:
        assert image.mode == "L"
        if exact:
            assert np.array_equal(np.asarray(image), pixels(tmp_path / "one.png"))


@pytest.mark.parametrize("format", ["webp", "avif"])
def test_gray_through_formats_without_gray(run, tmp_path, format):
    run("down", picture(tmp_path / "a.png", 23, 14, "L"), "-f", format)
    result = run("up", tmp_path / f"a_down4x.{format}", "-o", tmp_path / "b.png")
    assert (result.code, result.lines) == (0, [])
    with Image.open(tmp_path / "b.png") as image:
        assert image.mode == "L"


def test_a_record_that_is_ignored_says_nothing_of_gray(run, tmp_path):
    run("down", picture(tmp_path / "a.png", 23, 14, "L"))
    small = resave(tmp_path / "a_down4x.png", tmp_path / "c.png", lambda image: image.convert("RGB"))
    assert run("up", small, "-s", 4, "--ignore-provenance", "-o", tmp_path / "b.png").code == 0
    with Image.open(tmp_path / "b.png") as image:
        assert image.mode == "RGB"


def test_markup_in_the_data_of_a_page():
    """A name with <!--<script> would swallow the rest of the page."""
    from irnscale.evaluation.crops import Crop
    from irnscale.evaluation.page import slider

    title = "<!--<script>&</script>"
    text = slider([Crop(title, {"a": "data:,"}, {"a": ""}, 8)])
    content = text.split('<script type="application/json">')[1].split("</script>")[0]
    assert "<" not in content
    assert json.loads(content)[0]["title"] == title
