"""PNG files with damage beside the pixels: other programs leave it out, Pillow refuses the whole file."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT")
_LENGTHS = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"cICP": 4, b"tIME": 7}
_LONGEST_NAME = 80  # of a profile, with the zero behind it


def mended(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A PNG without chunks that are damaged and that a decoder of pixels may ignore, and their kinds.

    Third edition of the PNG specification, 13.2: a decoder should go on where an ancillary chunk is in error. A file
    that ends within a chunk stays as it is; so does a file of another format.

    Raises ValueError where the checksum of a critical chunk is wrong, which Pillow does not look at: zeros in the place
    of compressed pixels decode to something.
    """
    if not data.startswith(SIGNATURE):
        return data, ()
    places = [(0, len(SIGNATURE))]
    dropped = []
    for kind, start, end in _chunks(data):
        if kind[:1].islower() and kind.isalpha():
            if not _is_sound(kind, data[start:end]):
                dropped.append(kind.decode("ascii"))
                continue
        elif kind in _CRITICAL and _crc(data, start, end) != int.from_bytes(data[end - 4 : end], "big"):
            raise ValueError(f"the checksum of {kind.decode()} is wrong")
        places.append((start, end))
    if not dropped:
        return data, ()
    return b"".join(data[start:end] for start, end in places), tuple(dict.fromkeys(dropped))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of all, the last one with whatever follows it."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data) or kind == b"IEND":
            break
        yield kind, at, end
        at = end
    yield b"IEND", at, len(data)


def _crc(data: bytes, start: int, end: int) -> int:
    return zlib.crc32(memoryview(data)[start + 4 : end - 4])


def _is_sound(kind: bytes, chunk: bytes) -> bool:
    content = chunk[8:-4]
    if _crc(chunk, 0, len(chunk)) != int.from_bytes(chunk[-4:], "big"):
        return False
    if kind in _LENGTHS:
        return len(content) == _LENGTHS[kind]
    if kind == b"iCCP":
        name, zero, rest = content.partition(b"\0")
        return bool(zero) and len(name) < _LONGEST_NAME and rest[:1] == b"\0"
    return True
