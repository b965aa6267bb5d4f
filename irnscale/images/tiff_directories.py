"""The directories of a TIFF file, read from its bytes without trusting them."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

Tags = dict[int, tuple[int, ...]]

MOST_BYTES = 2**25
"""Of the values of a directory that `stored_fields` reads."""

_ORDERS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
_SUB_IFDS, _NEW_SUBFILE_TYPE, _REDUCED, _MASK = 330, 254, 1, 4
_SIZES = {3: 2, 4: 4, 13: 4, 16: 8, 18: 8}  # of a SHORT, LONG, IFD, LONG8, IFD8
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of each value by its field type."""
_MOST_DIRECTORIES, _MOST_ENTRIES, _MOST_VALUES = 4096, 4096, 64


def directories(file: BinaryIO, *, nested: bool = False) -> Iterator[Tags]:
    """The whole numbers of each directory by tag (of other types, nothing), first those that follow one another.

    With `nested`, those in SubIFDs too. Ends where an offset leads nowhere or back; nothing for what is no TIFF.
    """
    file.seek(0)
    known = _ORDERS.get(file.read(4))
    if known is None:
        return
    order, big = known
    waiting, seen = [_offset(file, 8 if big else 4, order, big)], set[int]()
    with suppress(OSError, ValueError, OverflowError):  # an offset beyond what can be sought
        while waiting and len(seen) < _MOST_DIRECTORIES:
            start = waiting.pop(0)
            if not start or start in seen:
                continue
            seen.add(start)
            tags, following = _directory(file, start, order, big)
            if not tags:
                continue
            yield tags
            waiting = [following, *waiting, *(tags.get(_SUB_IFDS, ()) if nested else ())]


class Field(NamedTuple):
    """An entry of a directory; `content` as it is stored, None where the file does not hold it wholly."""

    tag: int
    kind: int
    many: int
    content: bytes | None
    place: int  # of the content in the file


class Fields(NamedTuple):
    """A directory's entries, of a tag that is there twice the first, and the order of its numbers, "<" or ">"."""

    order: str
    by_tag: dict[int, Field]

    def number(self, tag: int) -> int | None:
        """The first number of a tag that has whole ones."""
        field = self.by_tag.get(tag)
        size = _SIZES.get(field.kind, 0) if field else 0
        if field is None or not size or len(field.content or b"") < size:
            return None
        return int.from_bytes((field.content or b"")[:size], "little" if self.order == "<" else "big")


def stored_fields(file: BinaryIO, wanted: Collection[int] | None = None, at: int | None = None) -> Fields | None:
    """The directory at `at`, or the first one; None where there is none. With `wanted`, only these tags.

    Of contents, MOST_BYTES are read altogether; types that TIFF does not know are passed over.
    """
    file.seek(0)
    known = _ORDERS.get(file.read(4))
    if known is None:
        return None
    order, big = known
    count_size, entry_size, field, word = (8, 20, 8, "Q") if big else (2, 12, 4, "I")
    found: dict[int, Field] = {}
    with suppress(OSError, ValueError, OverflowError):
        start = _offset(file, 8 if big else 4, order, big) if at is None else at
        length, left = file.seek(0, 2), MOST_BYTES
        file.seek(start)
        count = min(_number(file.read(count_size), order + ("Q" if big else "H")), _MOST_ENTRIES)
        entries = file.read(count * entry_size)
        for entry in range(0, len(entries) - entry_size + 1, entry_size):
            tag, kind = struct.unpack_from(order + "HH", entries, entry)
            if (wanted is not None and tag not in wanted) or tag in found or kind not in TYPE_SIZES:
                continue
            many = _number(entries[entry + 4 : entry + 4 + field], order + word)
            size = TYPE_SIZES[kind] * many
            content: bytes | None = entries[entry + 4 + field : entry + entry_size]
            place = start + count_size + entry + 4 + field
            if size > field:
                place = _number(content or b"", order + word)
                content = None
                if size <= left and place + size <= length:
                    file.seek(place)
                    content, left = file.read(size), left - size
            found[tag] = Field(tag, kind, many, content if content is None else content[:size], place)
    return Fields(order, found) if found else None


def raw_values(file: BinaryIO, wanted: Collection[int]) -> dict[int, bytes | None]:
    """The bytes of tags of the first directory as they are stored, whatever type they are said to be of.

    None for one that the file does not hold wholly, or of more than MOST_BYTES.
    """
    fields = stored_fields(file, wanted)
    return {} if fields is None else {tag: field.content for tag, field in fields.by_tag.items()}


def count_pages(file: BinaryIO) -> tuple[int, int]:
    """(pages, masks of them). Another one in a smaller size is no page: bit 0 of NewSubfileType; bit 2 is a mask's."""
    kinds = [next(iter(tags.get(_NEW_SUBFILE_TYPE, (0,))), 0) for tags in directories(file)]
    masks = sum(bool(kind & _MASK) for kind in kinds[1:])
    smaller = sum(bool(kind & _REDUCED) and not kind & _MASK for kind in kinds[1:])
    return max(1, len(kinds) - masks - smaller), masks


def _directory(file: BinaryIO, start: int, order: str, big: bool) -> tuple[Tags, int]:
    """A directory, and where the next one begins; 0: nowhere."""
    count_size, entry_size, field, word = (8, 20, 8, "Q") if big else (2, 12, 4, "I")
    file.seek(start)
    count = min(_number(file.read(count_size), order + ("Q" if big else "H")), _MOST_ENTRIES)
    entries = file.read(count * entry_size)
    following = _number(file.read(field), order + word)
    tags: Tags = {}
    for at in range(0, len(entries) - entry_size + 1, entry_size):
        tag, kind = struct.unpack_from(order + "HH", entries, at)
        many = min(_number(entries[at + 4 : at + 4 + field], order + word), _MOST_VALUES)
        content = entries[at + 4 + field : at + entry_size]
        size = _SIZES.get(kind)
        if size is None:
            tags[tag] = ()
            continue
        if many * size > field:
            file.seek(_number(content, order + word))
            content = file.read(many * size)
        many = min(many, len(content) // size)
        tags[tag] = struct.unpack_from(f"{order}{many}{ {2: 'H', 4: 'I', 8: 'Q'}[size] }", content)
    return tags, following


def _offset(file: BinaryIO, position: int, order: str, big: bool) -> int:
    file.seek(position)
    return _number(file.read(8 if big else 4), order + ("Q" if big else "I"))


def _number(data: bytes, kind: str) -> int:
    """0 where the file has ended."""
    return int(struct.unpack(kind, data)[0]) if len(data) == struct.calcsize(kind) else 0
