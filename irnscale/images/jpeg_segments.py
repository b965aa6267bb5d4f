"""The marker segments of a JPEG before its pixels, read from a file without trusting it, and made."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

APP1, APP13 = 0xE1, 0xED
XMP_IDENTIFIER = b"http://ns.adobe.com/xap/1.0/\0"
"""Of the APP1 segment with an XMP packet."""
ROOM = 65533
"""Bytes that a segment holds."""
_BARE = {0x01, *range(0xD0, 0xD9)}
_SCAN, _END = 0xDA, 0xD9
_MOST_BYTES = 2**26  # of all segments that are given


def contents(file: BinaryIO, marker: int, identifier: bytes) -> Iterator[bytes]:
    """What follows `identifier` in each segment of this marker that begins so, in the order of the file.

    Ends before the first scan, where a segment is cut off, and after 64 MiB.
    """
    file.seek(0)
    if file.read(2) != b"\xff\xd8":
        return
    given = 0
    while (found := _next_marker(file)) not in (None, _SCAN, _END):
        if found in _BARE:
            continue
        head = file.read(2)
        length = int.from_bytes(head, "big") - 2
        if len(head) < 2 or length < 0:
            return
        if found != marker or length < len(identifier):
            file.seek(length, 1)
            continue
        content = file.read(length)
        given += len(content)
        if len(content) < length or given > _MOST_BYTES:
            return
        if content.startswith(identifier):
            yield content[len(identifier) :]


def segment(marker: int, content: bytes) -> bytes:
    """The segment of at most ROOM bytes of content. Raises struct.error for more."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _next_marker(file: BinaryIO) -> int | None:
    """None where there is none: at the end of the file, or at bytes that belong to no segment."""
    if file.read(1) != b"\xff":
        return None
    while (byte := file.read(1)) == b"\xff":  # filling
        pass
    return byte[0] if byte else None
