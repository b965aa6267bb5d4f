"""The clean aperture, put into the file by the test; the whole picture is decoded by Pillow or libheif alone."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image
from test_images_read import encoded

from irnscale.errors import InputError
from irnscale.images.inspect import describe
from irnscale.images.read import read_header, read_picture

PIXELS = (np.arange(24 * 32 * 4).reshape(24, 32, 4) * 5 % 256).astype(np.uint8)


def with_clap(data: bytes, *numbers: int) -> bytes:
    """The `colr` box of 19 bytes cannot hold it: a property is appended, which moves what iloc points to."""
    clap = struct.pack(">I4sIIIIiIiI", 40, b"clap", *numbers)
    for box in (b"meta", b"iprp", b"ipco"):
        at = data.index(box) - 4
        data = (
            data[:at]
            + struct.pack(">I", int.from_bytes(data[at : at + 4], "big") + 40 + (box != b"ipco"))
            + data[at + 4 :]
        )
    ipco = data.index(b"ipco") - 4
    end = ipco + int.from_bytes(data[ipco : ipco + 4], "big") - 40
    count, at = 0, ipco + 8
    while at < end:
        count, at = count + 1, at + int.from_bytes(data[at : at + 4], "big")
    ipma = data.index(b"ipma")
    entry = ipma + 4 + 8 + 2  # of the first item, after version, number of entries and its own number
    data = (
        data[: ipma - 4]
        + struct.pack(">I", int.from_bytes(data[ipma - 4 : ipma], "big") + 1)
        + data[ipma:entry]
        + bytes((data[entry] + 1,))
        + data[entry + 1 : entry + 1 + data[entry]]
        + bytes((0x80 | (count + 1),))
        + data[entry + 1 + data[entry] :]
    )
    data = data[:end] + clap + data[end:]
    iloc = data.index(b"iloc")
    for item in range(int.from_bytes(data[iloc + 10 : iloc + 12], "big")):  # of one extent each: 14 bytes
        at = iloc + 12 + 14 * item + 6
        offset = int.from_bytes(data[at : at + 4], "big")
        data = data[:at] + struct.pack(">I", offset + 41) + data[at + 4 :]
    return data


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize(
    ("numbers", "box"),
    [
        ((16, 1, 12, 1, 0, 1, 0, 1), (8, 6, 24, 18)),
        ((16, 1, 12, 1, -8, 1, 6, 1), (0, 12, 16, 24)),
        ((31, 1, 23, 1, 1, 2, -1, 2), (1, 0, 32, 23)),
        ((64, 2, 48, 2, 0, 7, 0, 7), (0, 0, 32, 24)),
    ],
)
def test_only_the_clean_aperture_is_shown(numbers, box, channels, tmp_path):
    plain = encoded(Image.fromarray(PIXELS[..., :channels]), "AVIF", quality=90)
    data = with_clap(plain, *numbers)
    with Image.open(io.BytesIO(plain)) as image:
        shown = np.asarray(image.crop(box))
    picture = read_picture(data)
    np.testing.assert_array_equal(picture.pixels, shown[..., :3])
    if channels == 4:
        np.testing.assert_array_equal(picture.alpha, shown[..., 3])
    path = tmp_path / "a.avif"
    path.write_bytes(data)
    for source in (data, path):
        header = read_header(source)
        assert (header.width, header.height) == (picture.width, picture.height)
    facts = describe(path)
    assert (facts["width"], facts["height"]) == (picture.width, picture.height)


IMPOSSIBLE = {
    (16, 0, 12, 1, 0, 1, 0, 1): "divides by 0",
    (40, 1, 12, 1, 0, 1, 0, 1): "40x12 at -4,6 is not within its 32x24 pixels",
    (16, 1, 12, 1, 9, 1, 0, 1): "16x12 at 17,6 is not within",
    (0, 1, 12, 1, 0, 1, 0, 1): "0x12 at 16,6 is not within",
    (16, 1, 12, 1, 1, 2, 0, 1): "not of whole pixels, which is not supported",
}


@pytest.mark.parametrize(("numbers", "reason"), IMPOSSIBLE.items())
def test_an_impossible_aperture_is_one_line(numbers, reason, tmp_path):
    path = tmp_path / "a.avif"
    path.write_bytes(with_clap(encoded(Image.fromarray(PIXELS[..., :3]), "AVIF"), *numbers))
    for read in (read_picture, read_header, describe):
        with pytest.raises(InputError, match=rf"a\.avif: .*clean aperture \(clap\).*{reason}") as caught:
            read(path)
        assert "damaged" not in str(caught.value)


def heic(*numbers: int) -> bytes:
    """A HEIC of 64 x 48 pixels that are coded as 64 x 64; libheif writes an aperture itself, which is changed."""
    heif, file = pytest.importorskip("pillow_heif"), io.BytesIO()
    y, x = np.mgrid[0:48, 0:64]
    pixels = np.stack([x * 4, y * 5, x * 0 + 90], 2).astype(np.uint8)
    heif.from_pillow(Image.fromarray(pixels)).save(file, quality=100, chroma=444)
    data = file.getvalue()
    at = data.index(b"clap") + 4
    return data[:at] + (struct.pack(">IIIIiIiI", *numbers) if numbers else data[at : at + 32]) + data[at + 32 :]


@pytest.mark.parametrize(
    ("numbers", "box"), [((16, 1, 12, 1, 0, 1, -8, 1), (24, 18)), ((17, 1, 13, 1, 1, 2, 1, 2), (24, 26))]
)
def test_heic(numbers, box, tmp_path):
    whole, picture = read_picture(heic()), read_picture(heic(*numbers))
    left, top = box
    shown = whole.pixels[top : top + numbers[2], left : left + numbers[0]]
    np.testing.assert_array_equal(picture.pixels, shown)
    path = tmp_path / "a.heic"
    path.write_bytes(heic(*numbers))
    header, facts = read_header(path), describe(path)
    assert (header.width, header.height) == (facts["width"], facts["height"]) == (numbers[0], numbers[2])


@pytest.mark.parametrize(
    ("numbers", "reason"),
    {
        (16, 0, 12, 1, 0, 1, 0, 1): "divides by 0",
        (400, 1, 12, 1, 0, 1, 0, 1): "400x12 at -168,26 is not within its 64x64 pixels",
        (16, 1, 12, 1, 100, 1, 0, 1): "is not within",
    }.items(),
)
def test_an_impossible_aperture_of_a_heic_is_one_line(numbers, reason, tmp_path):
    path = tmp_path / "a.heic"
    path.write_bytes(heic(*numbers))
    for read in (read_picture, read_header, describe):
        with pytest.raises(InputError, match=rf"a\.heic: .*clean aperture \(clap\).*{reason}"):
            read(path)


def test_the_aperture_comes_before_the_orientation(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    data = encoded(Image.fromarray(PIXELS[..., :3]), "AVIF", quality=90, exif=turned)
    with Image.open(io.BytesIO(data)) as image:
        shown = np.rot90(np.asarray(image)[6:18, 0:16], -1)
    clapped = with_clap(data, 16, 1, 12, 1, -8, 1, 0, 1)
    np.testing.assert_array_equal(read_picture(clapped).pixels, shown)
    path = tmp_path / "a.avif"
    path.write_bytes(clapped)
    assert (describe(path)["width"], describe(path)["height"]) == (12, 16)
