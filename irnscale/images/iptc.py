"""IPTC captions, credits and keywords (IIM 4.2), as Photoshop, JPEG, TIFF and PNG files carry them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from irnscale.images.jpeg_segments import APP13, ROOM, segment
from irnscale.images.photoshop import IPTC, SEGMENT_IDENTIFIER, as_resource, iptc_of, is_resources
from irnscale.images.png_text import profile_bytes
from irnscale.images.stored import stored_segments, stored_texts, stored_values

if TYPE_CHECKING:
    from PIL import Image

PNG_KEYWORD = "Raw profile type iptc"
TIFF_TAG = 33723
_PHOTOSHOP_TAG = 34377
_MARKER = 0x1C
_MARKER_BYTE = b"\x1c"
_DESCRIPTIVE = (1, 2)  # records; the others hold sizes, parts of the picture and layouts of printed pages
_PREVIEW = range(200, 203)  # data sets of record 2


def stored_iptc(image: Image.Image) -> bytes | None:
    """The block of an opened picture, without what no longer fits its pixels; None where there is none.

    Raises ValueError where it is damaged.
    """
    block = _raw(image)
    return _descriptive(block) if block else None


def photoshop_segments(block: bytes) -> bytes:
    """The JPEG marker segments that hold the block: one, or as many as its length needs."""
    content = as_resource(IPTC, block)
    room = ROOM - len(SEGMENT_IDENTIFIER)
    parts = [content[at : at + room] for at in range(0, len(content), room)]
    return b"".join(segment(APP13, SEGMENT_IDENTIFIER + part) for part in parts)


def png_profile(block: bytes) -> str:
    """The text that ImageMagick and exiftool keep in a PNG under PNG_KEYWORD."""
    content = as_resource(IPTC, block)
    digits = content.hex()
    lines = [digits[i : i + 72] for i in range(0, len(digits), 72)]
    return "\n".join(["", "iptc", f"{len(content):8d}", *lines, ""])


def _raw(image: Image.Image) -> bytes | None:
    if image.format in ("JPEG", "MPO"):
        # a resource may begin in one segment and go on in the next
        return iptc_of(b"".join(stored_segments(image, APP13, SEGMENT_IDENTIFIER)))
    if image.format == "TIFF":
        values = stored_values(image, (TIFF_TAG, _PHOTOSHOP_TAG))
        own, resources = values.get(TIFF_TAG, b""), values.get(_PHOTOSHOP_TAG, b"")
        if own is None or (not own and resources is None):
            raise ValueError("the IPTC block is not in the file")
        return _in_order(own) if own else iptc_of(resources or b"")
    if image.format == "PNG":
        text = stored_texts(image, (PNG_KEYWORD,)).get(PNG_KEYWORD)
        if text is not None:
            content = profile_bytes(text).removeprefix(SEGMENT_IDENTIFIER)
            return iptc_of(content) if is_resources(content) else content
    block = image.info.get("iptc")
    return block if isinstance(block, bytes) else None


def _in_order(block: bytes) -> bytes:
    """A TIFF tag's bytes; libtiff's writers that call them LONG turn each four around where they turn numbers."""
    if block[:1] != _MARKER_BYTE and block[3:4] == _MARKER_BYTE and len(block) % 4 == 0:
        return np.frombuffer(block, "<u4").byteswap().tobytes()
    return block


def _descriptive(block: bytes) -> bytes | None:
    """The data sets that describe the photograph. Raises ValueError for a damaged block."""
    kept, position = [], 0
    while position < len(block):
        if block[position] == 0:  # between the blocks of two resources, and behind the last
            position += 1
            continue
        if block[position] != _MARKER:
            break
        if position + 5 > len(block):
            raise ValueError("the IPTC block is damaged")
        record, number, length = struct.unpack_from(">BBH", block, position + 1)
        start = position + 5
        if length & 0x8000:  # the length of the length
            size = length & 0x7FFF
            length = int.from_bytes(block[start : start + size], "big") if size <= 4 else len(block)
            start += size
        if start + length > len(block):
            raise ValueError("the IPTC block is damaged")
        if record in _DESCRIPTIVE and not (record == 2 and number in _PREVIEW):
            kept.append(block[position : start + length])
        position = start + length
    if block[position:].strip(b"\0"):
        raise ValueError("the IPTC block is damaged")
    return b"".join(kept) or None
