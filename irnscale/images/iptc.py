"""IPTC captions, credits and keywords (IIM 4.2), as Photoshop, JPEG, TIFF and PNG files carry them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from .stored import stored_texts, stored_values

if TYPE_CHECKING:
    from PIL import Image

PNG_KEYWORD = "Raw profile type iptc"
TIFF_TAG = 33723
_RESOURCE, _IPTC = b"8BIM", 0x0404
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


def photoshop_segment(block: bytes) -> bytes | None:
    """The JPEG marker segment that holds the block; None where it is too long for one."""
    content = b"Photoshop 3.0\0" + _as_resource(block)
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content if len(content) < 65534 else None


def png_profile(block: bytes) -> str:
    """The text that ImageMagick and exiftool keep in a PNG under PNG_KEYWORD."""
    content = _as_resource(block)
    digits = content.hex()
    lines = [digits[i : i + 72] for i in range(0, len(digits), 72)]
    return "\n".join(["", "iptc", f"{len(content):8d}", *lines, ""])


def _raw(image: Image.Image) -> bytes | None:
    info: dict[Any, Any] = image.info
    if image.format in ("JPEG", "MPO"):
        resources = info.get("photoshop")
        found = resources.get(_IPTC) if isinstance(resources, dict) else None
        return found if isinstance(found, bytes) else None
    if image.format == "TIFF":
        values = stored_values(image, (TIFF_TAG, _PHOTOSHOP_TAG))
        own, resources = values.get(TIFF_TAG, b""), values.get(_PHOTOSHOP_TAG, b"")
        if own is None or (not own and resources is None):
            raise ValueError("the IPTC block is not in the file")
        return _in_order(own) if own else _from_resources(resources or b"")
    if image.format == "PNG":
        text = stored_texts(image, (PNG_KEYWORD,)).get(PNG_KEYWORD)
        if text is None:
            return None
        content = bytes.fromhex("".join(text.split("\n")[3:]))
        return _from_resources(content) if content.startswith(_RESOURCE) else content
    return None


def _in_order(block: bytes) -> bytes:
    """A TIFF tag's bytes; libtiff's writers that call them LONG turn each four around where they turn numbers."""
    if block[:1] != _MARKER_BYTE and block[3:4] == _MARKER_BYTE and len(block) % 4 == 0:
        return np.frombuffer(block, "<u4").byteswap().tobytes()
    return block


def _from_resources(data: bytes) -> bytes | None:
    """The IPTC block among Photoshop's resources: signature, number, padded name, length, padded content."""
    position = 0
    while data[position : position + 4] == _RESOURCE and position + 8 <= len(data):
        number = struct.unpack_from(">H", data, position + 4)[0]
        start = position + 6 + (data[position + 6] + 2 & ~1)
        if start + 4 > len(data):
            break
        length = struct.unpack_from(">I", data, start)[0]
        if number == _IPTC:
            return data[start + 4 : start + 4 + length]
        position = start + 4 + (length + 1 & ~1)
    return None


def _as_resource(block: bytes) -> bytes:
    return _RESOURCE + struct.pack(">HHI", _IPTC, 0, len(block)) + block + bytes(len(block) % 2)


def _descriptive(block: bytes) -> bytes | None:
    """The data sets that describe the photograph. Raises ValueError for a damaged block."""
    kept, position = [], 0
    while position < len(block) and block[position] == _MARKER:
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
