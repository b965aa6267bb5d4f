"""Photoshop's image resources: numbered blocks, as PSD, JPEG, TIFF and PNG files carry them.

Adobe Photoshop File Formats Specification, "Image Resource Blocks".
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SEGMENT_IDENTIFIER = b"Photoshop 3.0\0"
"""Of the APP13 segments of a JPEG: all of them together hold one sequence of resources."""
IPTC, EXIF, XMP = 1028, 1058, 1060
_ADOBE = b"8BIM"
_SIGNATURES = (_ADOBE, b"PHUT", b"DCSR", b"AgHg", b"MeSa")  # ImageReady, PhotoDeluxe, Lightroom


def resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, content) of each: signature, number, padded name, length, padded content; the last may be cut off."""
    position = 0
    while data[position : position + 4] in _SIGNATURES and position + 7 <= len(data):
        number = struct.unpack_from(">H", data, position + 4)[0]
        start = position + 6 + (data[position + 6] + 2 & ~1)
        if start + 4 > len(data):
            return
        end = start + 4 + struct.unpack_from(">I", data, start)[0]
        yield number, data[start + 4 : end]
        # some writers leave the padding out at the end of a segment
        position = end if data[end : end + 4] in _SIGNATURES else end + end % 2


def resource(data: bytes, number: int) -> bytes | None:
    """The content of the first resource of this number that has any."""
    return next((content for found, content in resources(data) if found == number and content), None)


def iptc_of(data: bytes) -> bytes | None:
    """The data sets of all IPTC resources: a second one adds to the first, and one written twice counts once."""
    return b"".join(dict.fromkeys(content for kind, content in resources(data) if kind == IPTC)) or None


def as_resource(number: int, content: bytes) -> bytes:
    """One resource without a name."""
    return _ADOBE + struct.pack(">HHI", number, 0, len(content)) + content + bytes(len(content) % 2)


def is_resources(data: bytes) -> bool:
    """Whether data begins like resources."""
    return data.startswith(_SIGNATURES)
