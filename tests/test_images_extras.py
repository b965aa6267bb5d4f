"""What optional packages decode, and what is said where they are not installed."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import synthetic_photo
from hypothesis import given
from hypothesis import strategies as st
from jpegxl_files import PIXELS, jpegxl
from PIL import Image, ImageCms

from irnscale.errors import InputError, UsageError
from irnscale.images import opening, optional_decoders, write
from irnscale.images.jpegxl import jpegxl_header
from irnscale.images.read import read_header, read_picture
from irnscale.images.write import encode_picture


@pytest.fixture
def codecs():
    """imagecodecs, or a skip."""
    return pytest.importorskip("imagecodecs")


@pytest.fixture
def tifffile():
    """tifffile, or a skip."""
    return pytest.importorskip("tifffile")


def deep(height: int = 9, width: int = 14, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65536, (height, width, channels), np.uint16)


@given(st.integers(1, 2500), st.integers(1, 2500))
def test_the_size_of_a_jpeg_xl_is_known_without_decoding_it(width, height):
    codecs = pytest.importorskip("imagecodecs")
    data = codecs.jpegxl_encode(np.zeros((height, width), np.uint8), effort=1)
    header = jpegxl_header(data)
    assert (header.width, header.height, header.orientation, header.animated) == (width, height, 1, False)


@pytest.mark.parametrize("container", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg_xl(codecs, channels, container):
    pixels = np.dstack([synthetic_photo(10, 15), np.arange(150, dtype=np.uint8).reshape(10, 15)])[..., :channels]
    data = codecs.jpegxl_encode(np.squeeze(pixels), lossless=True, usecontainer=container)
    header = read_header(data)
    assert (header.width, header.height, header.format) == (15, 10, "jxl")
    picture = read_picture(data)
    assert picture.gray == (channels == 1)
    np.testing.assert_array_equal(picture.pixels[..., : min(channels, 3)], pixels[..., :3])
    deep = codecs.jpegxl_encode(np.squeeze(pixels).astype(np.uint16) * 257, lossless=True)
    np.testing.assert_array_equal(read_picture(deep).pixels, picture.pixels.astype(np.uint16) * 257)
    if channels == 4:
        np.testing.assert_array_equal(picture.alpha, pixels[..., 3])


def of_srgb(icc: bytes, *colour: int) -> list[int]:
    """An sRGB colour in the numbers of another profile."""
    profiles = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(icc))
    patch = ImageCms.profileToProfile(Image.new("RGB", (1, 1), colour), *profiles, renderingIntent=1)
    return np.asarray(patch)[0, 0].astype(int).tolist()


@pytest.mark.parametrize(
    ("name", "red"),
    [
        ("p3", (234, 51, 35)),
        ("alpha p3", (234, 51, 35)),
        ("animated p3", (234, 51, 35)),
        ("turned p3", (234, 51, 35)),
        ("p3 lossy", (234, 51, 35)),
        ("rec2020", (202, 59, 19)),
        ("linear", (255, 0, 0)),
        ("custom", (179, 70, 26)),
    ],
)
def test_the_colours_of_a_jpeg_xl_become_a_profile(codecs, name, red):
    data = jpegxl(name)
    picture = read_picture(data, frames="first")
    with opening.open_source(data) as image:
        assert image.info["icc_profile"] == picture.icc
    assert np.abs(np.subtract(of_srgb(picture.icc, 255, 0, 0), red)).max() <= 1
    assert of_srgb(picture.icc, 128, 128, 128)[0] == pytest.approx(
        {"linear": 55, "custom": 109, "rec2020": 115}.get(name, 128), abs=1
    )
    assert not any("colours" in note for note in picture.notes)
    expected = np.rot90(PIXELS, -1) if name == "turned p3" else PIXELS
    assert np.abs(picture.pixels.astype(int) - expected).mean() <= (3 if name == "p3 lossy" else 0)
    assert len(picture.icc) < 3000


def test_high_dynamic_range_of_a_jpeg_xl_is_carried_by_its_codes(codecs):
    picture = read_picture(jpegxl("pq"))
    assert (picture.icc, picture.cicp, picture.notes) == (None, (9, 16), ())
    assert encode_picture(picture, "png").count(b"cICP\x09\x10\0\1") == 1


@pytest.mark.parametrize(
    ("name", "word", "error"),
    [("icc", "taken for sRGB", 0), ("icc lossy", "converted to sRGB", 12)],
)
def test_colours_of_a_jpeg_xl_that_are_lost_are_told(codecs, name, word, error):
    picture = read_picture(jpegxl(name))
    assert picture.icc is None
    assert len(picture.notes) == 1
    assert word in picture.notes[0]
    assert np.abs(picture.pixels.astype(int) - PIXELS).mean() <= error, "not the linear light that libjxl gives"


def test_a_jpeg_in_jpeg_xl_keeps_its_profile(codecs):
    data = jpegxl("jpeg")
    picture = read_picture(data)
    jpeg = read_picture(codecs.jpegxl_decode_jpeg(data))
    assert (picture.icc, picture.notes) == (jpeg.icc, ())
    assert picture.icc
    assert np.abs(picture.pixels.astype(int) - jpeg.pixels).mean() < 2


def test_a_jpeg_xl_bomb_is_refused_before_it_is_decoded(codecs, monkeypatch):
    data = codecs.jpegxl_encode(np.zeros((3000, 3000), np.uint8), effort=1)
    monkeypatch.setattr(codecs, "jpegxl_decode", None)
    with pytest.raises(InputError, match="3000x3000 is more than the limit"):
        read_picture(data, max_pixels=10**6)


def test_damaged_jpeg_xl(codecs):
    data = codecs.jpegxl_encode(synthetic_photo(40, 40))
    for cut in (1, 2, 5, 30, len(data) // 2):
        with pytest.raises(InputError):
            read_picture(data[:cut])


@pytest.mark.parametrize(
    ("head", "package"),
    [
        (b"\xff\x0a" + bytes(40), "irnscale\\[io\\]"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "irnscale\\[io\\]"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "irnscale\\[heif\\]"),
        (b"\0\0\0\x18ftypmif1" + bytes(40), "irnscale\\[heif\\]"),
    ],
)
def test_missing_packages_are_named(head, package, monkeypatch):
    monkeypatch.setattr(opening, "has_io", lambda: False)
    monkeypatch.setattr(opening, "has_heif", lambda: False)
    with pytest.raises(InputError, match=package):
        read_picture(head)


def test_depth_16_as_png_without_its_package(monkeypatch):
    monkeypatch.setattr(optional_decoders, "has_io", lambda: False)
    with pytest.raises(UsageError, match=r"irnscale\[io\]"):
        write.check_options("png", None, None, 16)
    write.check_options("tiff", None, None, 16)
    with pytest.raises(UsageError, match="8 bits"):
        write.check_options("jpg", None, None, 16)


def test_heic():
    heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    photo = synthetic_photo(48, 64)
    heif.from_pillow(Image.fromarray(photo)).save(file, quality=95)
    picture = read_picture(file.getvalue())
    assert picture.pixels.shape == (48, 64, 3)
    assert np.abs(picture.pixels.astype(int) - photo).mean() < 6


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"byteorder": ">"}])
@pytest.mark.parametrize("compression", [None, "deflate"])
def test_16_bit_tiff(codecs, tifffile, options, compression):
    pixels = deep(20, 37)
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb", compression=compression, **options)
    picture = read_picture(file.getvalue())
    assert (picture.depth, picture.notes) == (16, ())
    np.testing.assert_array_equal(picture.pixels, pixels)


@pytest.mark.parametrize("associated", [False, True])
def test_alpha_of_a_16_bit_tiff(codecs, tifffile, associated):
    pixels = deep(8, 8, 4)
    pixels[0, 0, 3] = 0
    stored = pixels.copy()
    if associated:
        stored[..., :3] = np.rint(pixels[..., :3] * (pixels[..., 3:] / 65535.0))
    file = io.BytesIO()
    tifffile.imwrite(file, stored, photometric="rgb", extrasamples=["assocalpha" if associated else "unassalpha"])
    picture = read_picture(file.getvalue())
    np.testing.assert_array_equal(picture.alpha, pixels[..., 3])
    opaque = pixels[..., 3] > 20000
    assert np.abs(picture.pixels.astype(int) - pixels[..., :3])[opaque].max() <= (2 if associated else 0)


def test_orientation_of_a_16_bit_tiff(codecs, tifffile):
    pixels = deep()
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb", extratags=[(274, "H", 1, 6, True)])
    np.testing.assert_array_equal(read_picture(file.getvalue()).pixels, np.rot90(pixels, -1))
    header = read_header(file.getvalue())
    assert (header.width, header.height) == (9, 14)


def test_lab_is_converted():
    gray = Image.new("LAB", (4, 4), (128, 128, 128))
    file = io.BytesIO()
    gray.save(file, "TIFF")
    picture = read_picture(file.getvalue())
    assert picture.notes == ("CIE L*a*b* converted to sRGB",)
    assert picture.pixels.std() < 2
    assert 100 < picture.pixels.mean() < 140
