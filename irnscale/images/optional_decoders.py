"""Decoders and encoders of optional packages, for what Pillow cannot do: 16-bit colour and HEIC.

`pip install 'irnscale[io]'` brings imagecodecs and tifffile, `irnscale[heif]` pillow-heif. Everything here
is imported on use.
"""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from irnscale.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from irnscale.images.pixels import Pixels

IO, HEIF = "pip install 'irnscale[io]'", "pip install 'irnscale[heif]'"
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_ASSOCIATED, _UNASSOCIATED = 1, 2  # ExtraSamples of TIFF: colour already multiplied by alpha, or not
_SEPARATE = 2  # PlanarConfiguration of TIFF
_ADAM7 = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))


@cache
def has_io() -> bool:
    """Whether imagecodecs and tifffile are installed."""
    return find_spec("imagecodecs") is not None and find_spec("tifffile") is not None


@cache
def has_heif() -> bool:
    """Whether pillow-heif is installed; Pillow is told of it."""
    if find_spec("pillow_heif") is None:
        return False
    import_module("pillow_heif").register_heif_opener()
    return True


def is_heic(head: bytes) -> bool:
    """Whether a file that begins so is HEIC or another HEIF picture (but not AVIF)."""
    return head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS


def deep_png(data: bytes) -> Pixels:
    """(H, W, 1 to 4) uint16 of a PNG of 16 bits; a transparent colour becomes an alpha channel."""
    if len(data) > 28 and data[28]:
        return _interlaced_png(data)
    array = np.asarray(import_module("imagecodecs").png_decode(data))
    return array if array.ndim == 3 else array[..., None]


def _interlaced_png(data: bytes) -> Pixels:
    """Each of Adam7's passes is a picture of its own; libpng is given them as such, as it complains otherwise.

    Raises ValueError where the file is cut off.
    """
    width, height, depth, kind = struct.unpack_from(">IIBB", data, 16)
    kept, packed, position = b"", b"", 33
    while position + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        if name == b"IDAT":
            packed += data[position + 8 : position + 8 + length]
        elif name in (b"PLTE", b"tRNS"):
            kept += data[position : position + 12 + length]
        position += 12 + length
    bytes_per_pixel = {0: 1, 2: 3, 4: 2, 6: 4}[kind] * depth // 8
    shapes = [(-(-(height - y) // dy), -(-(width - x) // dx)) for y, dy, x, dx in _ADAM7]
    total = sum(rows * (1 + columns * bytes_per_pixel) for rows, columns in shapes if rows and columns)
    lines = zlib.decompressobj().decompress(packed, total)
    if len(lines) < total:
        raise ValueError("truncated interlaced PNG")
    whole: Pixels | None = None
    start = 0
    for (y, dy, x, dx), (rows, columns) in zip(_ADAM7, shapes, strict=True):
        if not rows or not columns:
            continue
        end = start + rows * (1 + columns * bytes_per_pixel)
        header = struct.pack(">IIBBBBB", columns, rows, depth, kind, 0, 0, 0)
        parts = _chunk(b"IHDR", header), kept, _chunk(b"IDAT", zlib.compress(lines[start:end], 1)), _chunk(b"IEND", b"")
        part = deep_png(data[:8] + b"".join(parts))
        whole = np.zeros((height, width, part.shape[2]), part.dtype) if whole is None else whole
        whole[y::dy, x::dx] = part
        start = end
    assert whole is not None
    return whole


def deep_tiff(data: bytes, size: tuple[int, int]) -> Pixels | None:
    """(H, W, 1 to 4) uint8 or uint16 of a TIFF's first page, gray or RGB; None for other kinds.

    None too where tifffile does not find the `size` (width, height) that Pillow found, either way round.
    """
    tifffile = import_module("tifffile")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        kind = page.photometric.name
        colours = {"RGB": 3, "MINISBLACK": 1, "MINISWHITE": 1}.get(kind)
        samples = page.samplesperpixel
        same = sorted((page.imagewidth, page.imagelength)) == sorted(size)
        if colours is None or page.dtype not in (np.uint8, np.uint16) or not same or not colours <= samples <= 8:
            return None
        array = np.asarray(page.asarray())
        extra = tuple(int(kind) for kind in page.extrasamples)
        by_plane = samples > 1 and int(page.planarconfig) == _SEPARATE
    array = np.moveaxis(array, 0, -1) if by_plane else array.reshape(*array.shape[:2], samples)
    top = np.iinfo(array.dtype).max
    colour = top - array[..., :colours] if kind == "MINISWHITE" else array[..., :colours]
    if not extra or extra[0] not in (_ASSOCIATED, _UNASSOCIATED):
        return np.ascontiguousarray(colour)
    alpha = array[..., colours : colours + 1]
    if extra[0] == _ASSOCIATED:
        divided = np.divide(colour * float(top), alpha, out=np.zeros(colour.shape), where=alpha > 0)
        colour = divided.round().clip(0, top).astype(array.dtype)
    return np.concatenate((colour, alpha), axis=2)


def deep_picture(data: bytes, format: str, bits: int, size: tuple[int, int]) -> Pixels | None:
    """(H, W, 3 or 4) uint16 of a JPEG 2000, AVIF or HEIC picture of `bits` > 8 bits per channel.

    None where the decoder gives another kind of pixels or another size than (width, height).
    """
    if format == "HEIF":
        file = import_module("pillow_heif").open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
        array = np.asarray(file)
        array = array >> (16 - bits) if array.dtype == np.uint16 else array  # it fills the lower bits with zeros
    else:
        codecs = import_module("imagecodecs")
        array = np.asarray(codecs.jpeg2k_decode(data) if format == "JPEG2000" else codecs.avif_decode(data))
    if array.dtype != np.uint16 or array.shape[:2] != size[::-1] or array.shape[2:] not in ((3,), (4,)):
        return None
    top = 2**bits - 1
    whole: Pixels = np.rint(array.clip(0, top) * (65535 / top)).astype(np.uint16)
    return whole


def deep_png_bytes(planes: Pixels, *, icc: bytes | None, exif: bytes | None, texts: Sequence[bytes]) -> bytes:
    """A PNG file of (H, W, 1, 3 or 4) uint16 pixels; `texts` are contents of iTXt chunks.

    Raises UsageError where imagecodecs is not installed.
    """
    require_io("depth=16 as png", ("depth",))
    planes = planes[..., 0] if planes.shape[2] == 1 else planes
    plain = import_module("imagecodecs").png_encode(np.ascontiguousarray(planes), level=6)
    chunks = []
    if icc:
        chunks.append(_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)))
    if exif:
        chunks.append(_chunk(b"eXIf", exif))
    chunks += [_chunk(b"iTXt", text) for text in texts]
    end_of_header = 8 + 12 + 13
    return b"".join((plain[:end_of_header], *chunks, plain[end_of_header:]))


def require_io(what: str, parameters: tuple[str, ...] = ()) -> None:
    """Raise UsageError, naming `what` with its `parameters` and the remedy, where imagecodecs is not installed."""
    if not has_io():
        raise UsageError(
            f"{what} needs the package imagecodecs", f"{IO}, or choose format=tiff", parameters=(*parameters, "format")
        )


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
