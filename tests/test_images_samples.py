"""Samples of the types that headers name: signed, 12, 16 and 32 bits, filling where alpha could be."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest
from commandline import runner
from conftest import synthetic_photo
from PIL import Image

from irnscale.errors import InputError
from irnscale.images.inspect import describe
from irnscale.images.read import read_picture

PHOTO = synthetic_photo(13, 21)
DEEP = np.rint(PHOTO.astype(np.uint16) * 257 - PHOTO % 7).astype(np.uint16)
GRAY = DEEP[..., 1]


def tiff(plane: np.ndarray, **options) -> bytes:
    """By tifffile; what is in it is checked by its own reader."""
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    tifffile.imwrite(file, plane, **({"photometric": "minisblack"} | options))
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(file.getvalue())), plane)
    return file.getvalue()


def stretched(plane: np.ndarray, top: int) -> np.ndarray:
    values = plane.astype(np.float64) - plane.min()
    return np.rint(values * top / values.max())


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("plane", "expected", "note"),
    [
        ((GRAY >> 9).astype(np.int8), np.rint((GRAY >> 9) * (255 / 127)), "127 is taken for white"),
        ((GRAY >> 8).astype(np.uint8).view(np.int8), None, "stretched"),
        ((GRAY >> 1).astype(np.int16), np.rint((GRAY >> 1) * (65535 / 32767)), "32767 is taken for white"),
        (GRAY.view(np.int16), None, "stretched"),
        (GRAY.astype(np.uint32), GRAY, None),
        (GRAY.astype(np.uint32) * 65537, None, "from 262148 to 4294705147 are stretched"),
        (GRAY.astype(np.int32), GRAY, None),
        (GRAY.astype(np.int32) * 65537 // 2 - 2**30, None, "stretched"),
        (GRAY, GRAY, None),
        ((GRAY / 65535).astype(np.float32), GRAY, None),
    ],
)
def test_gray_tiff_of_every_type(plane, expected, note, order):
    if plane.dtype == np.uint32 and order == ">":
        pytest.skip("which Pillow does not know; see test_images_unsupported")
    if note is not None and "262148" in note:
        note = f"from {plane.min()} to {plane.max()} are stretched"
    picture = read_picture(tiff(plane, byteorder=order))
    if expected is None:
        expected = stretched(plane, 255 if plane.dtype.itemsize == 1 else 65535)
    assert picture.gray
    assert picture.depth == (8 if plane.dtype.itemsize == 1 else 16)
    np.testing.assert_allclose(picture.pixels[..., 0], expected, atol=1)
    assert (picture.notes == ()) if note is None else any(note in said for said in picture.notes), picture.notes


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("how", [{"compression": "lzw"}, {"compression": "zlib"}, {"compression": "packbits"}])
@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int16, np.int32, np.float32])
def test_compressed_gray_tiff_of_every_type(kind, how, order):
    pytest.importorskip("imagecodecs")
    shift = {np.int8: 9, np.int16: 1}.get(kind, 0)
    plane = (GRAY / 65535).astype(np.float32) if kind is np.float32 else (GRAY >> shift).astype(kind)
    for predictor in {None, 2} if kind is not np.float32 and how["compression"] != "packbits" else {None}:
        picture = read_picture(tiff(plane, byteorder=order, predictor=predictor, **how))
        plain = read_picture(tiff(plane, byteorder="<"))
        np.testing.assert_array_equal(picture.pixels, plain.pixels)
        np.testing.assert_allclose(picture.pixels[..., 0] / (2**picture.depth - 1), GRAY / 65535, atol=0.01)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_white_is_zero_in_floating_point(compression, order):
    pytest.importorskip("imagecodecs")
    plane = (GRAY / 65535).astype(np.float32)
    picture = read_picture(tiff(plane, photometric="miniswhite", compression=compression, byteorder=order))
    np.testing.assert_allclose(picture.pixels[..., 0], 65535 - GRAY.astype(int), atol=1)


def test_turned_tiff_of_another_type():
    data = tiff(np.arange(6, dtype=np.uint32).reshape(2, 3) * 2**29, extratags=[(274, 3, 1, 6, True)])
    picture = read_picture(data)
    assert picture.pixels.shape == (3, 2, 3)
    assert (np.diff(picture.pixels[..., 0].astype(int), axis=0) > 0).all(), "upwards"


def test_gray_tiff_of_12_bits():
    plane = (GRAY[:, :20] >> 4).astype(int)
    packed = b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in plane.reshape(-1, 2).tolist())
    tags = [(256, 20), (257, 13), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (278, 13), (279, len(packed))]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + struct.pack("<H", len(tags)) + entries + bytes(4)
    picture = read_picture(data)
    np.testing.assert_allclose(picture.pixels[..., 0], plane * (65535 / 4095), atol=1)


def netpbm(values: np.ndarray, top: int, *, plain: bool = False, comment: bool = False) -> bytes:
    height, width = values.shape[:2]
    kind = {(False, True): 5, (False, False): 6, (True, True): 2, (True, False): 3}[plain, values.ndim == 2]
    said = b"# a comment 9\n" if comment else b""
    head = b"P%d\n%s%d %d\n%s%d\n" % (kind, said, width, height, said, top)
    if plain:
        return head + b" ".join(b"%d" % value for value in values.ravel().tolist()) + b"\n"
    return head + values.astype(">u2" if top > 255 else "u1").tobytes()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("comment", [False, True])
@pytest.mark.parametrize("top", [100, 255, 256, 1023, 4095, 65535])
@pytest.mark.parametrize("gray", [False, True])
def test_netpbm_of_every_depth(tmp_path, plain, comment, top, gray):
    values = np.rint((GRAY if gray else DEEP) * (top / 65535)).astype(int)
    path = tmp_path / "a.ppm"
    path.write_bytes(netpbm(values, top, plain=plain, comment=comment))
    picture = read_picture(path)
    most = 2**picture.depth - 1
    assert (picture.depth, picture.gray) == (8 if top < 256 else 16, gray)
    assert describe(path)["depth"] == max(8, top.bit_length())
    channels = values[..., None] if gray else values
    np.testing.assert_allclose(
        picture.pixels, np.broadcast_to(channels, (13, 21, 3)) * (most / top), atol=0.51 + 0.5 * gray
    )


@pytest.mark.parametrize("plain", [False, True])
def test_netpbm_that_is_cut_off_or_wrong(plain):
    whole = netpbm(DEEP, 65535, plain=plain)
    with pytest.raises(InputError, match="truncated"):
        read_picture(whole[:-9])
    with pytest.raises(InputError, match="damaged"):
        read_picture(netpbm(DEEP, 20000, plain=plain))


def sgi(planes: np.ndarray, *, runs: bool) -> bytes:
    """(H, W, C) uint16 as SGI writes it; rows from the bottom up."""
    height, width, channels = planes.shape
    head = struct.pack(">HBBHHHHII", 474, runs, 2, 2 if channels == 1 else 3, width, height, channels, 0, 65535)
    head = head.ljust(512, b"\0")
    rows = [planes[::-1][y, :, c] for c in range(channels) for y in range(height)]
    if not runs:
        return head + b"".join(row.astype(">u2").tobytes() for row in rows)
    packed = []
    for row in rows:
        words: list[int] = [0x80 | (width - 6), *row[: width - 6].tolist(), 0x80 | 5, *row[width - 6 : -1].tolist()]
        packed.append(struct.pack(f">{len(words) + 3}H", *words, 1, int(row[-1]), 0))
    starts = np.cumsum([512 + 8 * len(rows), *(len(row) for row in packed)])[:-1]
    tables = [starts.astype(">u4").tobytes(), np.array([len(row) for row in packed]).astype(">u4").tobytes()]
    return head + b"".join((*tables, *packed))


@pytest.mark.parametrize("runs", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sgi_of_16_bits(tmp_path, channels, runs):
    planes = np.concatenate((DEEP, GRAY[..., None] // 2), axis=2)[..., :channels]
    path = tmp_path / "a.sgi"
    path.write_bytes(sgi(planes, runs=runs))
    with Image.open(path) as image:  # which gives the upper byte of each
        np.testing.assert_array_equal(np.asarray(image).reshape(13, 21, channels), planes >> 8)
    picture = read_picture(path)
    assert (picture.depth, describe(path)["depth"], picture.gray) == (16, 16, channels == 1)
    np.testing.assert_array_equal(picture.pixels, np.broadcast_to(planes[..., :3], (13, 21, 3)))
    if channels == 4:
        np.testing.assert_array_equal(picture.alpha, planes[..., 3])
    for length in (600, len(path.read_bytes()) - 40):
        with pytest.raises(InputError):
            read_picture(path.read_bytes()[:length])


def test_sgi_whose_runs_repeat():
    row = [0x0A, 500, 0x80 | 2, 7, 8, 0x09, 60000, 0]
    data = sgi(DEEP[:1, :, :1], runs=True)[:512] + struct.pack(">II", 520, 16) + struct.pack(">8H", *row)
    assert read_picture(data).pixels[0, :, 0].tolist() == [500] * 10 + [7, 8] + [60000] * 9


def tga(planes: np.ndarray, bits_of_alpha: int, *, attributes: int | None = None) -> bytes:
    """(H, W, 4) or gray with alpha (H, W, 2), top row first."""
    height, width, channels = planes.shape
    order = [2, 1, 0, 3] if channels == 4 else [0, 1]
    head = struct.pack(
        "<BBBHHBHHHHBB", 0, 0, 2 if channels == 4 else 3, 0, 0, 0, 0, 0, width, height, 8 * channels, 0x20
    )
    head = head[:17] + bytes([0x20 | bits_of_alpha])
    data = head + planes[..., order].astype(np.uint8).tobytes()
    if attributes is None:
        return data
    area = struct.pack("<H", 495).ljust(494, b"\0") + bytes([attributes])
    return data + area + struct.pack("<II", len(data), 0) + b"TRUEVISION-XFILE.\0"


RAMP = np.arange(13 * 21, dtype=np.uint8).reshape(13, 21, 1)


@pytest.mark.parametrize("fourth", [0, 1, 255, "ramp"])
@pytest.mark.parametrize("gray", [False, True])
def test_tga_without_bits_of_alpha_is_opaque(tmp_path, fourth, gray):
    colour = PHOTO[..., :1] if gray else PHOTO
    plane = RAMP if fourth == "ramp" else np.full_like(RAMP, fourth)
    path = tmp_path / "a.tga"
    path.write_bytes(tga(np.concatenate((colour, plane), axis=2), 0))
    picture = read_picture(path)
    assert picture.alpha is None
    assert (picture.gray, describe(path)["alpha"]) == (gray, False)
    np.testing.assert_array_equal(picture.pixels, np.broadcast_to(colour, PHOTO.shape))


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("attributes", [None, 3])
def test_tga_with_bits_of_alpha(tmp_path, gray, attributes):
    colour = PHOTO[..., :1] if gray else PHOTO
    path = tmp_path / "a.tga"
    path.write_bytes(tga(np.concatenate((colour, RAMP), axis=2), 8, attributes=attributes))
    picture = read_picture(path)
    np.testing.assert_array_equal(picture.alpha, RAMP[..., 0])
    np.testing.assert_array_equal(picture.pixels, np.broadcast_to(colour, PHOTO.shape))
    assert describe(path)["alpha"]


def test_tga_whose_colours_are_multiplied_by_alpha():
    alpha = np.full_like(RAMP, 51)
    picture = read_picture(tga(np.concatenate((np.full_like(PHOTO, 40), alpha), axis=2), 8, attributes=4))
    assert (picture.pixels == 200).all()
    assert picture.alpha is not None
    assert (picture.alpha == 51).all()


def test_deep_colour_goes_all_the_way(capfdbinary, monkeypatch, tmp_path):
    pytest.importorskip("imagecodecs")
    tifffile = pytest.importorskip("tifffile")
    monkeypatch.chdir(tmp_path)
    run = runner(capfdbinary, monkeypatch)
    flat = np.broadcast_to(np.array([12345, 23456, 34567]), (16, 16, 3))
    (tmp_path / "a.ppm").write_bytes(netpbm(flat, 65535))
    assert json.loads(run("info", "a.ppm", "--json").text)["depth"] == 16
    assert run("down", "a.ppm", "-s", 2, "--depth", 16, "-o", "small.tif").code == 0
    small = tifffile.imread("small.tif").astype(int)
    assert np.abs(small - [12345, 23456, 34567]).max() < 400
    assert len(np.unique(small % 257)) > 1, "more than 8 bits"


@pytest.mark.parametrize(("bit", "opaque"), [(0x8000, True), (0, True), (None, False)])
def test_the_one_bit_of_alpha_of_a_tga_of_16_bits(bit, opaque):
    """Set where a pixel is opaque, as ImageMagick, GIMP and Photoshop have it; nowhere set, it is filling."""
    fives = np.arange(48, dtype=np.uint16).reshape(6, 8) % 32
    words = fives << 10 | 31 - fives << 5 | fives
    words |= np.where(fives % 2, 0x8000, 0).astype(np.uint16) if bit is None else np.uint16(bit)
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 8, 6, 16, 0x21)
    picture = read_picture(head + words.astype("<u2").tobytes(), "a.tga")
    wanted = np.stack([fives, 31 - fives, fives], axis=2) * 255 / 31
    assert np.abs(picture.pixels - wanted).max() <= 1
    if opaque:
        assert picture.alpha is None
    else:
        np.testing.assert_array_equal(picture.alpha, fives % 2 * 255)


@pytest.mark.parametrize("deep", [False, True])
def test_what_is_transparent_everywhere_is_told(deep):
    file = io.BytesIO()
    if deep:
        pytest.importorskip("imagecodecs")
        planes = np.zeros((8, 8, 4), np.uint16)
        planes[..., :3] = 9000
        data = pytest.importorskip("imagecodecs").png_encode(planes)
    else:
        Image.new("RGBA", (8, 8), (200, 10, 20, 0)).save(file, "PNG")
        data = file.getvalue()
    assert any("transparent everywhere" in note for note in read_picture(data, "a.png").notes)
