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

from irnscale.images.iptc import PNG_KEYWORD, photoshop_segment, png_profile
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
    segment = photoshop_segment(block)
    assert segment is not None
    return encoded(photo(), "JPEG", extra=segment)


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
    assert "64 KiB" in encoding_notes(both, "jpg")[0]
    assert read_picture(encode_picture(both, "jpg")).iptc is None


@pytest.mark.parametrize(
    "block", [b"\x1c", b"\x1c\x02\x78\xff\xff", KEPT[:-1], KEPT + b"junk", b"\x1c\x02\x78\x80\x04"]
)
def test_a_damaged_block_costs_only_itself(block):
    picture = read_picture(jpeg(block))
    assert picture.iptc is None
    assert picture.notes == ("its IPTC block is damaged and was dropped",)


def test_only_sizes_and_previews_leave_nothing():
    assert read_picture(jpeg(STALE)).iptc is None
