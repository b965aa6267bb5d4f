"""Camera raw files, recognised by what is in them.

Most are TIFF files, or nearly, whose first picture is a small preview that a reader of pictures would take for the
photograph. The signatures are those that dcraw (Coffin, `identify`) and exiftool look for.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

_HEADS = (
    (8, b"CR\x02"),  # Canon CR2, in a TIFF
    (8, b"IIIITwaR"),  # Phase One IIQ, in a TIFF
    (8, b"MMMMRawT"),
    (4, b"ftypcrx "),  # Canon CR3
    (6, b"HEAPCCDR"),  # Canon CRW
    (0, b"IIU\0"),  # Panasonic RW2, Leica RWL
    (0, b"IIRO"),  # Olympus ORF
    (0, b"IIRS"),
    (0, b"MMOR"),
    (0, b"FUJIFILMCCD-RAW"),
    (0, b"\0MRM"),  # Minolta
    (0, b"FOVb"),  # Sigma X3F
    (0, b"ARECOYK"),  # Contax
    (0, b"NOKIARAW"),
    (0, b"DSC-Image"),  # Rollei
    (0, b"PWAD"),  # Sinar
    (0, b"qktk"),  # Apple QuickTake
    (0, b"qktn"),
    (0, b"ARRI"),
    (4, b"RED1"),
    (4, b"RED2"),
)
_TIFFS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
_COMPRESSION, _PHOTOMETRIC, _SUB_IFDS, _DNG_VERSION = 259, 262, 330, 50706
_OF_SENSORS = {32803, 34892}  # PhotometricInterpretation: colour filter array, linear raw
# Compression: Sony, packed by Nikon, Samsung, Nikon, Kodak, Pentax
_OF_CAMERAS = {32767, 32769, 32770, 32772, 34713, 65000, 65024, 65535}
_SIZES = {3: 2, 4: 4, 13: 4, 16: 8, 18: 8}  # of a SHORT, LONG, IFD, LONG8, IFD8
_MOST_DIRECTORIES, _MOST_ENTRIES = 64, 4096


def is_camera_raw(file: BinaryIO) -> bool:
    """Whether a file, read from its beginning and left there, holds what a camera's sensor saw and not a picture."""
    head = file.read(32)
    try:
        if any(head[place : place + len(magic)] == magic for place, magic in _HEADS):
            return True
        return head[:4] in _TIFFS and _is_raw_tiff(file, *_TIFFS[head[:4]])
    except (OSError, ValueError, OverflowError):  # offsets that lead nowhere
        return False
    finally:
        file.seek(0)


def _is_raw_tiff(file: BinaryIO, order: str, big: bool) -> bool:
    """Whether one of a TIFF's directories describes the samples of a sensor; what is damaged is left to the decoder."""
    offset = "Q" if big else "I"
    file.seek(8 if big else 4)
    waiting, seen = [_number(file.read(8 if big else 4), order + offset)], set[int]()
    while waiting and len(seen) < _MOST_DIRECTORIES:
        start = waiting.pop()
        if not start or start in seen:
            continue
        seen.add(start)
        tags, following = _directory(file, start, order, big)
        if _DNG_VERSION in tags:
            return True
        if _OF_SENSORS.intersection(tags.get(_PHOTOMETRIC, ())) or _OF_CAMERAS.intersection(tags.get(_COMPRESSION, ())):
            return True
        waiting += [*tags.get(_SUB_IFDS, ()), following]
    return False


def _directory(file: BinaryIO, start: int, order: str, big: bool) -> tuple[dict[int, tuple[int, ...]], int]:
    """A directory's whole numbers by tag (of other types, nothing), and where the next one begins; 0: nowhere."""
    count_size, entry_size, field = (8, 20, 8) if big else (2, 12, 4)
    file.seek(start)
    count = min(_number(file.read(count_size), order + ("Q" if big else "H")), _MOST_ENTRIES)
    entries = file.read(count * entry_size)
    following = _number(file.read(field), order + ("Q" if big else "I"))
    tags: dict[int, tuple[int, ...]] = {}
    for at in range(0, len(entries) - entry_size + 1, entry_size):
        tag, kind = struct.unpack_from(order + "HH", entries, at)
        many = _number(entries[at + 4 : at + 4 + field], order + ("Q" if big else "I"))
        content = entries[at + 4 + field : at + entry_size]
        size = _SIZES.get(kind)
        if size is None:
            tags[tag] = ()
            continue
        many = min(many, _MOST_DIRECTORIES)
        if many * size > field:
            file.seek(_number(content, order + ("Q" if big else "I")))
            content = file.read(many * size)
        many = min(many, len(content) // size)
        tags[tag] = struct.unpack_from(f"{order}{many}{ {2: 'H', 4: 'I', 8: 'Q'}[size] }", content)
    return tags, following


def _number(data: bytes, kind: str) -> int:
    """0 where the file has ended."""
    return int(struct.unpack(kind, data)[0]) if len(data) == struct.calcsize(kind) else 0
