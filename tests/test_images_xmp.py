"""XMP in every encoding and place that the formats allow."""

from __future__ import annotations

import pytest
from conftest import synthetic_photo
from PIL import Image
from test_images_read import encoded
from tiff_files import Entry, gray_tiff
from xmp_packets import packet, wrapped

from irnscale.images.read import read_header, read_picture
from irnscale.images.write import encode_picture
from irnscale.images.xmp_document import as_utf8

CITY = "<photoshop:City>Zürich 東京</photoshop:City>"
DAMAGED = ("its XMP packet is damaged and was dropped",)
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
