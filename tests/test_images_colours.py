"""Colours that a file signals elsewhere than in the profile that Pillow finds, seen through littleCMS."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageCms, TiffImagePlugin
from test_images_read import SRGB, chunk, encoded

from irnscale.images.boxes import primary_properties
from irnscale.images.profiles import Colours, profile
from irnscale.images.read import read_picture
from irnscale.images.write import FORMATS, encode_picture, encoding_notes

PIXELS = (np.arange(16 * 16 * 3).reshape(16, 16, 3) * 7 % 256).astype(np.uint8)
P3_POINTS = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
P3 = Colours(P3_POINTS[:2], P3_POINTS[2:])
P3_ICC = profile(P3)[0]
GRAY_ICC = profile(Colours(gamma=1.0, gray=True))[0]
# What these colours are in sRGB (by the matrices of the standards, without a profile)
P3_TO_SRGB = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])
BT2020_TO_SRGB = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
COLOUR = (200, 140, 100)


def srgb_light(x):
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def rec709_light(x):
    return np.where(x < 0.081, x / 4.5, ((x + 0.099) / 1.099) ** (1 / 0.45))


def expected(matrix, light):
    y = (matrix @ light(np.array(COLOUR) / 255)).clip(0, 1)
    return 255 * np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055)


def in_srgb(icc: bytes, colour=COLOUR):
    source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    mode = "L" if isinstance(colour, int) else "RGB"
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    return np.array(ImageCms.applyTransform(Image.new(mode, (1, 1), colour), transform).getpixel((0, 0)))


def png(*chunks: bytes, pixels=PIXELS, **options) -> bytes:
    data = encoded(Image.fromarray(pixels), "PNG", **options)
    return data[:33] + b"".join(chunks) + data[33:]


def cicp(*codes: int) -> bytes:
    return chunk(b"cICP", bytes(codes))


def gama(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 1e5)))


CHRM_P3 = chunk(b"cHRM", struct.pack(">8I", *(round(1e5 * v) for v in P3_POINTS)))


def avif(*codes: int) -> bytes:
    """Pillow's file says 1, 13, 6 with full range; primaries and transfer do not touch the pixels."""
    data = encoded(Image.fromarray(PIXELS), "AVIF", quality=100, subsampling="4:4:4")
    assert data.count(b"colrnclx") == 1
    return data.replace(b"colrnclx\0\x01\0\x0d", b"colrnclx" + struct.pack(">HH", *codes))


def jp2(colr: bytes, pixels=PIXELS) -> bytes:
    """With another colr box, in which the header and its box grow or shrink."""
    data = encoded(Image.fromarray(pixels), "JPEG2000", irreversible=False, no_jp2=False)
    header = data.index(b"jp2h") - 4
    length = int.from_bytes(data[header : header + 4], "big")
    old = data.index(b"colr") - 4
    old_length = int.from_bytes(data[old : old + 4], "big")
    new = struct.pack(">I4s", 8 + len(colr), b"colr") + colr
    length += len(new) - old_length
    return data[:header] + struct.pack(">I", length) + data[header + 4 : old] + new + data[old + old_length :]


def gif(icc: bytes) -> bytes:
    data = encoded(Image.fromarray(PIXELS).quantize(256), "GIF")
    start = 13 + 3 * 2 ** ((data[10] & 7) + 1)
    parts = [icc[k : k + 255] for k in range(0, len(icc), 255)]
    blocks = b"".join(bytes((len(part),)) + part for part in parts) + b"\0"
    return data[:start] + b"\x21\xff\x0bICCRGBG1012" + blocks + data[start:]


def bmp(kind: bytes, endpoints=(0,) * 9, gammas=(0,) * 3, icc: bytes = b"") -> bytes:
    rows = PIXELS[::-1, :, ::-1].tobytes()
    base = struct.pack("<IiiHHIIiiII", 124, 16, 16, 1, 24, 0, len(rows), 0, 0, 0, 0) + bytes(16)
    fixed = struct.pack("<9i", *(round(v * 2**30) for v in endpoints))
    fixed += struct.pack("<3I", *(round(g * 65536) for g in gammas))
    tail = struct.pack("<IIII", 4, 124 + len(rows) if icc else 0, len(icc), 0)
    body = base + kind[::-1] + fixed + tail + rows + icc
    return b"BM" + struct.pack("<IHHI", 14 + len(body), 0, 0, 138) + body


def endpoints(points):
    """XYZ of the three primaries, whose sum is the white point."""
    xyz = np.array([(x, y, 1 - x - y) for x, y in zip(points[2::2], points[3::2], strict=True)]).T
    white = np.array([points[0], points[1], 1 - points[0] - points[1]]) / points[1]
    return tuple((xyz * np.linalg.solve(xyz, white)).T.ravel())


def tiff(tags: dict[int, object]) -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, value in tags.items():
        info.tagtype[tag] = 3 if tag == 301 else 5
        info[tag] = value
    return encoded(Image.fromarray(PIXELS), "TIFF", tiffinfo=info)


def transfer(exponent: float, channels: int = 3) -> tuple[int, ...]:
    return tuple(round(65535 * (k / 255) ** exponent) for k in range(256)) * channels


def photographed(format: str, space: int, index: str | None) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif.get_ifd(0x8769)[0xA001] = space
    if index is not None:
        exif.get_ifd(0x8769)[0xA005] = {1: index, 2: b"0100"}
    return encoded(Image.fromarray(PIXELS), format, exif=exif)


ADOBE_TO_SRGB = np.array([[1.3984, -0.3984, 0], [0, 1, 0], [0, -0.0429, 1.0429]])
ADOBE = expected(ADOBE_TO_SRGB, lambda x: x ** (563 / 256))
SIGNALS = {
    "tiff chromaticities": (lambda: tiff({318: P3_POINTS[:2], 319: P3_POINTS[2:]}), expected(P3_TO_SRGB, srgb_light)),
    "tiff transfer": (lambda: tiff({301: transfer(1.8)}), expected(np.eye(3), lambda x: x**1.8)),
    "tiff both": (lambda: tiff({301: transfer(1, 1), 319: P3_POINTS[2:]}), expected(P3_TO_SRGB, lambda x: x)),
    "jpeg R03": (lambda: photographed("JPEG", 0xFFFF, "R03"), ADOBE),
    "jpeg 2": (lambda: photographed("JPEG", 2, None), ADOBE),
    "tiff R03": (
        lambda: encode_picture(replace(read_picture(photographed("JPEG", 0xFFFF, "R03")), icc=None), "tiff"),
        ADOBE,
    ),
    "png cICP P3": (lambda: png(cicp(12, 13, 0, 1)), expected(P3_TO_SRGB, srgb_light)),
    "png cICP 2020": (lambda: png(cicp(9, 1, 0, 1)), expected(BT2020_TO_SRGB, rec709_light)),
    "png cICP before iCCP": (lambda: png(cicp(12, 13, 0, 1), icc_profile=SRGB), expected(P3_TO_SRGB, srgb_light)),
    "png gAMA linear": (lambda: png(gama(1)), expected(np.eye(3), lambda x: x)),
    "png gAMA 1.8": (lambda: png(gama(1 / 1.8)), expected(np.eye(3), lambda x: x**1.8)),
    "png cHRM": (lambda: png(CHRM_P3), expected(P3_TO_SRGB, srgb_light)),
    "png cHRM gAMA": (lambda: png(gama(0.45455), CHRM_P3), expected(P3_TO_SRGB, lambda x: x**2.2)),
    "png iCCP before gAMA": (lambda: png(gama(1), icc_profile=P3_ICC), expected(P3_TO_SRGB, srgb_light)),
    "avif P3": (lambda: avif(12, 13), expected(P3_TO_SRGB, srgb_light)),
    "avif 2020": (lambda: avif(9, 14), expected(BT2020_TO_SRGB, rec709_light)),
    "jp2 restricted": (lambda: jp2(b"\2\0\0" + P3_ICC), expected(P3_TO_SRGB, srgb_light)),
    "jp2 any": (lambda: jp2(b"\3\0\0" + P3_ICC), expected(P3_TO_SRGB, srgb_light)),
    "gif": (lambda: gif(P3_ICC), expected(P3_TO_SRGB, srgb_light)),
    "bmp V5": (lambda: bmp(b"MBED", icc=P3_ICC), expected(P3_TO_SRGB, srgb_light)),
    "bmp V4": (
        lambda: bmp(bytes(4), endpoints(P3_POINTS), (2.2, 2.2, 2.2)),
        expected(P3_TO_SRGB, lambda x: x**2.2),
    ),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_becomes_a_profile_in_every_format(name):
    make, colour = SIGNALS[name]
    picture = read_picture(make())
    assert np.abs(in_srgb(picture.icc) - colour).max() <= 1.5
    assert in_srgb(picture.icc, (255, 255, 255)).min() >= 254
    assert picture.notes == ()
    for format in FORMATS:
        with Image.open(io.BytesIO(encode_picture(picture, format))) as image:
            assert image.info["icc_profile"] == picture.icc


@pytest.mark.parametrize(
    "make",
    [
        lambda: png(cicp(1, 13, 0, 1)),
        lambda: png(chunk(b"sRGB", b"\0"), gama(1)),
        lambda: png(gama(0.45455)),
        lambda: avif(1, 13),
        lambda: avif(2, 2),
        lambda: photographed("JPEG", 1, "R98"),
        lambda: photographed("JPEG", 1, "R03"),
        lambda: photographed("JPEG", 0xFFFF, None),
        lambda: tiff({318: P3_POINTS[:2], 319: (0.64, 0.33, 0.3, 0.6, 0.15, 0.06)}),
        lambda: tiff({318: (0, 0), 319: (0,) * 6}),
        lambda: tiff({301: (0,) * 768}),
        lambda: bmp(b"sRGB"),
        lambda: bmp(bytes(4)),
    ],
)
def test_what_says_srgb_gets_no_profile(make):
    picture = read_picture(make())
    assert (picture.icc, picture.cicp, picture.notes) == (None, None, ())


@pytest.mark.parametrize("make", [lambda: png(cicp(9, 16, 0, 1)), lambda: avif(9, 16), lambda: avif(12, 18)])
def test_high_dynamic_range_is_carried_or_told(make):
    picture = read_picture(make())
    codes = picture.cicp
    assert (picture.icc, picture.notes, codes[1] in (16, 18)) == (None, (), True)
    assert chunk(b"cICP", bytes((*codes, 0, 1))) in encode_picture(picture, "png")
    assert encoding_notes(picture, "png") == encoding_notes(picture, "avif") == ()
    again = encode_picture(picture, "avif", quality=100)
    assert dict(primary_properties(again))[b"colr"][4:8] == struct.pack(">HH", *codes)
    with Image.open(io.BytesIO(again)) as image:  # the matrix is that of the pixels still
        assert np.abs(np.asarray(image).astype(int) - picture.pixels).mean() < 3
    for format in ("jpg", "tiff", "webp"):
        assert "high dynamic range" in encoding_notes(picture, format)[0]
    assert read_picture(encode_picture(picture.stripped("all"), "png")).cicp is None


@pytest.mark.parametrize("deep", [False, True])
def test_narrow_range_is_made_full(deep):
    """16 and 235 of 8 bits are black and white, 4096 and 60160 of 16; what lies beyond is cut off."""
    pixels = np.array([[[0, 16, 17], [125, 126, 234], [235, 236, 255]]], np.uint8)
    if deep:
        data = pytest.importorskip("imagecodecs").png_encode(pixels.astype(np.uint16) << 8)
        data = data[:33] + cicp(9, 16, 0, 0) + data[33:]
    else:
        data = png(cicp(9, 16, 0, 0), pixels=pixels)
    picture = read_picture(data)
    top = 65535 if deep else 255
    wanted = ((pixels.astype(float) - 16) / 219).clip(0, 1) * top
    assert np.abs(picture.pixels - wanted).max() <= 0.5
    assert encode_picture(picture, "png").count(b"cICP" + bytes((9, 16, 0, 1))) == 1, "which says full"


def test_high_dynamic_range_of_16_bits():
    pytest.importorskip("imagecodecs")
    picture = read_picture(png(cicp(9, 16, 0, 1)))
    deep = picture.with_pixels(picture.pixels.astype(np.uint16) * 257)
    assert read_picture(encode_picture(deep, "png")).cicp == (9, 16)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: png(cicp(12, 13, 0, 0)), "narrow range"),
        (lambda: png(cicp(77, 13, 0, 1)), "not known"),
        (lambda: avif(9, 99), "not known"),
        (lambda: jp2(b"\1\0\0" + struct.pack(">I", 20)), "not known"),
        (lambda: bmp(b"LINK"), "another file"),
        (lambda: gif(P3_ICC[:-20]), "damaged"),
        (lambda: bmp(b"MBED", icc=P3_ICC[:99]), "damaged"),
        (lambda: jp2(b"\2\0\0" + P3_ICC[:200]), "damaged"),
        (lambda: jp2(b"\2\0\0" + P3_ICC, PIXELS[..., 0]), ""),
    ],
)
def test_what_cannot_be_said_is_told(make, word):
    notes = read_picture(make()).notes
    assert len(notes) == bool(word)
    assert all(word in note for note in notes)


def iccp(content: bytes) -> bytes:
    return chunk(b"iCCP", b"x\0\0" + content)


@pytest.mark.parametrize(
    "make",
    [
        lambda: png(iccp(zlib.compress(P3_ICC)[:-90])),
        lambda: png(iccp(b"junk")),
        lambda: png(iccp(zlib.compress(P3_ICC[:300]))),
        lambda: encoded(Image.fromarray(PIXELS), "JPEG", icc_profile=bytes(40)),
        lambda: missing_segment(),
        lambda: encoded(Image.fromarray(PIXELS), "WEBP", lossless=True, icc_profile=b"junk"),
        lambda: encoded(Image.fromarray(PIXELS), "TIFF", icc_profile=b"junk"),
    ],
)
def test_a_damaged_profile_is_dropped_and_told(make):
    picture = read_picture(make())
    assert (picture.icc, picture.notes) == (None, ("its colour profile is damaged and was dropped",))


def missing_segment() -> bytes:
    data = encoded(Image.fromarray(PIXELS), "JPEG", icc_profile=SRGB + bytes(70000))
    start = data.index(b"\xff\xe2")
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("icc", [P3_ICC, GRAY_ICC, SRGB])
@pytest.mark.parametrize("source", ["PNG", "JPEG", "TIFF"])
def test_a_profile_fits_the_pixels_that_are_written(source, icc, format):
    """Of RGB in gray files and the reverse: the gray axis looks the same; libpng would ignore what does not fit."""
    gray = Image.fromarray(PIXELS[..., 0])
    picture = read_picture(encoded(gray, source, icc_profile=icc))
    assert picture.notes == ()
    with Image.open(io.BytesIO(encode_picture(picture, format))) as image:
        written = image.info["icc_profile"]
        assert written[16:20] == (b"GRAY" if image.mode == "L" else b"RGB ")
        value = 128 if image.mode == "L" else (128,) * 3
    assert np.abs(in_srgb(written, value) - (188 if icc == GRAY_ICC else 128)).max() <= 1
    assert encoding_notes(picture, format) == ()


def test_gray_gamma():
    picture = read_picture(png(gama(1), pixels=PIXELS[..., 0]))
    assert np.abs(in_srgb(picture.icc, 128) - 188).max() <= 1
