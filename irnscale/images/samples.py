"""Samples as headers have them, where Pillow's mode does not say: signed, 12 or 16 bits, alpha or filling."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from irnscale.images.pixels import Pixels

_BITS_PER_SAMPLE, _SAMPLE_FORMAT, _UNSIGNED, _SIGNED = 258, 339, 1, 2  # of TIFF
_NATIVE = {"I;16BS": "I;16NS", "I;32BS": "I;32NS", "F;32BF": "F;32NF"}  # how Pillow unpacks samples
_COMMENT = re.compile(rb"#[^\r\n]*")
_SGI_HEADER = 512
_TGA_FOOTER = b"TRUEVISION-XFILE."
_ATTRIBUTES_TYPE, _PREMULTIPLIED = 494, 4  # in the extension area of a TGA file


def header_bits(format: str | None, head: bytes) -> int | None:
    """Bits per sample of a PPM, PGM or SGI file that begins so; None for others."""
    if format == "SGI" and len(head) > 3:
        return 16 if head[3] == 2 else 8
    if format == "PPM" and head[:2] in (b"P2", b"P3", b"P5", b"P6"):
        words = _COMMENT.sub(b"", head[:4096]).split(maxsplit=4)
        if len(words) > 3 and words[3].isdigit():
            return max(8, min(16, int(words[3]).bit_length()))
    return None


def deep_samples(image: Image.Image, data: bytes) -> Pixels | None:
    """(H, W, 1 to 4) uint16 of a colour PPM or an SGI file of more than 8 bits; None for others.

    Raises what decoders raise for files that are cut off or wrong.
    """
    if image.format == "SGI" and header_bits("SGI", data[:8]) == 16:
        return _sgi(data, image.size)
    if image.format == "PPM" and image.mode == "RGB" and (header_bits("PPM", data[:4096]) or 8) > 8:
        return _ppm(image, data)
    return None


def correct_order(image: Image.Image) -> None:
    """Have a compressed TIFF of the other byte order unpacked as libtiff gives it, whose samples this machine can read.

    Pillow turns signed and floating-point samples around once more. To be called before the pixels are loaded.
    """
    if image.format != "TIFF":
        return
    tiles: Any = getattr(image, "tile", [])
    for index, (codec, extents, offset, arguments) in enumerate(tiles):
        if codec == "libtiff" and arguments[0] in _NATIVE:
            tiles[index] = type(tiles[index])(codec, extents, offset, (_NATIVE[arguments[0]], *arguments[1:]))


def typed_gray(image: Image.Image) -> tuple[Pixels, int, bool] | None:
    """(plane, bits, signed) of a gray TIFF whose samples Pillow gives as another type than the header's; else None.

    The plane has the values that are in the file.
    """
    tags: Any = getattr(image, "tag_v2", None)
    if tags is None or image.mode not in ("L", "I", "I;16", "I;16B"):
        return None
    bits, kind = (_first(tags.get(tag), default) for tag, default in ((_BITS_PER_SAMPLE, 1), (_SAMPLE_FORMAT, 1)))
    plane = np.asarray(image)
    if kind == _UNSIGNED and bits == 32 and image.mode == "I":
        return plane.view(np.uint32), 32, False
    if kind == _UNSIGNED and bits == 12:
        return plane, 12, False
    if kind == _SIGNED and bits == 8 and image.mode == "L":
        return plane.view(np.int8), 8, True
    if kind == _SIGNED and bits == 16 and image.mode == "I":
        return plane, 16, True
    return None


def from_type(plane: Pixels, bits: int, *, signed: bool) -> tuple[Pixels, str | None]:
    """A plane as uint8 or uint16, and a note where what black and white are had to be chosen.

    Unsigned samples of up to 16 bits go from 0 to their greatest value; signed ones too, where none is negative. What
    is left is stretched from its least to its greatest; 32 bits are taken for 16 where they hold no more.
    """
    low, high = int(plane.min()), int(plane.max())
    top, note = 2 ** (bits - signed) - 1, None
    if bits == 32:
        top = 65535
    if signed:
        note = f"its samples are signed: {top} is taken for white"
    if low < 0 or high > top:
        note = f"its values from {low} to {high} are stretched from black to white"
        plane, top = plane.astype(np.int64) - low, (high - low) or 1
    depth: type[np.uint8 | np.uint16] = np.uint8 if bits == 8 else np.uint16
    return np.rint(plane * (np.iinfo(depth).max / top)).astype(depth), note


def shown(image: Image.Image, data: bytes) -> Image.Image:
    """The picture as its header wants alpha understood; itself for formats that leave no doubt.

    A TGA file has as many bits of alpha as its header says: of 32 bits per pixel, 8 may be filling. Its alpha may be
    multiplied into the colours. The one bit of 16 is set where the pixel is opaque, the opposite of what Pillow makes
    of it; where none is set, it is filling.
    """
    if image.format != "TGA" or image.mode not in ("RGBA", "LA", "P"):
        return image
    if image.mode == "RGBA" and data[16] == 16:
        alpha = image.getchannel("A").point(lambda value: 255 - value)
        if alpha.getextrema() == (0, 0):
            return image.convert("RGB")
        image.putalpha(alpha)
        return image
    if is_filling(image, data):
        return image.convert({"RGBA": "RGB", "LA": "L", "P": "RGB"}[image.mode])
    if image.mode == "RGBA" and _tga_attributes(data) == _PREMULTIPLIED:
        return Image.frombytes("RGBa", image.size, image.tobytes())
    return image


def is_filling(image: Image.Image, head: bytes) -> bool:
    """Whether the fourth byte of a TGA file's pixels, whose beginning is `head`, is no alpha."""
    return image.format == "TGA" and len(head) > 17 and not head[17] & 15


def _tga_attributes(data: bytes) -> int | None:
    if data[-18:-1] != _TGA_FOOTER:
        return None
    (area,) = struct.unpack_from("<I", data, len(data) - 26)
    return data[area + _ATTRIBUTES_TYPE] if area and area + _ATTRIBUTES_TYPE < len(data) else None


def _first(value: object, default: int) -> int:
    found = value[0] if isinstance(value, tuple) and value else value
    return found if isinstance(found, int) else default


def _ppm(image: Image.Image, data: bytes) -> Pixels:
    """Netpbm's ppm(5): two bytes per sample, most significant first, or decimal numbers; up to a stated maximum."""
    top = int(_COMMENT.sub(b"", data[:4096]).split(maxsplit=4)[3])
    start: int = image.tile[0].offset  # type: ignore[attr-defined]
    width, height = image.size
    count = width * height * 3
    if data[:2] == b"P6":
        if len(data) - start < 2 * count:
            raise EOFError("truncated")
        values = np.frombuffer(data, ">u2", count, start)
    else:
        words = _COMMENT.sub(b"", data[start:]).split(maxsplit=count)[:count]
        if len(words) < count:
            raise EOFError("truncated")
        values = np.array([int(word) for word in words])
    if int(values.min()) < 0 or int(values.max()) > top:
        raise ValueError(f"a sample is larger than {top}")
    whole: Pixels = np.rint(values * (65535 / top)).astype(np.uint16).reshape(height, width, 3)
    return whole


def _sgi(data: bytes, size: tuple[int, int]) -> Pixels:
    """Haeberli's SGI image file format: planes of rows from the bottom up, two bytes per sample, or runs of them."""
    width, height = size
    (planes,) = struct.unpack_from(">H", data, 10)
    whole = np.empty((planes, height, width), np.uint16)
    if data[2] == 0:
        if len(data) - _SGI_HEADER < whole.nbytes:
            raise EOFError("truncated")
        whole[:] = np.frombuffer(data, ">u2", whole.size, _SGI_HEADER).reshape(whole.shape)
    else:
        starts = struct.unpack_from(f">{planes * height}I", data, _SGI_HEADER)
        for index, start in enumerate(starts):
            whole[index // height, index % height] = _sgi_row(data, start, width)
    return np.ascontiguousarray(whole[:, ::-1].transpose(1, 2, 0))


def _sgi_row(data: bytes, position: int, width: int) -> Pixels:
    """A row of runs: a word whose lower 7 bits are a count, its eighth bit whether that many words follow, or one."""
    row = np.empty(width, np.uint16)
    done = 0
    while done < width:
        if position + 4 > len(data):
            raise EOFError("truncated")
        (word,) = struct.unpack_from(">H", data, position)
        count = min(word & 0x7F, width - done)
        if not count:
            raise ValueError("a row is too short")
        words = count if word & 0x80 else 1
        if position + 2 + 2 * words > len(data):
            raise EOFError("truncated")
        row[done : done + count] = np.frombuffer(data, ">u2", words, position + 2)
        position, done = position + 2 + 2 * words, done + count
    return row
