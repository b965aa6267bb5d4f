"""Fields added to the first directory of an EXIF block, which otherwise stays as it is, byte for byte."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

ASCII, SHORT, LONG, RATIONAL = 2, 3, 4, 5
Field = tuple[int, bytes | int | Fraction]
"""Type and value: text without a NUL for ASCII, a number for SHORT and LONG, a fraction for RATIONAL."""

_EMPTY = b"II*\0\x08\0\0\0\0\0\0\0\0\0"
_MOST_ENTRIES = 2**16 - 1


def with_fields(block: bytes | None, fields: dict[int, Field]) -> bytes | None:
    """The block, without prefix, with these fields instead of what it says under their tags; a new one for None.

    A directory with them is put behind everything else, so that nothing that others point to moves, such as a camera's
    maker note. A block that has the same values already is given back as it is, and so is one that is damaged.
    """
    block = _EMPTY if block is None else block
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    try:
        (start,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        end = start + 2 + 12 * count
        link = block[end : end + 4]
        entries = [block[at : at + 12] for at in range(start + 2, end, 12)]
    except struct.error:
        return block
    if order is None or start < 8 or end > len(block) or count + len(fields) > _MOST_ENTRIES:
        return block
    tags = [struct.unpack(f"{order}H", entry[:2])[0] for entry in entries]
    wanted = {tag: _stored(order, field) for tag, field in fields.items()}
    said = {tag: _content(order, block, entry) for tag, entry in zip(tags, entries, strict=True) if tag in wanted}
    if said == wanted:
        return block
    kept = [(tag, entry) for tag, entry in zip(tags, entries, strict=True) if tag not in wanted]
    block += bytes(len(block) % 2)
    for tag, (kind, content) in wanted.items():
        place = content.ljust(4, b"\0")
        if len(content) > 4:
            place = struct.pack(f"{order}I", len(block))
            block += content + bytes(len(content) % 2)
        number = len(content) // _SIZES[kind]
        kept.append((tag, struct.pack(f"{order}HHI", tag, kind, number) + place))
    kept.sort(key=lambda item: item[0])  # stable: of a tag that stands twice the first stays the first
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(entry for _, entry in kept) + link.ljust(4, b"\0")
    return block[:4] + struct.pack(f"{order}I", len(block)) + block[8:] + directory


_SIZES = {ASCII: 1, SHORT: 2, LONG: 4, RATIONAL: 8}


def _stored(order: str, field: Field) -> tuple[int, bytes]:
    """A field's type and bytes. Text ends in a NUL, and a fraction is the nearest of two numbers of 32 bits."""
    kind, value = field
    if isinstance(value, bytes):
        return kind, value + b"\0"
    if kind == RATIONAL:
        limit = max(1, (2**32 - 1) // (math.floor(value) + 1))
        near = Fraction(value).limit_denominator(limit)
        return kind, struct.pack(f"{order}II", near.numerator, near.denominator)
    return kind, struct.pack(order + {SHORT: "H", LONG: "I"}[kind], value)


def _content(order: str, block: bytes, entry: bytes) -> tuple[int, bytes] | None:
    """Type and bytes of an entry; None for types that are not added here."""
    _, kind, number = struct.unpack(f"{order}HHI", entry[:8])
    if kind not in _SIZES:
        return None
    size = number * _SIZES[kind]
    if size <= 4:
        return kind, entry[8 : 8 + size]
    (at,) = struct.unpack(f"{order}I", entry[8:])
    return kind, block[at : at + size]
