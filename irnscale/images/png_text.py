"""Text chunks of a PNG, wherever in the file they are, without decoding pixels."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Iterator

RESOURCES_KEYWORD = "Raw profile type 8bim"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_TEXT = 4 * 1024 * 1024
_KINDS = (b"iTXt", b"tEXt", b"zTXt")


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


def profile_bytes(text: str) -> bytes:
    """What a text `Raw profile type ...` holds: a line of its name, one of its length, and hexadecimal digits.

    Raises ValueError where it is damaged.
    """
    return bytes.fromhex("".join(text.split("\n")[3:]))


@dataclass(frozen=True)
class TextChunk:
    """What a text chunk says; `international` for iTXt, which alone has a language and its keyword in that."""

    keyword: str
    text: str
    international: bool
    language: str
    translated: str


def every_text(data: bytes, skip: re.Pattern[str]) -> Iterator[TextChunk | None]:
    """The text chunks of a PNG whose keyword is not `skip`, in their order.

    None for one that is damaged, or longer than 4 MiB as it is stored or inflated.
    """
    for kind, content in _text_chunks(io.BytesIO(data), oversized=True):
        keyword, _, rest = content.partition(b"\0")
        name = keyword.decode("latin-1")
        if skip.fullmatch(name):
            continue
        text = _decode(kind, rest)
        if text is None or len(content) >= _MAX_TEXT:
            yield None
            continue
        parts = (rest[2:].split(b"\0", 2) if kind == b"iTXt" else [b"", b""])[:2]
        language, translated = (part.decode("utf-8", "replace") for part in parts)
        yield TextChunk(name, text, kind == b"iTXt", language, translated)


def _text_chunks(file: IO[bytes], *, oversized: bool = False) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content; of what is too long nothing, or with `oversized` the beginning."""
    file.seek(0)
    if file.read(8) != _SIGNATURE:
        return
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == b"IEND":
            return
        if kind in _KINDS and length <= _MAX_TEXT:
            data = file.read(length)
            if len(data) == length:
                yield kind, data
            file.seek(4, 1)
        elif oversized and kind in _KINDS:
            beginning = file.read(_MAX_TEXT)
            if len(file.read(length - _MAX_TEXT)) == length - _MAX_TEXT:
                yield kind, beginning
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
