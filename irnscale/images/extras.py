"""Decoders and encoders of optional packages, for what Pillow cannot do: 16-bit colour, JPEG XL, HEIC.

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
from PIL import ImageFile

from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .picture import Pixels

IO, HEIF = "pip install 'irnscale[io]'", "pip install 'irnscale[heif]'"
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_ASSOCIATED = 1  # ExtraSamples of TIFF: colour already multiplied by alpha


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


def is_jpegxl(head: bytes) -> bool:
    """Whether a file that begins so is JPEG XL, bare or in a container."""
    return head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL "))


class JpegXlFile(ImageFile.StubImageFile):
    """A JPEG XL picture as far as its header goes, in the way of Pillow's files."""

    format = "JXL"

    def __init__(self, data: bytes) -> None:
        self._data = data
        super().__init__(io.BytesIO(data))

    def _open(self) -> None:
        self._size, self._mode = jpegxl_size(self._data), "RGB"

    def _load(self) -> ImageFile.StubHandler:
        raise OSError("JPEG XL pixels are decoded by `jpegxl_planes`")


def jpegxl_planes(data: bytes) -> Pixels:
    """(H, W, 1 to 4) uint8 or uint16 of the first frame; floating point is rounded to 16 bits."""
    array = np.asarray(import_module("imagecodecs").jpegxl_decode(data))
    if array.dtype.kind == "f":
        array = (np.nan_to_num(array.astype(np.float32)).clip(0, 1) * 65535).round().astype(np.uint16)
    array = array if array.ndim > 2 else array[..., None]
    return array[0] if array.ndim == 4 else array


def jpegxl_size(data: bytes) -> tuple[int, int]:
    """(width, height) from the header of a codestream (ISO/IEC 18181-1, D.2). Raises ValueError."""
    stream = data
    if not data.startswith(b"\xff\x0a"):
        stream = _jpegxl_codestream(data)
    if not stream.startswith(b"\xff\x0a") or len(stream) < 12:
        raise ValueError("truncated JPEG XL header")
    bits, position = int.from_bytes(stream[2:12], "little"), 0

    def take(count: int) -> int:
        nonlocal position
        value = (bits >> position) & ((1 << count) - 1)
        position += count
        return value

    small = take(1)

    def side() -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    height = side()
    ratio = take(3)
    if ratio:
        numerator, denominator = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
        return height * numerator // denominator, height
    return side(), height


def _jpegxl_codestream(data: bytes) -> bytes:
    """The beginning of the codestream in a container: the box jxlc, or the first of the boxes jxlp."""
    offset = 0
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        start = offset + 8
        if length == 1:
            length, start = struct.unpack_from(">Q", data, start)[0], start + 8
        if kind in (b"jxlc", b"jxlp"):
            start += 4 * (kind == b"jxlp")
            return data[start : start + 64]
        if length < 8:
            break
        offset += length
    raise ValueError("truncated JPEG XL container")


def deep_png(data: bytes) -> Pixels:
    """(H, W, 1 to 4) uint16 of a PNG of 16 bits; a transparent colour becomes an alpha channel."""
    array = np.asarray(import_module("imagecodecs").png_decode(data))
    return array if array.ndim == 3 else array[..., None]


def deep_tiff(data: bytes) -> Pixels | None:
    """(H, W, 3 or 4) uint16 of the first page of an RGB TIFF of 16 bits; None for other kinds."""
    tifffile = import_module("tifffile")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        if page.photometric.name != "RGB" or page.dtype != np.uint16:
            return None
        array = np.asarray(page.asarray())
        if array.ndim != 3 or array.shape[2] not in (3, 4):
            return None
        extra = tuple(int(kind) for kind in page.extrasamples)
    if array.shape[2] == 4 and not extra:
        return array[..., :3]
    if extra[:1] == (_ASSOCIATED,):
        alpha = array[..., 3:].astype(np.float64)
        colour = np.divide(array[..., :3] * 65535.0, alpha, out=np.zeros(array[..., :3].shape), where=alpha > 0)
        array = np.concatenate((colour.round().clip(0, 65535).astype(np.uint16), array[..., 3:]), axis=2)
    return array


def deep_png_bytes(planes: Pixels, *, icc: bytes | None, exif: bytes | None, texts: Sequence[bytes]) -> bytes:
    """A PNG file of (H, W, 1, 3 or 4) uint16 pixels; `texts` are contents of iTXt chunks.

    Raises UsageError where imagecodecs is not installed.
    """
    require_io("--depth 16 as png")
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


def require_io(what: str) -> None:
    """Raise UsageError, naming the remedy, where imagecodecs is not installed."""
    if not has_io():
        raise UsageError(f"{what} needs the package imagecodecs", f"{IO}, or choose -f tiff")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
