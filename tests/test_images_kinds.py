"""Every kind of PNG and TIFF, compared with what was put in; depths of other formats; profiles that do not fit."""

from __future__ import annotations

import dataclasses
import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from conftest import synthetic_photo
from PIL import Image
from test_images_read import SRGB, chunk, encoded
from xmp_packets import packet

from irnscale.errors import InputError
from irnscale.images import read
from irnscale.images.read import read_header, read_picture
from irnscale.images.write import encode_picture, encoding_notes

PHOTO = synthetic_photo(16, 24)
GRAY = PHOTO[..., 1]
ALPHA = np.arange(PHOTO[..., 0].size, dtype=np.uint8).reshape(GRAY.shape)
ADAM7 = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))


def packed(rows: np.ndarray, depth: int) -> bytes:
    """Rows of a PNG without a filter."""
    lines = []
    for row in rows.reshape(rows.shape[0], -1):
        bits = "".join(format(int(value), f"0{depth}b") for value in row)
        bits += "0" * (-len(bits) % 8)
        lines.append(b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big"))
    return b"".join(lines)


def png(values: np.ndarray, kind: int, depth: int, *extra: bytes, interlaced: bool = False) -> bytes:
    height, width = values.shape[:2]
    parts = [values[y::dy, x::dx] for y, dy, x, dx in ADAM7] if interlaced else [values]
    data = b"".join(packed(part, depth) for part in parts if part.size)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    chunks = (chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


PNG_KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (4, 16)]


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("kind", "depth"), [*PNG_KINDS, (6, 8), (6, 16)])
def test_every_png(kind, depth, interlaced, transparent, deep, monkeypatch, capfd):
    if not deep:
        monkeypatch.setattr(read, "has_io", lambda: False)
    elif depth == 16:
        pytest.importorskip("imagecodecs")
        pytest.importorskip("tifffile")
    rng = np.random.default_rng(depth)
    top = 2**depth - 1
    values = rng.integers(0, top + 1, (13, 21, {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]))
    palette = rng.integers(0, 256, (top + 1, 3)) if kind == 3 else None
    extra = [] if palette is None else [chunk(b"PLTE", palette.astype(np.uint8).tobytes())]
    alpha = np.ones((13, 21))
    if transparent and kind == 3:
        opacity = rng.integers(0, 256, top + 1)
        extra.append(chunk(b"tRNS", opacity.astype(np.uint8).tobytes()))
        alpha = opacity[values[..., 0]] / 255
    elif transparent and kind in (0, 2):
        extra.append(chunk(b"tRNS", values[3, 4].astype(">u2").tobytes()))
        alpha = 1.0 - (values == values[3, 4]).all(2)
    colour = values / top if palette is None else palette[values[..., 0]] / 255
    if kind in (4, 6):
        colour, alpha = colour[..., :-1], colour[..., -1]
    picture = read_picture(png(values, kind, depth, *extra, interlaced=interlaced))
    most = 2**picture.depth - 1
    tolerance = 1.01 / 255 if picture.depth < depth else 0.51 / most
    np.testing.assert_allclose(picture.pixels / most, np.broadcast_to(colour, (13, 21, 3)), atol=tolerance)
    found = alpha * 0 + 1 if picture.alpha is None else picture.alpha / most
    np.testing.assert_allclose(found, alpha, atol=tolerance)
    assert capfd.readouterr().err == "", "libpng has nothing to say"


TIFF_KINDS = {
    "RGB": (PHOTO, {"photometric": "rgb"}),
    "gray": (GRAY[..., None], {"photometric": "minisblack"}),
    "white is zero": (255 - GRAY[..., None], {"photometric": "miniswhite"}),
    "RGBA": (np.dstack([PHOTO, ALPHA]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "gray and alpha": (np.dstack([GRAY, ALPHA]), {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
    "RGB and something": (np.dstack([PHOTO, ALPHA]), {"photometric": "rgb", "extrasamples": ["unspecified"]}),
}


@pytest.mark.parametrize("deep", [True, False])
@pytest.mark.parametrize("name", TIFF_KINDS)
@pytest.mark.parametrize("depth", [8, 16])
def test_every_tiff_is_read_rightly_or_refused(name, depth, deep, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    if not deep:
        monkeypatch.setattr(read, "has_io", lambda: False)
    values, options = TIFF_KINDS[name]
    values = values.astype(np.uint16) * 257 if depth == 16 else values
    done = 0
    layouts = itertools.product(("contig", "separate"), (None, "lzw"), (None, (16, 16)), "<>")
    for planar, compression, tile, order in layouts:
        if planar == "separate" and values.shape[2] == 1:
            continue
        planes = np.moveaxis(values, 2, 0).copy() if planar == "separate" else values
        file = io.BytesIO()
        layout = {"planarconfig": planar} if values.shape[2] > 1 else {}
        planes = planes if layout else planes[..., 0]
        tifffile.imwrite(file, planes, compression=compression, tile=tile, byteorder=order, **layout, **options)
        try:
            picture = read_picture(file.getvalue())
        except InputError:
            if deep and name == "RGB":
                raise
            continue
        done += 1
        most = 2**picture.depth - 1
        gray = "RGB" not in name
        expected = np.repeat(GRAY[..., None], 3, axis=2) if gray else PHOTO
        np.testing.assert_allclose(picture.pixels / most, expected / 255, atol=1.01 / 255)
        if name in ("RGBA", "gray and alpha"):
            assert picture.alpha is not None
            np.testing.assert_allclose(picture.alpha / most, ALPHA / 255, atol=1.01 / 255)
        else:
            assert picture.alpha is None
    assert done >= (4 if not (name == "gray and alpha" and depth == 16) else 0)


@pytest.mark.parametrize(("format", "bits"), [("jp2", 12), ("jp2", 16), ("avif", 10), ("avif", 12), ("heic", 10)])
def test_more_than_8_bits_of_other_formats(format, bits, monkeypatch):
    codecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("tifffile")
    deep = PHOTO.astype(np.uint16) * 257
    if format == "jp2":
        data = codecs.jpeg2k_encode(deep >> (16 - bits), level=0, reversible=True, bitspersample=bits)
    elif format == "avif":
        data = codecs.avif_encode(deep >> (16 - bits), level=100, bitspersample=bits, pixelformat="444")
    else:
        heif, file = pytest.importorskip("pillow_heif"), io.BytesIO()
        heif.from_bytes("RGB;16", PHOTO.shape[1::-1], deep.tobytes()).save(file, quality=100, chroma=444)
        data = file.getvalue()
    picture = read_picture(data)
    assert (picture.depth, picture.notes) == (16, ())
    assert np.abs(picture.pixels / 65535 - PHOTO / 255).mean() < 0.004
    if format != "heic":
        monkeypatch.setattr(read, "has_io", lambda: False)
        assert read_picture(data).notes == (
            f"{bits} bits per channel read at 8 bits (pip install 'irnscale[io]' for all of them)",
        )


def test_a_profile_that_does_not_fit_is_dropped_and_told():
    cmyk = SRGB[:16] + b"CMYK" + SRGB[20:]
    for pixels in (GRAY, PHOTO):
        picture = read_picture(encoded(Image.fromarray(pixels), "PNG", icc_profile=cmyk))
        assert picture.icc is None
        assert picture.notes == ("its colour profile does not fit its pixels and was dropped",)
        again = dataclasses.replace(picture, icc=cmyk)
        assert b"iCCP" not in encode_picture(again, "png")
        assert "colour profile does not fit" in encoding_notes(again, "png")[0]


def test_animated_jpeg_xl():
    codecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("tifffile")
    data = codecs.jpegxl_encode(np.stack([PHOTO, 255 - PHOTO]), lossless=True)
    for reader in (read_header, read_picture):
        with pytest.raises(InputError, match="frames=first"):
            reader(data)
    np.testing.assert_array_equal(read_picture(data, frames="first").pixels, PHOTO)


def test_metadata_of_jpeg_xl():
    codecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("tifffile")
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    data = codecs.jpegxl_encode(PHOTO, lossless=True, usecontainer=True)
    for kind, content in ((b"Exif", bytes(4) + block), (b"xml ", b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>')):
        data += struct.pack(">I4s", len(content) + 8, kind) + content
    picture = read_picture(data)
    assert b"Camera" in (picture.exif or b"")
    assert picture.pixels.shape == PHOTO.shape, "the orientation of its EXIF block means nothing"
    assert picture.notes == ()
    assert read_header(data).width == PHOTO.shape[1]


@pytest.mark.parametrize("damage", ["none", "cut", "bomb"])
def test_packed_metadata_of_jpeg_xl(damage):
    """As cjxl writes it: in boxes brob, by Brotli."""
    codecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("tifffile")
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    contents = {
        b"Exif": bytes(4) + exif.tobytes().removeprefix(b"Exif\0\0"),
        b"xml ": packet("<photoshop:City>Paris</photoshop:City>").encode(),
    }
    data = codecs.jpegxl_encode(PHOTO, lossless=True, usecontainer=True)
    for kind, content in contents.items():
        packed = codecs.brotli_encode(content + bytes(2**26 if damage == "bomb" else 0))
        packed = packed[:-9] if damage == "cut" else packed
        data += struct.pack(">I4s4s", len(packed) + 12, b"brob", kind) + packed
    picture = read_picture(data)
    if damage == "none":
        assert b"Camera" in picture.exif
        assert b"Paris" in picture.xmp
        assert picture.notes == ()
    else:
        assert (picture.exif, picture.xmp) == (None, None)
        assert sorted(picture.notes) == [
            "its EXIF block is damaged and was dropped",
            "its XMP packet is damaged and was dropped",
        ]


def test_an_empty_xmp_packet_is_no_damage():
    packet = b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/" />'
    packet += b'<?xpacket end="w"?>'
    picture = read_picture(encoded(Image.fromarray(PHOTO), "JPEG", xmp=packet + bytes(2)))
    assert (picture.xmp, picture.notes) == (None, ())
