"""Boxes of ISO base media files (AVIF, HEIC) and JPEG 2000, and the properties of the primary picture."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_BOXES, _MOST_EXTENTS, _MOST_BYTES = 4096, 4096, 2**25


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of the boxes at the top, as far as they are whole."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1 and start + 8 <= len(data):
            length, start = struct.unpack_from(">Q", data, start)[0], start + 8
        end = len(data) if length == 0 else at + length
        if end < start or end > len(data):
            return
        yield kind, data[start:end]
        at = end


def boxes_in(file: BinaryIO, wanted: bytes) -> Iterator[bytes]:
    """The contents of the boxes at the top of a file of one kind, as far as they are whole and have at most 32 MiB."""
    length = file.seek(0, 2)
    at = 0
    for _ in range(_MOST_BOXES):
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        size, kind = struct.unpack_from(">I4s", head)
        start = at + 8
        if size == 1 and len(head) == 16:
            size, start = struct.unpack_from(">Q", head, 8)[0], start + 8
        end = length if size == 0 else at + size
        if end < start or end > length:
            return
        if kind == wanted and end - start <= _MOST_BYTES:
            file.seek(start)
            yield file.read(end - start)
        at = end


def find_box(data: bytes, *path: bytes) -> bytes | None:
    """The content of the first box of each kind along a path; `meta` is a full box, whose version is passed over."""
    for kind in path:
        found = next((content for name, content in boxes(data) if name == kind), None)
        if found is None:
            return None
        data = found[4:] if kind == b"meta" else found
    return data


def primary_properties(data: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, content) of the properties of an AVIF's or HEIC's primary picture, in their order; [] where damaged."""
    meta = find_box(data, b"meta")
    if meta is None:
        return []
    try:
        item = find_box(meta, b"pitm") or b""
        primary = int.from_bytes(item[4 : 6 if item[0] == 0 else 8], "big")
        properties = list(boxes(find_box(meta, b"iprp", b"ipco") or b""))
        indices = _associated(find_box(meta, b"iprp", b"ipma") or b"", primary)
        return [properties[index - 1] for index in indices if 0 < index <= len(properties)]
    except (IndexError, struct.error):
        return []


def exif_item(file: BinaryIO) -> bytes | None:
    """The EXIF block of an AVIF or HEIC file, from its TIFF header on (ISO/IEC 23008-12, A.2.1); None without one.

    Raises ValueError, IndexError or struct.error where the lists of items are damaged.
    """
    meta = next(boxes_in(file, b"meta"), b"")[4:]
    infos, places = find_box(meta, b"iinf") or b"", find_box(meta, b"iloc") or b""
    if not infos or not places:
        return None
    for kind, info in boxes(infos[6 if infos[0] == 0 else 8 :]):
        wide = 4 if kind == b"infe" and info[0] == 3 else 2
        if kind == b"infe" and info[0] in (2, 3) and info[6 + wide : 10 + wide] == b"Exif":
            content = _item(file, meta, places, int.from_bytes(info[4 : 4 + wide], "big"))
            return None if content is None else content[4 + int.from_bytes(content[:4], "big") :]
    return None


def _item(file: BinaryIO, meta: bytes, iloc: bytes, wanted: int) -> bytes | None:
    """The content of an item of at most 32 MiB, which lies in the file or in the box idat."""
    version, at = iloc[0], 6
    offset_size, length_size, base_size, index_size = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(iloc):
            raise ValueError("the places of items are cut off")
        at += size
        return int.from_bytes(iloc[at - size : at], "big")

    left = _MOST_EXTENTS
    for _ in range(number(2 if version < 2 else 4)):
        item = number(2 if version < 2 else 4)
        inside = version > 0 and number(2) & 15
        number(2)  # the file, which is always this one
        base = number(base_size)
        extents = []
        left -= (count := number(2))
        if left < 0:
            raise ValueError("the places of items are too many")
        for _ in range(count):
            number(index_size if version > 0 else 0)
            offset = base + number(offset_size)
            extents.append((offset, number(length_size)))
        if item == wanted:
            if sum(length for _, length in extents) > _MOST_BYTES or inside not in (False, 0, 1):
                return None
            if inside:
                content = find_box(meta, b"idat") or b""
                return b"".join(content[offset : offset + length] for offset, length in extents)
            parts = []
            for offset, length in extents:
                file.seek(offset)
                parts.append(file.read(length))
            return b"".join(parts)
    return None


def _associated(ipma: bytes, primary: int) -> list[int]:
    """Numbers, from 1, of the properties of an item."""
    version, wide = ipma[0], ipma[3] & 1
    at = 8
    for _ in range(struct.unpack_from(">I", ipma, 4)[0]):
        item = struct.unpack_from(">H" if version < 1 else ">I", ipma, at)[0]
        at += 2 if version < 1 else 4
        count, at = ipma[at], at + 1
        size = 2 if wide else 1
        if item == primary:
            mask = 0x7FFF if wide else 0x7F
            return [int.from_bytes(ipma[at + size * k :][:size], "big") & mask for k in range(count)]
        at += size * count
    return []
