"""JPEG XL: what its header says, and its pixels through imagecodecs."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFile

from irnscale.images.jpegxl_colour import Colour, from_linear, hdr_codes, profile, read_colour
from irnscale.images.modes import Arrays, arrays_of

if TYPE_CHECKING:
    from irnscale.images.pixels import Pixels

_BARE, _CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL "
_HEADER = 4096  # bytes that surely hold it, with the names of a few extra channels
_MOST_UNPACKED = 2**24  # bytes of metadata
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def is_jpegxl(head: bytes) -> bool:
    """Whether a file that begins so is JPEG XL, bare or in a container."""
    return head.startswith((_BARE, _CONTAINER))


@dataclass(frozen=True)
class JpegXlHeader:
    """Of the picture as it is stored; `orientation` as in EXIF, which decoding applies."""

    width: int
    height: int
    orientation: int = 1
    animated: bool = False
    colour: Colour = field(default_factory=Colour)


class JpegXlFile(ImageFile.StubImageFile):
    """A JPEG XL picture as far as its header goes, in the way of Pillow's files. Its size is upright."""

    format = "JXL"
    n_frames = 1
    orientation = 1
    hdr: tuple[int, int] | None = None

    def __init__(self, data: bytes) -> None:
        self._data = data
        super().__init__(io.BytesIO(data))

    def _open(self) -> None:
        header = jpegxl_header(self._data)
        width, height = header.width, header.height
        self._size, self._mode = ((height, width) if header.orientation > 4 else (width, height)), "RGB"
        self.orientation = header.orientation
        self.n_frames = 2 if header.animated else 1  # two at least: the header has no number
        self.info["icc_profile"], _ = profile(header.colour)
        self.hdr = hdr_codes(header.colour)
        for stored_kind, stored in _boxes(self._data):
            kind, content = _unpacked(stored) if stored_kind == b"brob" else (stored_kind, stored)
            if kind == b"Exif" and len(content) > 4:
                self.info.setdefault("exif", content[4 + int.from_bytes(content[:4], "big") :])
            elif kind == b"xml ":
                self.info.setdefault("xmp", content)

    def seek(self, frame: int) -> None:
        """Only the first frame is ever decoded."""
        if frame:
            raise EOFError

    def _load(self) -> ImageFile.StubHandler:
        raise OSError("JPEG XL pixels are decoded by `jpegxl_planes`")


def jpegxl_planes(data: bytes) -> Pixels:
    """(H, W, 1 to 4) uint8 or uint16 of the first frame, upright; floating point is rounded to 16 bits."""
    array = np.asarray(import_module("imagecodecs").jpegxl_decode(data))
    if array.dtype.kind == "f":
        array = (np.nan_to_num(array.astype(np.float32)).clip(0, 1) * 65535).round().astype(np.uint16)
    array = array if array.ndim > 2 else array[..., None]
    return array[0] if array.ndim == 4 else array


def jpegxl_arrays(data: bytes) -> Arrays:
    """The first frame, upright, with its colour profile as far as that is known, and notes of what is not."""
    colour = jpegxl_header(data).colour
    planes = jpegxl_planes(data)
    icc, note = profile(colour)
    if hdr_codes(colour) is not None:
        note = None  # they are carried on by their codes
    if colour.has_icc and not colour.xyb:
        icc = _profile_of_jpeg(data)
        note = None if icc else "its colour profile is one that imagecodecs does not give; colours are taken for sRGB"
    elif colour.has_icc:
        colours = 1 if planes.shape[2] < 3 else 3
        planes = np.dstack([from_linear(planes[..., :colours]), planes[..., colours:]])
        note = "its colour profile is one that imagecodecs does not give; converted to sRGB, with steps in dark tones"
    arrays = arrays_of(planes, icc)
    return replace(arrays, notes=(*arrays.notes, note)) if note else arrays


def _profile_of_jpeg(data: bytes) -> bytes | None:
    """The profile of the JPEG that a file can be turned back into; None where it was not made from one."""
    if not any(kind == b"jbrd" for kind, _ in _boxes(data)):
        return None
    with Image.open(io.BytesIO(import_module("imagecodecs").jpegxl_decode_jpeg(data)), formats=["JPEG"]) as jpeg:
        icc = jpeg.info.get("icc_profile")
    return icc if isinstance(icc, bytes) else None


def jpegxl_header(data: bytes) -> JpegXlHeader:
    """The beginning of a codestream (ISO/IEC 18181-1, D.2 and D.3). Raises ValueError."""
    stream = data if data.startswith(_BARE) else _codestream(data)
    if not stream.startswith(_BARE) or len(stream) < 12:
        raise ValueError("truncated JPEG XL header")
    bits = _Bits(stream[2:_HEADER])
    width, height = bits.size()
    if bits.take(1):  # all is as usual
        return JpegXlHeader(width, height)
    orientation, animated = 1, False
    if bits.take(1):
        orientation = 1 + bits.take(3)
        if bits.take(1):
            bits.size()  # intrinsic
        if bits.take(1):
            bits.preview_size()
        if animated := bool(bits.take(1)):
            bits.animation()
    return JpegXlHeader(width, height, orientation, animated, read_colour(bits))


class _Bits:
    """Numbers from the lowest bit upwards."""

    def __init__(self, data: bytes) -> None:
        self._number, self._position = int.from_bytes(data, "little"), 0

    def take(self, count: int) -> int:
        value = (self._number >> self._position) & ((1 << count) - 1)
        self._position += count
        return value

    def size(self) -> tuple[int, int]:
        """(width, height)"""
        small = self.take(1)

        def side() -> int:
            return 8 * (self.take(5) + 1) if small else self.take((9, 13, 18, 30)[self.take(2)]) + 1

        height = side()
        if ratio := self.take(3):
            numerator, denominator = _RATIOS[ratio - 1]
            return height * numerator // denominator, height
        return side(), height

    def animation(self) -> None:
        """Passed over."""
        for counts in ((0, 0, 10, 30), (0, 0, 8, 10), (0, 3, 16, 32)):  # ticks per second, by what, loops
            self.take(counts[self.take(2)])
        self.take(1)

    def preview_size(self) -> None:
        """Passed over."""
        eighth = self.take(1)

        def side() -> None:
            selector = self.take(2)
            if not eighth:
                self.take((6, 8, 10, 12)[selector])
            elif selector > 1:
                self.take((0, 0, 5, 9)[selector])

        side()
        if not self.take(3):
            side()


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """The boxes of a container, as far as they are whole; none of a bare codestream."""
    if data.startswith(_BARE):
        return []
    found, offset = [], 0
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        start = offset + 8
        if length == 1 and start + 8 <= len(data):
            length, start = struct.unpack_from(">Q", data, start)[0], start + 8
        end = len(data) if length == 0 else offset + length
        if end < start:
            break
        found.append((kind, data[start:end]))
        offset = end
    return found


def _unpacked(content: bytes) -> tuple[bytes, bytes]:
    """(kind, content) of what a box brob holds, packed by Brotli.

    ISO/IEC 18181-2, 9.5. What cannot be unpacked is replaced by what is told to be damaged where it is parsed.
    """
    kind, packed = content[:4], content[4:]
    if kind not in (b"Exif", b"xml "):
        return kind, b""
    try:
        return kind, bytes(import_module("imagecodecs").brotli_decode(packed, out=_MOST_UNPACKED))
    except (RuntimeError, ValueError):
        return kind, bytes(4) + b"damaged"


def _codestream(data: bytes) -> bytes:
    """The codestream in a container, or its beginning: the box jxlc, or the first of the boxes jxlp."""
    for kind, content in _boxes(data):
        if kind in (b"jxlc", b"jxlp"):
            return content[4 * (kind == b"jxlp") :][:_HEADER]
    raise ValueError("truncated JPEG XL container")
