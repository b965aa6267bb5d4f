"""TIFF files made byte by byte, to say what Pillow's writer does not."""

from __future__ import annotations

import struct
from typing import NamedTuple

SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}


class Entry(NamedTuple):
    """A field of a directory: its type, and its bytes as they are stored."""

    tag: int
    kind: int
    content: bytes


def number(order: str, tag: int, value: int, kind: int = 4) -> Entry:
    return Entry(tag, kind, struct.pack(order + ("H" if kind == 3 else "I"), value))


def gray_tiff(order: str, entries: list[Entry], *, big: bool = False, side: int = 12) -> bytes:
    """A gray picture of `side` by `side` pixels with these entries; `order` is "<" or ">"."""
    strip = bytes(range(side * side))
    field, count, word = (8, "Q", "Q") if big else (4, "H", "I")
    mark = b"II" if order == "<" else b"MM"
    start = 16 if big else 8
    head = mark + (struct.pack(order + "HHHQ", 43, 8, 0, start) if big else struct.pack(order + "HI", 42, start))
    shape = [number(order, tag, value) for tag, value in ((256, side), (257, side), (258, 8), (259, 1), (262, 1))]
    shape += [number(order, 277, 1, 3), number(order, 278, side), number(order, 279, len(strip))]
    everything = sorted([*shape, number(order, 273, 0), *entries])
    size = struct.calcsize(order + count) + len(everything) * (4 + 2 * field) + field
    place = start + size
    listed, values = b"", strip
    for tag, kind, content in everything:
        stored = struct.pack(order + "I", place) if tag == 273 else content
        listed += struct.pack(order + "HH" + word, tag, kind, len(stored) // SIZES[kind])
        if len(stored) > field:
            listed += struct.pack(order + word, place + len(values))
            values += stored
        else:
            listed += stored.ljust(field, b"\0")
    return head + struct.pack(order + count, len(everything)) + listed + bytes(field) + values
