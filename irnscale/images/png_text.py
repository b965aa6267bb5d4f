"""Text chunks of a PNG, wherever in the file they are, without decoding pixels."""

from __future__ import annotations

import struct
import zlib
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_TEXT = 4 * 1024 * 1024


def png_texts(file: IO[bytes], keywords: Collection[str]) -> dict[str, str]:
    """The texts stored under `keywords`; of one stored twice, the last.

    Pillow sees only what stands before the pixels until it decodes them, and several programs write
    text behind them. Damaged or oversized (4 MiB) chunks are passed over. Leaves the file's position
    as it found it.
    """
    position = file.tell()
    try:
        texts: dict[str, str] = {}
        for kind, data in _text_chunks(file):
            keyword, _, rest = data.partition(b"\0")
            name = keyword.decode("latin-1")
            if name in keywords and (text := _decode(kind, rest)) is not None:
                texts[name] = text
        return texts
    finally:
        file.seek(position)


def _text_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    file.seek(0)
    if file.read(8) != _SIGNATURE:
        return
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == b"IEND":
            return
        if kind in (b"iTXt", b"tEXt", b"zTXt") and length <= _MAX_TEXT:
            data = file.read(length)
            if len(data) == length:
                yield kind, data
            file.seek(4, 1)
        else:
            file.seek(length + 4, 1)


def _decode(kind: bytes, rest: bytes) -> str | None:
    """The text after a chunk's keyword; None where it is damaged or inflates beyond the limit."""
    try:
        if kind == b"tEXt":
            return rest.decode("latin-1")
        if kind == b"zTXt":
            return _inflate(rest[1:]).decode("latin-1")
        compressed = rest[0] == 1
        text = rest[2:].split(b"\0", 2)[2]  # language and translated keyword stand before it
        return (_inflate(text) if compressed else text).decode("utf-8")
    except (IndexError, ValueError, zlib.error):
        return None


def _inflate(data: bytes) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, _MAX_TEXT)
    if not inflater.eof:
        raise ValueError("text is cut off or too long")
    return text
