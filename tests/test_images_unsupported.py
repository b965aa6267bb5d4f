"""Valid files that are not supported are called so by their feature; damaged means damaged."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from conftest import synthetic_photo
from PIL import Image, features

from irnscale.errors import InputError
from irnscale.images.read import read_picture

PHOTO = synthetic_photo(16, 24)


def tiff(*pages: tuple[np.ndarray, dict], **options) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as writer:
        for pixels, how in pages:
            writer.write(pixels, **({"photometric": "rgb" if pixels.ndim == 3 else "minisblack"} | how))
    return file.getvalue()


def refused(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        read_picture(data, "a")
    text = str(caught.value)
    assert "damaged" not in text
    assert "download" not in text
    assert "not supported" in text
    return text


GRAY_ALPHA = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}


@pytest.mark.parametrize(
    ("pixels", "how", "words"),
    [
        (PHOTO[..., :2].astype(np.uint16), GRAY_ALPHA, "a TIFF of 16-bit gray with alpha"),
        (PHOTO.astype(np.float32), {}, "32-bit floating-point RGB"),
        (PHOTO.astype(np.uint32), {}, "32-bit RGB"),
        (PHOTO.astype(np.int16), {}, "16-bit signed RGB"),
        (PHOTO.view(np.int8), {}, "8-bit signed RGB"),
        (PHOTO[..., 0].astype(np.float16), {}, "16-bit floating-point gray"),
        (PHOTO[..., 0].astype(np.float64), {}, "64-bit floating-point gray"),
        (PHOTO[..., 0].astype(np.uint64), {}, "64-bit gray"),
        (PHOTO[..., 0].astype(np.complex64), {}, "64-bit complex gray"),
        (PHOTO, {"compression": "jpegxl"}, "compressed by JPEG XL"),
        (PHOTO, {"compression": "jpeg2000"}, "compressed by JPEG 2000"),
        (PHOTO, {"compression": "lerc"}, "compressed by LERC"),
        (PHOTO, {"compression": "png"}, "compressed by PNG"),
    ],
)
def test_tiffs_of_other_kinds(pixels, how, words):
    pytest.importorskip("imagecodecs")
    data = tiff((pixels, how))
    np.testing.assert_array_equal(pytest.importorskip("tifffile").imread(io.BytesIO(data)), pixels)
    assert words in refused(data)


@pytest.mark.parametrize("pixels", [PHOTO, PHOTO[..., 0], PHOTO.astype(np.uint16)])
def test_bigtiff_in_the_other_order(pixels):
    assert "BigTIFF" in refused(tiff((pixels, {}), byteorder=">", bigtiff=True))
    read_picture(tiff((pixels[..., :1].repeat(3, axis=2) if pixels.ndim == 3 else pixels, {}), bigtiff=True))


def test_unsigned_32_bits_in_the_other_order():
    assert "32-bit gray" in refused(tiff((PHOTO[..., 0].astype(np.uint32), {}), byteorder=">"))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_tiffs_that_are_read_are_damaged_where_they_are(kind, compression):
    if compression == "lzw":
        pytest.importorskip("imagecodecs")
    data = tiff((PHOTO[..., 0].astype(kind), {"compression": compression}))
    assert read_picture(data).gray
    with pytest.raises(InputError, match=r"damaged|truncated"):
        read_picture(data[:-200] if compression is None else data.replace(data[-60:], b"\xff" * 60))


def jpeg(marker: int = 0xC0, precision: int = 8) -> bytes:
    """A JPEG whose frame says another kind than its bits are of."""
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "JPEG", quality=90)
    data = file.getvalue()
    at = data.index(b"\xff\xc0")
    return data[: at + 1] + bytes([marker]) + data[at + 2 : at + 4] + bytes([precision]) + data[at + 5 :]


def test_jpegs_of_other_kinds():
    imagecodecs = pytest.importorskip("imagecodecs")
    deep = imagecodecs.jpeg_encode(PHOTO.astype(np.uint16) * 16, bitspersample=12)
    assert imagecodecs.jpeg_decode(deep).max() > 255
    assert "a JPEG of 12 bits per channel" in refused(deep)
    whole = imagecodecs.jpegls_encode(PHOTO)
    np.testing.assert_array_equal(imagecodecs.jpegls_decode(whole), PHOTO)
    assert "a JPEG-LS picture" in refused(whole)
    assert "hierarchical" in refused(jpeg(0xC5))
    assert "12 bits" in refused(jpeg(precision=12))
    for broken in (jpeg()[:300], jpeg(precision=9)[:20], jpeg(precision=77)):
        with pytest.raises(InputError, match=r"damaged|truncated|bits"):
            read_picture(broken)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize(("matrix", "words"), [(10, "BT.2020 of constant luminance"), (13, "constant"), (14, "ICtCp")])
def test_avif_of_a_matrix_that_is_not_converted(matrix, words):
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "AVIF", quality=80)
    data = file.getvalue()
    at = data.index(b"nclx")
    assert words in refused(data[: at + 8] + struct.pack(">H", matrix) + data[at + 10 :])
    assert read_picture(data).pixels.shape == PHOTO.shape


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


@pytest.mark.parametrize("brand", [b"mif1", b"mif2", b"heic"])
@pytest.mark.parametrize(("item", "words"), [(b"unci", "uncompressed"), (b"j2k1", "JPEG 2000"), (b"vvc1", "VVC")])
def test_heif_of_other_codecs(brand, item, words):
    entry = box(b"infe", b"\2\0\0\0" + struct.pack(">HH", 1, 0) + item + b"\0")
    handler = box(b"hdlr", bytes(8) + b"pict" + bytes(13))
    first = box(b"pitm", bytes(4) + struct.pack(">H", 1))
    meta = box(b"meta", bytes(4) + handler + first + box(b"iinf", bytes(4) + struct.pack(">H", 1) + entry))
    text = refused(box(b"ftyp", brand + bytes(4) + brand + b"mif1") + meta + box(b"mdat", bytes(64)))
    assert words in text
    assert item.decode() in text


MASK = {"subfiletype": 4}


@pytest.mark.parametrize("photometric", ["minisblack", "mask"])
def test_a_mask_is_no_page(photometric):
    picture = read_picture(tiff((PHOTO, {}), (PHOTO[..., 0] > 128, MASK | {"photometric": photometric})))
    np.testing.assert_array_equal(picture.pixels, PHOTO)
    assert picture.notes == ("a page that masks it is dropped",)


def test_a_smaller_version_is_no_page():
    data = tiff((PHOTO, {}), (PHOTO[::2, ::2], {"subfiletype": 1}), (PHOTO[::4, ::4], {"subfiletype": 1}))
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels, PHOTO)
    assert picture.notes == ()


@pytest.mark.parametrize("second", [PHOTO, PHOTO[..., 0].astype(np.float64)])
def test_other_pages_are_pages(second):
    data = tiff((PHOTO, {}), (PHOTO[::2, ::2], {"subfiletype": 1}), (second, {}), (PHOTO[..., 0] > 9, MASK))
    with pytest.raises(InputError, match="has 2 frames or pages"):
        read_picture(data)
    np.testing.assert_array_equal(read_picture(data, frames="first").pixels, PHOTO)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nTUPLTYPE GRAYSCALE\nENDHDR\n\0", "a PAM picture"),
        (b"PF\n1 1\n-1.0\n" + bytes(12), "a PFM picture in colour"),
        (b"v/1\x01\x02\0\0\0", "an OpenEXR picture"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n", "a Radiance HDR picture"),
        (b"II\xbc\x01\x20\0\0\0", "a JPEG XR picture"),
        (b"gimp xcf v011\0", "a GIMP project"),
    ],
)
def test_formats_that_are_not_read_are_called_by_name(head, words):
    assert words in refused(head + bytes(64))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"<!DOCTYPE html>\n<html><body>404", "web page"),
        (b"\n  <HTML lang=en>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS"),
        (b"PK\x03\x04" + bytes(30), "ZIP"),
        (b"\x1f\x8b\x08" + bytes(30), "gzip"),
    ],
)
def test_what_is_no_picture_is_called_what_it_is(head, words):
    with pytest.raises(InputError, match=words) as caught:
        read_picture(head, "photo.jpg")
    assert "damaged" not in str(caught.value)


def test_a_bmp_of_another_layout_is_not_called_damaged():
    """Red in the lowest byte of 32 bits, which Pillow does not read."""
    pixels = bytes(range(64)) * 4
    masks = struct.pack("<III", 0xFF, 0xFF00, 0xFF0000)
    info = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 32, 3, len(pixels), 2835, 2835, 0, 0) + masks
    data = b"BM" + struct.pack("<IHHI", 14 + len(info) + len(pixels), 0, 0, 14 + len(info)) + info + pixels
    with pytest.raises(InputError, match="not supported"):
        read_picture(data, "a.bmp")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_truncated_avif_is_not_for_want_of_a_decoder(share):
    file = io.BytesIO()
    Image.fromarray(PHOTO).save(file, "AVIF")
    data = file.getvalue()
    with pytest.raises(InputError, match="truncated") as caught:
        read_picture(data[: int(len(data) * share)], "a.avif")
    assert "install" not in str(caught.value)
