"""XMP in every encoding and place that the formats allow."""

from __future__ import annotations

import pytest
from conftest import synthetic_photo
from PIL import Image
from test_images_read import chunk, encoded
from tiff_files import Entry, gray_tiff
from xmp_packets import packet, wrapped

from irnscale.images.read import read_header, read_picture
from irnscale.images.write import FORMATS, encode_picture, encoding_notes
from irnscale.images.xmp_document import as_utf8

CITY = "<photoshop:City>Zürich 東京</photoshop:City>"
DAMAGED = ("its XMP packet is damaged and was dropped",)
TOO_LARGE = "its XMP packet has more than 16 MiB, or too many parts, and was dropped"
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32-be", "utf-32")


def photo() -> Image.Image:
    return Image.fromarray(synthetic_photo(12, 20))


def with_xmp(format: str, xmp: bytes) -> bytes:
    if format == "TIFF":
        return gray_tiff(">", [Entry(700, 4, xmp + bytes(-len(xmp) % 4))])
    return encoded(photo(), format, xmp=xmp)


@pytest.mark.parametrize("form", [wrapped, str, '<?xml version="1.0" encoding="UTF-16"?>\n{}'.format])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("format", ["JPEG", "WEBP", "TIFF"])
def test_every_encoding_that_xmp_may_have(format, encoding, form):
    if "8" in encoding and "xml version" in form(""):
        pytest.skip("it says that it is in another encoding")
    picture = read_picture(with_xmp(format, form(packet(CITY)).encode(encoding)))
    assert picture.notes == ()
    assert picture.xmp is not None
    assert CITY.encode() in picture.xmp
    assert CITY.encode() in read_picture(encode_picture(picture, "png")).xmp


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("attribute", ['tiff:Orientation="6"', "tiff:Orientation = '6'"])
def test_orientation_in_every_encoding(encoding, attribute):
    data = with_xmp("JPEG", wrapped(packet(attributes=" " + attribute)).encode(encoding))
    picture = read_picture(data)
    assert (picture.width, picture.height, picture.orientation) == (12, 20, 6)
    assert (read_header(data).width, read_header(data).orientation) == (12, 6)
    assert read_picture(encode_picture(picture, "jpg")).orientation == 1


@pytest.mark.parametrize(
    "xmp",
    [
        b"\xff\xfe" + b"<\0x\0",
        b"\xff\xfe\x00\xd8\x00\xd8",  # half a surrogate pair
        wrapped(packet(CITY)).encode("utf-16")[:-200],
        b"\xff\xfe\0\0\xff\xff\xff\xff",
        ("<!DOCTYPE a [<!ENTITY b 'c'>]>" + packet(CITY)).encode("utf-16"),
    ],
)
def test_damaged_packets_cost_only_themselves(xmp):
    picture = read_picture(with_xmp("JPEG", xmp))
    assert (picture.xmp, picture.notes) == (None, DAMAGED)


def test_utf8_stays_as_it_is():
    for text in (b"", b"\0", b"<x>\0\0", b"\0\0\0\0 <x>", packet(CITY).encode()):
        assert as_utf8(text) == text


@pytest.mark.parametrize("target", FORMATS)
def test_large_packets_are_kept_everywhere(target):
    """Above the 4 MiB that other texts of a PNG may have, too."""
    long = f"<photoshop:History>{'abcdefgh' * 600_000}</photoshop:History>"
    picture = read_picture(with_xmp("WEBP", packet(long).encode()))
    assert (picture.notes, encoding_notes(picture, target)) == ((), ())
    again = read_picture(encode_picture(picture, target))
    assert again.notes == ()
    assert long.encode() in again.xmp


@pytest.mark.parametrize("format", ["WEBP", "TIFF", "PNG"])
@pytest.mark.parametrize("inside", [" " * 2**24, "<a/>" * 200_000])
def test_too_large_packets_are_told(format, inside):
    large = packet(inside).encode()
    data = encoded(photo(), "PNG")
    text = chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + large)
    data = data[:-12] + text + data[-12:] if format == "PNG" else with_xmp(format, large)
    picture = read_picture(data)
    told = DAMAGED if format == "PNG" and len(large) > 2**24 else (TOO_LARGE,)
    assert (picture.xmp, picture.notes) == (None, told)


@pytest.mark.parametrize("content", [b"\0\1\0\0\0no zlib", bytes(5) + b"\xff\xff"])
def test_a_damaged_text_of_a_png_is_told_unless_another_has_the_packet(content):
    plain = encoded(photo(), "PNG")
    damaged = chunk(b"iTXt", b"XML:com.adobe.xmp" + content)
    whole = chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + packet(CITY).encode())
    picture = read_picture(plain[:-12] + damaged + plain[-12:])
    assert (picture.xmp, picture.notes) == (None, DAMAGED)
    for both in (damaged + whole, whole + damaged):
        picture = read_picture(plain[:-12] + both + plain[-12:])
        assert CITY.encode() in picture.xmp
        assert picture.notes == ()
