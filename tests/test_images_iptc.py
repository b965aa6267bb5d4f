"""IPTC blocks: kept in every format that has a place for them, without what no longer fits the pixels."""

from __future__ import annotations

import dataclasses
import io
import struct

import numpy as np
import pytest
from conftest import synthetic_photo
from PIL import Image, IptcImagePlugin, PngImagePlugin, TiffImagePlugin
from test_images_read import encoded
from tiff_files import Entry, gray_tiff

from irnscale.images.iptc import PNG_KEYWORD, photoshop_segments, png_profile
from irnscale.images.read import read_picture
from irnscale.images.write import encode_picture, encoding_notes

CAPTION = "Grüße".encode()


def data_set(record: int, number: int, content: bytes) -> bytes:
    return struct.pack(">BBBH", 0x1C, record, number, len(content)) + content


KEPT = data_set(1, 90, b"\x1b%G") + data_set(2, 120, CAPTION) + data_set(2, 25, b"sea")
STALE = data_set(2, 202, b"preview") + data_set(3, 20, b"\0\x28") + data_set(8, 10, b"picture")
LONG = struct.pack(">BBBHI", 0x1C, 2, 120, 0x8004, 40_000) + bytes(40_000)


def photo() -> Image.Image:
    return Image.fromarray(synthetic_photo(12, 20))


def jpeg(block: bytes) -> bytes:
    return encoded(photo(), "JPEG", extra=photoshop_segments(block))


def sources(block: bytes) -> dict[str, bytes]:
    """A file of each kind, with the block where other programs put it."""
    tiff = TiffImagePlugin.ImageFileDirectory_v2()
    tiff.tagtype[33723] = 7
    tiff[33723] = block
    shop = TiffImagePlugin.ImageFileDirectory_v2()
    shop.tagtype[34377] = 7
    other = b"8BIM\x03\xed\x03abc" + struct.pack(">I", 3) + b"xyz\0"
    shop[34377] = other + b"8BIM\x04\x04\0\0" + struct.pack(">I", len(block)) + block
    texts = PngImagePlugin.PngInfo()
    texts.add_text(PNG_KEYWORD, png_profile(block), zip=True)
    return {
        "jpg": jpeg(block),
        "tiff": encoded(photo(), "TIFF", tiffinfo=tiff),
        "tiff of Photoshop": encoded(photo(), "TIFF", tiffinfo=shop),
        "png": encoded(photo(), "PNG", pnginfo=texts),
    }


@pytest.mark.parametrize("source", sources(KEPT))
@pytest.mark.parametrize("target", ["jpg", "tiff", "png"])
def test_kept_where_there_is_a_place(source, target):
    picture = read_picture(sources(KEPT + STALE)[source])
    assert picture.iptc == KEPT
    assert picture.notes == ()
    assert encoding_notes(picture, target) == ()
    again = read_picture(encode_picture(picture, target))
    assert again.iptc == KEPT
    assert read_picture(encode_picture(picture.stripped("metadata"), target)).iptc is None
    if target == "jpg":
        with Image.open(io.BytesIO(encode_picture(picture, target))) as image:
            assert (IptcImagePlugin.getiptcinfo(image) or {})[2, 120] == CAPTION


def test_kept_in_a_png_of_16_bits():
    pytest.importorskip("imagecodecs")
    pytest.importorskip("tifffile")
    picture = read_picture(jpeg(KEPT))
    deep = picture.with_pixels(picture.pixels.astype(np.uint16) * 257)
    again = read_picture(encode_picture(deep, "png"))
    assert (again.iptc, again.depth) == (KEPT, 16)


@pytest.mark.parametrize("target", ["webp", "avif"])
def test_told_where_there_is_no_place(target):
    assert "no place for it" in encoding_notes(read_picture(jpeg(KEPT)), target)[0]


def test_long_data_sets():
    picture = read_picture(jpeg(LONG))
    assert picture.iptc == LONG
    both = dataclasses.replace(picture, iptc=LONG + LONG)
    assert encoding_notes(both, "jpg") == ()
    written = encode_picture(both, "jpg")
    assert written.count(b"\xff\xed") == 2
    assert read_picture(written).iptc == LONG + LONG


def app13(content: bytes) -> bytes:
    content = b"Photoshop 3.0\0" + content
    return b"\xff\xed" + struct.pack(">H", 2 + len(content)) + content


OTHER = b"8BIM\x03\xed\x03abc" + struct.pack(">I", 3) + b"xyz\0"
RESOURCE = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(KEPT)) + KEPT + bytes(len(KEPT) % 2)


@pytest.mark.parametrize(
    "segments",
    {
        "alone in the second": [OTHER, RESOURCE],
        "alone in the first": [RESOURCE, OTHER],
        "over both": [OTHER + RESOURCE[:20], RESOURCE[20:]],
        "over both in its head": [OTHER + RESOURCE[:7], RESOURCE[7:]],
        "over three": [OTHER[:5], OTHER[5:] + RESOURCE[:30], RESOURCE[30:]],
        "behind one without padding": [OTHER[:-1], RESOURCE],
        "behind PhotoDeluxe's": [OTHER.replace(b"8BIM", b"PHUT") + RESOURCE],
        "behind an empty one": [b"8BIM\x04\x04\0\0\0\0\0\0" + RESOURCE],
    }.items(),
    ids=lambda named: named[0],
)
def test_iptc_in_several_segments(segments):
    picture = read_picture(encoded(photo(), "JPEG", extra=b"".join(map(app13, segments[1]))))
    assert (picture.iptc, picture.notes) == (KEPT, ())


def test_a_resource_that_claims_more_than_there_is():
    lying = RESOURCE.replace(struct.pack(">I", len(KEPT)), b"\xff\xff\xff\xff")
    picture = read_picture(encoded(photo(), "JPEG", extra=app13(lying[:-4])))
    assert (picture.iptc, picture.notes) == (None, ("its IPTC block is damaged and was dropped",))


@pytest.mark.parametrize(
    "block", [b"\x1c", b"\x1c\x02\x78\xff\xff", KEPT[:-1], KEPT + b"junk", b"\x1c\x02\x78\x80\x04"]
)
def test_a_damaged_block_costs_only_itself(block):
    picture = read_picture(jpeg(block))
    assert picture.iptc is None
    assert picture.notes == ("its IPTC block is damaged and was dropped",)


def test_only_sizes_and_previews_leave_nothing():
    assert read_picture(jpeg(STALE)).iptc is None


def padded(block: bytes) -> bytes:
    return block + bytes(-len(block) % 4)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [1, 2, 3, 4, 7])
def test_iptc_in_tiff_of_any_type(order, kind, big):
    """LONG is what exiftool, ImageMagick and GIMP say of it; UNDEFINED or BYTE is what it is."""
    if big and order == ">":
        pytest.skip("Pillow opens no BigTIFF of that order")
    block = padded(KEPT)
    assert len(block) % 4 == 0
    assert read_picture(gray_tiff(order, [Entry(33723, kind, block)], big=big)).iptc == KEPT


@pytest.mark.parametrize("order", ["<", ">"])
def test_iptc_in_tiff_whose_writer_turned_the_longs(order):
    block = padded(KEPT)
    turned = b"".join(block[at : at + 4][::-1] for at in range(0, len(block), 4))
    assert read_picture(gray_tiff(order, [Entry(33723, 4, turned)])).iptc == KEPT


@pytest.mark.parametrize("kind", [1, 4, 7])
def test_photoshops_resources_in_tiff_of_any_type(kind):
    resource = b"8BIM\x04\x04\0\0" + struct.pack(">I", len(KEPT)) + KEPT
    assert read_picture(gray_tiff(">", [Entry(34377, kind, padded(resource))])).iptc == KEPT


@pytest.mark.parametrize("count", [2**30, 2**32 - 1, 10**6])
def test_a_tag_that_claims_more_than_the_file_has_is_told(count):
    whole = gray_tiff("<", [Entry(33723, 4, padded(KEPT))])
    lying = whole.replace(struct.pack("<HHI", 33723, 4, len(padded(KEPT)) // 4), struct.pack("<HHI", 33723, 4, count))
    assert lying != whole
    picture = read_picture(lying)
    assert picture.iptc is None
    assert picture.notes == ("its IPTC block is damaged and was dropped",)
