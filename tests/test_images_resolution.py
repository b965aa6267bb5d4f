"""The resolution: read from wherever a format keeps it, and kept in every format that is written."""

from __future__ import annotations

import io
import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from conftest import synthetic_photo
from PIL import Image
from test_images_embedded import jp2, psd
from test_images_read import encoded

from irnscale.images.boxes import find_box
from irnscale.images.exif_additions import ASCII, RATIONAL, SHORT, with_fields
from irnscale.images.inspect import describe
from irnscale.images.jpeg_segments import APP13, segment
from irnscale.images.photoshop import as_resource
from irnscale.images.read import read_picture
from irnscale.images.resolution import Resolution, jfif_density, png_chunk
from irnscale.images.write import FORMATS, encode_picture, encoding_notes

INCHES = Resolution(Fraction(300), Fraction(300), "inch")


def photo() -> Image.Image:
    return Image.fromarray(synthetic_photo(12, 20))


def exif_of(x: object, y: object, unit: int = 2) -> bytes:
    block = Image.Exif()
    block[0x011A], block[0x011B], block[0x0128], block[0x010F] = x, y, unit, "Canon"
    return block.tobytes()


def bmp(x: int, y: int) -> bytes:
    data = encoded(photo(), "BMP")
    return data[:38] + struct.pack("<ii", x, y) + data[46:]


def jfif(unit: int, x: int, y: int) -> bytes:
    data = encoded(photo(), "JPEG")
    assert data[6:11] == b"JFIF\0"
    return data[:13] + struct.pack(">BHH", unit, x, y) + data[18:]


def without_jfif(**options: object) -> bytes:
    data = encoded(photo(), "JPEG", **options)
    return data[:2] + data[20:]


def shop(x: int, y: int) -> bytes:
    """ResolutionInfo."""
    content = struct.pack(">IHHIHH", x << 16, 1, 1, y << 16, 1, 1)
    return content


def jpeg_of_photoshop() -> bytes:
    content = b"Photoshop 3.0\0" + as_resource(1005, shop(300, 300))
    return without_jfif(extra=segment(APP13, content))


def res_box(kind: bytes, numbers: tuple[int, ...]) -> bytes:
    inner = struct.pack(">I4sHHHHbb", 18, kind, *numbers)
    return struct.pack(">I4s", 8 + len(inner), b"res ") + inner


def jpeg2000(*boxes: bytes) -> bytes:
    """With more boxes at the end of its header box."""
    data = jp2()
    content = find_box(data, b"jp2h")
    old = struct.pack(">I4s", 8 + len(content), b"jp2h") + content
    assert old in data
    longer = content + b"".join(boxes)
    return data.replace(old, struct.pack(">I4s", 8 + len(longer), b"jp2h") + longer)


SOURCES = {
    "jpg": lambda: encoded(photo(), "JPEG", dpi=(300, 300)),
    "jpg per centimetre": lambda: jfif(2, 118, 118),
    "jpg, EXIF alone": lambda: without_jfif(exif=exif_of(300, 300)),
    "jpg, EXIF beside a density of nothing": lambda: encoded(photo(), "JPEG", exif=exif_of(300, 300)),
    "jpg of Photoshop": lambda: jpeg_of_photoshop(),
    "png": lambda: encoded(photo(), "PNG", dpi=(300, 300)),
    "tiff": lambda: encoded(photo(), "TIFF", dpi=(300, 300)),
    "webp": lambda: encoded(photo(), "WEBP", exif=exif_of(300, 300)),
    "avif": lambda: encoded(photo(), "AVIF", exif=exif_of(300, 300)),
    "bmp": lambda: bmp(11811, 11811),
    "jp2": lambda: jpeg2000(res_box(b"resc", (11811, 1, 11811, 1, 0, 0))),
    "jp2 with a power of ten": lambda: jpeg2000(res_box(b"resd", (30000, 254, 30000, 254, 2, 2))),
    "psd": lambda: psd((1005, shop(300, 300))),
}


def written(data: bytes, format: str) -> tuple[float, float]:
    """Dots per inch, as Pillow or the bytes say."""
    with Image.open(io.BytesIO(data)) as image:
        if format in ("webp", "avif"):
            exif = image.getexif()
            factor = {2: 1.0, 3: 2.54}[exif[0x0128]]
            return float(exif[0x011A]) * factor, float(exif[0x011B]) * factor
        return tuple(map(float, image.info["dpi"]))


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", SOURCES)
def test_kept(source, target):
    picture = read_picture(SOURCES[source]())
    expected = (299.72, 299.72) if "centimetre" in source else (300, 300)
    assert picture.notes == ()
    assert encoding_notes(picture, target) == ()
    data = encode_picture(picture, target)
    assert written(data, target) == pytest.approx(expected, abs=0.02)
    again = read_picture(data)
    assert again.resolution == picture.resolution
    assert written(encode_picture(again, "tiff"), "tiff") == pytest.approx(expected, abs=1e-4)
    bare = read_picture(encode_picture(picture.stripped("metadata"), target))
    assert bare.resolution is None
    assert bare.exif is None


def test_the_formats_own_is_kept_beside_exif():
    """Cameras write 72 into EXIF whatever JFIF says; neither is made the other."""
    block = exif_of(72, 72)
    picture = read_picture(encoded(photo(), "JPEG", dpi=(300, 300), exif=block))
    assert picture.resolution == INCHES
    assert picture.exif == block.removeprefix(b"Exif\0\0")
    assert read_picture(encode_picture(picture, "png")).exif == picture.exif
    assert written(encode_picture(picture, "webp"), "webp") == (300, 300)
    assert written(encode_picture(picture, "tiff"), "tiff") == (300, 300)


def test_without_one_nothing_is_made_up():
    for format, quiet in (("png", b"pHYs"), ("tiff", b"\x1a\x01\x05\0"), ("webp", b"EXIF"), ("avif", b"Exif")):
        assert quiet not in encode_picture(read_picture(encoded(photo(), "PNG")), format)
    assert encode_picture(read_picture(encoded(photo(), "PNG")), "jpg")[13:18] == b"\0\0\1\0\1"
    assert read_picture(encoded(photo(), "GIF")).resolution is None


@pytest.mark.parametrize("target", FORMATS)
def test_sides_that_differ_are_turned_with_the_pixels(target):
    block = Image.Exif()
    block[0x0112], block[0x011A], block[0x011B], block[0x0128] = 6, 300, 150, 2
    picture = read_picture(encoded(photo(), "JPEG", dpi=(300, 150), exif=block.tobytes()))
    assert (picture.width, picture.height) == (12, 20)
    assert (picture.resolution.x, picture.resolution.y) == (150, 300)
    data = encode_picture(picture, target)
    assert written(data, target) == pytest.approx((150, 300), abs=0.02)
    with Image.open(io.BytesIO(data)) as image:
        exif = image.getexif()
        assert (exif[0x011A], exif[0x011B]) == (150, 300)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("jpg", "300x300 per inch"),
        ("jpg per centimetre", "118x118 per cm"),
        ("webp", "300x300 per inch"),
        ("tiff", "300x300 per inch"),
        ("psd", "300x300 per inch"),
    ],
)
def test_info_says_it(source, said, tmp_path):
    (tmp_path / "a").write_bytes(SOURCES[source]())
    assert describe(tmp_path / "a")["resolution"] == said


def test_info_says_that_of_the_upright_picture(tmp_path):
    block = Image.Exif()
    block[0x0112] = 6
    for data, said in (
        (encoded(photo(), "JPEG", dpi=(300, 150), exif=block.tobytes()), "150x300 per inch"),
        (jfif(0, 2, 1), "2:1"),
        (encoded(photo(), "GIF"), None),
    ):
        (tmp_path / "a").write_bytes(data)
        assert describe(tmp_path / "a")["resolution"] == said


@pytest.mark.parametrize("target", FORMATS)
def test_a_ratio_alone(target):
    picture = read_picture(jfif(0, 2, 1))
    assert (picture.resolution.x / picture.resolution.y, picture.resolution.unit) == (2, None)
    data = encode_picture(picture, target)
    again = read_picture(data).resolution
    assert (again.x / again.y, again.unit) == (2, None)
    if target == "png":
        with Image.open(io.BytesIO(data)) as image:
            assert image.info["aspect"] == (2, 1)


def test_kept_in_a_png_of_16_bits():
    pytest.importorskip("imagecodecs")
    picture = read_picture(SOURCES["jpg"]())
    deep = picture.with_pixels(picture.pixels.astype(np.uint16) * 257)
    data = encode_picture(deep, "png")
    assert data[24] == 16
    assert written(data, "png") == pytest.approx((300, 300), abs=0.02)


NONSENSE = [
    lambda: jfif(1, 0, 300),
    lambda: jfif(7, 300, 300),
    lambda: without_jfif(exif=exif_of(0, 300)),
    lambda: without_jfif(exif=exif_of(300, 300, unit=9)),
    lambda: bmp(0, 0),
    lambda: bmp(-11811, 11811),
    lambda: jpeg2000(res_box(b"resc", (1, 0, 1, 0, 0, 0))),
    lambda: jpeg2000(res_box(b"resc", (1, 1, 1, 1, 127, 127))),
    lambda: jpeg2000(res_box(b"resx", (1, 1, 1, 1, 2, 2))),
    lambda: psd((1005, bytes(4))),
    lambda: psd((1005, shop(0, 0))),
]


@pytest.mark.parametrize("make", NONSENSE)
def test_what_makes_no_sense_is_none(make):
    picture = read_picture(make())
    assert picture.resolution is None
    assert picture.notes == ()


def test_what_a_format_cannot_say_is_told():
    thin = replace(read_picture(SOURCES["png"]()), resolution=Resolution(Fraction(1, 100), Fraction(1, 100), "inch"))
    assert "resolution was dropped" in encoding_notes(thin, "jpg")[0]
    assert encode_picture(thin, "jpg")[13] == 0
    assert encoding_notes(thin, "tiff") == ()
    assert read_picture(encode_picture(thin, "tiff")).resolution == thin.resolution


def test_a_writer_that_cuts_where_others_round():
    """72 dots per inch are 2834.6 per metre."""
    for stored in (2834, 2835):
        assert read_picture(bmp(stored, stored)).resolution == Resolution(Fraction(72), Fraction(72), "inch")
    assert read_picture(bmp(2830, 2830)).resolution == Resolution(Fraction(283, 10), Fraction(283, 10), "cm")


def test_units_that_lose_least():
    metric = Resolution(Fraction(118), Fraction(118), "cm")
    assert jfif_density(metric) == (2, 118, 118)
    assert jfif_density(INCHES) == (1, 300, 300)
    assert png_chunk(INCHES) == struct.pack(">IIB", 11811, 11811, 1)


@pytest.mark.parametrize("target", FORMATS)
def test_a_block_whose_values_are_not_in_it(target):
    """Pillow warns of it, which nobody is to see; the format's own is kept."""
    entry = struct.pack("<HHII", 0x011A, 5, 1, 9999) + struct.pack("<HHII", 0x010E, 2, 99, 9999)
    block = b"II*\0" + struct.pack("<IH", 8, 2) + entry + bytes(4)
    comment = segment(0xFE, b"sea")
    picture = read_picture(encoded(photo(), "JPEG", dpi=(300, 300), exif=b"Exif\0\0" + block, extra=comment))
    assert picture.resolution == INCHES
    encoding_notes(picture, target)
    assert read_picture(encode_picture(picture, target)).resolution == INCHES


@pytest.mark.parametrize("order", ["II", "MM"])
def test_fields_are_added_behind_everything_else(order):
    """Whatever points into the block still points to the same bytes; the directory stays sorted."""
    o = "<" if order == "II" else ">"
    note = b"maker note"
    entries = struct.pack(o + "HHI4s", 0x010F, 2, 4, b"abc\0") + struct.pack(o + "HHII", 0x927C, 7, len(note), 38)
    block = order.encode() + struct.pack(o + "HIH", 42, 8, 2) + entries + bytes(4) + note
    fields = {0x011A: (RATIONAL, Fraction(1, 3)), 0x0128: (SHORT, 3), 0x010E: (ASCII, b"sea")}
    longer = with_fields(block, fields)
    assert longer[8 : len(block)] == block[8:]
    assert with_fields(longer, fields) == longer
    start = struct.unpack_from(o + "I", longer, 4)[0]
    (count,) = struct.unpack_from(o + "H", longer, start)
    tags = [struct.unpack_from(o + "H", longer, start + 2 + 12 * k)[0] for k in range(count)]
    assert tags == [0x010E, 0x010F, 0x011A, 0x0128, 0x927C]
    exif = Image.Exif()
    exif.load(longer)
    assert (exif[0x010E], exif[0x010F], float(exif[0x011A]), exif[0x0128]) == ("sea", "abc", pytest.approx(1 / 3), 3)
    for end in range(len(block)):
        with_fields(block[:end], fields)  # cut off anywhere, it raises nothing
