"""The README's table of metadata: each "in" is read, each "out" is written and read back, the others are told."""

from __future__ import annotations

import dataclasses
import io
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from fuzz_seeds import with_gif_extension, with_uuids
from PIL import Image, features
from test_images_embedded import EXIF_UUIDS, GIF_XMP, IPTC_UUIDS, MAKER, TRAILER, XMP, XMP_UUID, exif, photo, psd
from test_images_iptc import KEPT
from test_images_read import SRGB, encoded

from irnscale.images.picture import Picture
from irnscale.images.read import read_picture
from irnscale.images.resolution import Resolution
from irnscale.images.texts import Text
from irnscale.images.write import encode_picture, encoding_notes

README = Path(__file__).parent.parent / "README.md"
COLUMNS = ("profile", "EXIF", "XMP", "IPTC", "resolution", "texts")
OUT = {"PNG": "png", "JPEG": "jpg", "WebP": "webp", "TIFF": "tiff", "AVIF": "avif"}


def table() -> dict[str, dict[str, str]]:
    """Format -> column -> cell."""
    text = README.read_text(encoding="utf-8")
    start = text.index(f"| | {' | '.join(COLUMNS)} |")
    lines = [line for line in text[start:].split("\n\n")[0].splitlines()[2:] if line]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: dict(zip(COLUMNS, row, strict=True)) for names, *row in cells for name in names.split(", ")}


TABLE = table()


def full() -> Picture:
    """A picture with all of it."""
    plain = read_picture(encoded(photo(), "PNG"))
    resolution = Resolution(Fraction(300), Fraction(300), "inch")
    texts = (Text("Comment", "hello"), Text("Title", "The sea"))
    return dataclasses.replace(plain, icc=SRGB, exif=exif(), xmp=XMP, iptc=KEPT, resolution=resolution, texts=texts)


def found(picture: Picture) -> dict[str, bool]:
    return {
        "profile": picture.icc is not None,
        "EXIF": MAKER in (picture.exif or b""),
        "XMP": "Zürich".encode() in (picture.xmp or b""),
        "IPTC": picture.iptc == KEPT,
        "resolution": picture.resolution is not None,
        "texts": any(text.text == "hello" for text in picture.texts) or b"hello" in (picture.exif or b""),
    }


@pytest.mark.parametrize("format", OUT)
def test_what_is_written(format):
    data = encode_picture(full(), OUT[format])
    assert found(read_picture(data)) == {column: "out" in cell for column, cell in TABLE[format].items()}
    assert all("in" in re.findall(r"\w+", cell) for column, cell in TABLE[format].items() if cell and column != "texts")
    told = " ".join(encoding_notes(full(), OUT[format]))
    assert ("IPTC" in told) == ("out" not in TABLE[format]["IPTC"])
    assert ("Title" in told) == (format != "PNG")


def jpeg2000() -> bytes:
    blocks = EXIF_UUIDS[0] + exif(), XMP_UUID + XMP, IPTC_UUIDS[0] + KEPT
    data = with_uuids(encoded(photo(), "JPEG2000", comment="hello"), *blocks)
    header = data.index(b"jp2h") - 4
    resolution = struct.pack(">I4sI4sHHHHbb", 26, b"res ", 18, b"resc", 11811, 1, 11811, 1, 0, 0)
    length = int.from_bytes(data[header : header + 4], "big")
    end = header + length
    profile = b"\2\0\0" + SRGB  # restricted ICC
    colour = struct.pack(">I4s", 8 + len(profile), b"colr") + profile
    old = data.index(b"colr", header) - 4
    behind = data[old + int.from_bytes(data[old : old + 4], "big") : end]
    body = data[header + 8 : old] + colour + behind + resolution
    return data[:header] + struct.pack(">I4s", 8 + len(body), b"jp2h") + body + data[end:]


def jpegxl() -> bytes:
    codecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("tifffile")
    data = codecs.jpegxl_encode(read_picture(encoded(photo(), "PNG")).pixels, lossless=True, usecontainer=True)
    for kind, content in ((b"Exif", bytes(4) + with_resolution()), (b"xml ", XMP)):
        data += struct.pack(">I4s", len(content) + 8, kind) + content
    return data


def with_resolution() -> bytes:
    """EXIF of the maker, and 300 pixels per inch."""
    block = Image.Exif()
    block[0x010F], block[0x011A], block[0x011B], block[0x0128] = "Maker", 300.0, 300.0, 2
    return block.tobytes().removeprefix(b"Exif\0\0")


def heic() -> bytes:
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    image = photo()
    image.info |= {"exif": with_resolution(), "xmp": XMP, "icc_profile": SRGB}
    heif.from_pillow(image).save(file)
    return file.getvalue()


def gif() -> bytes:
    data = encoded(photo().quantize(16), "GIF", comment=b"hello")
    profile = b"!\xff\x0bICCRGBG1012" + b"".join(
        bytes([len(part)]) + part for part in (SRGB[at : at + 255] for at in range(0, len(SRGB), 255))
    )
    return with_gif_extension(data, profile + b"\0" + GIF_XMP + XMP + TRAILER)


def photoshop() -> bytes:
    resolution = struct.pack(">IHHIHH", 300 << 16, 1, 1, 300 << 16, 1, 1)
    return psd((1005, resolution), (1028, KEPT), (1039, SRGB), (1058, exif()), (1060, XMP))


def bmp() -> bytes:
    """A header of version 5, with a profile behind the pixels."""
    plain = encoded(photo(), "BMP", dpi=(300, 300))
    pixels = plain[54:]
    head = struct.pack("<IiiHHIIiiII", 124, 20, 12, 1, 24, 0, len(pixels), 11811, 11811, 0, 0)
    head += bytes(16) + b"DEBM" + bytes(48) + struct.pack("<IIII", 4, 124 + len(pixels), len(SRGB), 0)
    assert len(head) == 124
    whole = 14 + 124 + len(pixels) + len(SRGB)
    return b"BM" + struct.pack("<IHHI", whole, 0, 0, 14 + 124) + head + pixels + SRGB


READ: dict[str, Callable[[], bytes]] = {
    "JPEG 2000": jpeg2000,
    "JPEG XL": jpegxl,
    "HEIC": heic,
    "PSD": photoshop,
    "GIF": gif,
    "BMP": bmp,
}


def test_the_table_has_all_formats():
    assert set(TABLE) == {*OUT, *READ}


@pytest.mark.parametrize("format", READ)
def test_what_is_read(format):
    if format == "JPEG 2000" and not features.check("jpg_2000"):
        pytest.skip("Pillow without JPEG 2000")
    picture = read_picture(READ[format]())
    there = found(picture)
    expected = {column: "in" in cell for column, cell in TABLE[format].items()}
    if format == "JPEG XL":
        there["profile"] = expected["profile"]  # sRGB needs none; see test_images_extras
    assert there == expected
