"""EXIF between TIFF files, where it is spread over the file, and the blocks of other formats.

A block is a small TIFF structure. Offsets count from its beginning, as they do in a TIFF file, and those inside of a
camera's maker note (tag 37500) do so too, in ways that are the camera's secret: the note is good at its place alone.
"""

from __future__ import annotations

import io
import struct
from typing import TYPE_CHECKING, BinaryIO

from irnscale.images.tiff_directories import Field, stored_fields

if TYPE_CHECKING:
    from irnscale.images.tiff_directories import Fields

EXIF_IFD, GPS_IFD, _INTEROP_IFD = 0x8769, 0x8825, 0xA005
MAKER_NOTE = 0x927C
_PIXEL_TAGS = (0xA002, 0xA003)  # PixelXDimension, PixelYDimension
_LONG = 4
_MOST_BLOCK = 65527  # what a JPEG holds

# What describes the photograph rather than the layout of a TIFF file: names of document and page, description, camera,
# resolution, software, date, artist, rating, copyright, Windows' titles, how to print it (PrintIM).
DESCRIPTIVE = frozenset(
    (
        *(0x010D, 0x011D, 0x010E, 0x010F, 0x0110, 0x011A, 0x011B, 0x0128, 0x0131, 0x0132, 0x013B, 0x013C),
        *(0x4746, 0x4749, 0x8298, 0x9C9B, 0x9C9C, 0x9C9D, 0x9C9E, 0x9C9F, 0xC4A5),
    )
)
# Maker notes whose offsets count from the note, or from a header in it (ExifTool, MakerNotes.pm): they may move.
_MOVABLE = (b"Nikon\0\2", b"OLYMPUS\0", b"OM SYSTEM\0", b"FUJIFILM", b"Apple iOS\0", b"PENTAX \0")

_Directory = list[Field]


def block_of_tiff(file: BinaryIO) -> tuple[bytes | None, str | None]:
    """A block of what a TIFF file says about the photograph, and a note of what had to be dropped.

    None where it says nothing. The maker note keeps its place; where that is too far behind for a block, and the note
    may not move, it is dropped.
    """
    first = stored_fields(file, DESCRIPTIVE | {EXIF_IFD, GPS_IFD})
    if first is None:
        return None, None
    exif, gps = _linked(file, first, EXIF_IFD), _linked(file, first, GPS_IFD)
    interop = None if exif is None else _linked(file, exif, _INTEROP_IFD)
    directories = {
        0: _whole(first, EXIF_IFD, GPS_IFD),
        EXIF_IFD: _whole(exif, *_PIXEL_TAGS, _INTEROP_IFD),
        GPS_IFD: _whole(gps),
        _INTEROP_IFD: _whole(interop),
    }
    linked = sum(tag in fields.by_tag for fields, tag in ((first, EXIF_IFD), (first, GPS_IFD)))
    damaged = linked > sum(fields is not None for fields in (exif, gps)) or any(
        field.content is None for fields in (first, exif, gps, interop) if fields for field in fields.by_tag.values()
    )
    note = "a part of its EXIF is damaged and was dropped" if damaged else None
    if not any(directories.values()):
        return None, note
    maker = next((field for field in directories[EXIF_IFD] if field.tag == MAKER_NOTE), None)
    if maker is None or len(maker.content or b"") <= 4 or (maker.content or b"").startswith(_MOVABLE):
        return _laid_out(directories, first.order, None), note
    block = _laid_out(directories, first.order, maker) if 8 <= maker.place <= _MOST_BLOCK else None
    if block is None or len(block) > _MOST_BLOCK:
        directories[EXIF_IFD].remove(maker)
        block = _laid_out(directories, first.order, None)
        dropped = "the camera's maker note was dropped: it cannot be read at another place than it has in this TIFF"
        note = dropped if note is None else f"{note}; {dropped}"
    return block, note


def fields_for_tiff(block: bytes) -> tuple[str, list[Field]]:
    """(byte order, entries) of a block that a TIFF file begins with, for its first directory.

    Their places are in the block; entries that lead beyond it are left out. Raises ValueError where there is none.
    """
    file = io.BytesIO(block)
    first = stored_fields(file, DESCRIPTIVE | {EXIF_IFD, GPS_IFD})
    if first is None:
        raise ValueError("the EXIF block is damaged")
    kept = [field for field in first.by_tag.values() if field.content is not None]
    return first.order, [f for f in kept if f.tag not in (EXIF_IFD, GPS_IFD) or _linked(file, first, f.tag)]


def _linked(file: BinaryIO, fields: Fields, tag: int) -> Fields | None:
    """The directory that a tag leads to."""
    at = fields.number(tag)
    return stored_fields(file, at=at) if at else None


def _whole(fields: Fields | None, *without: int) -> _Directory:
    if fields is None:
        return []
    return [f for f in fields.by_tag.values() if f.content is not None and f.tag not in without and f.kind <= 13]


def _laid_out(directories: dict[int, _Directory], order: str, pinned: Field | None) -> bytes | None:
    """A block; `pinned` lies where it lay. None where there is nothing to lay out."""
    room = _Room(pinned)
    owner = {EXIF_IFD: 0, GPS_IFD: 0, _INTEROP_IFD: EXIF_IFD}
    filled = {0} | {tag for tag, entries in directories.items() if entries}
    filled |= {EXIF_IFD} if _INTEROP_IFD in filled else set()
    if filled == {0} and not directories[0]:
        return None
    links = {tag: [child for child in owner if owner[child] == tag and child in filled] for tag in filled}
    size = {tag: 6 + 12 * (len(directories[tag]) + len(links[tag])) for tag in filled}
    starts = {tag: room.take(size[tag]) for tag in sorted(filled)}
    written: dict[int, bytes] = {}
    for tag in filled:
        children = [Field(child, _LONG, 1, struct.pack(order + "I", starts[child]), 0) for child in links[tag]]
        table = struct.pack(order + "H", len(directories[tag]) + len(children))
        for field in sorted(directories[tag] + children):
            content = field.content or b""
            value = content.ljust(4, b"\0")
            if len(content) > 4:
                place = field.place if field is pinned else room.take(len(content))
                written[place], value = content, struct.pack(order + "I", place)
            table += struct.pack(order + "HHI", field.tag, field.kind, field.many) + value
        written[starts[tag]] = table + bytes(4)
    block = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, starts[0]))
    for place in sorted(written):
        block += bytes(place - len(block)) + written[place]
    return bytes(block)


class _Room:
    """Places in a block, one behind the other, around what is pinned."""

    def __init__(self, pinned: Field | None) -> None:
        self._next = 8
        self._from = self._to = 0
        if pinned is not None:
            self._from, self._to = pinned.place, pinned.place + len(pinned.content or b"")

    def take(self, size: int) -> int:
        """Where `size` bytes fit; always even."""
        if self._next < self._to and self._next + size > self._from:
            self._next = self._to + self._to % 2
        place = self._next
        self._next += size + size % 2
        return place
