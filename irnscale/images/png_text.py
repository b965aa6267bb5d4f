"""Text chunks of a PNG, wherever in the file they are, without decoding pixels."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Iterator

RESOURCES_KEYWORD = "Raw profile type 8bim"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MAX_TEXT = 4 * 1024 * 1024
_MAX_METADATA = 2**24
DAMAGED = "<"
"""What `png_texts` gives for a text that is damaged or too long: neither XML nor JSON, nor a profile."""
_KINDS = (b"iTXt", b"tEXt", b"zTXt")


def png_texts(file: IO[bytes], keywords: Collection[str]) -> dict[str, str]:
    """The texts stored under `keywords`; of one stored twice, the last.

    Pillow sees only what stands before the pixels until it decodes them, and several programs write
    text behind them. DAMAGED for what is damaged, or longer than 16 MiB as it is stored or inflated, unless another
    chunk has the text. Leaves the file's position as it found it.
    """
    position = file.tell()
    try:
        texts: dict[str, str] = {}
        for kind, data in _text_chunks(file, _MAX_METADATA):
            keyword, _, rest = data.partition(b"\0")
            name = keyword.decode("latin-1")
            if name not in keywords:
                continue
            text = None if len(data) > _MAX_METADATA else _decode(kind, rest, _MAX_METADATA)
            if text is not None:
                texts[name] = text
            else:
                texts.setdefault(name, DAMAGED)
        return texts
    finally:
        file.seek(position)


def profile_bytes(text: str) -> bytes:
    """What a text `Raw profile type ...` holds: a line of its name, one of its length, and hexadecimal digits.

    Raises ValueError where it is damaged.
    """
    lines = text.split("\n")
    if text and len(lines) < 4:
        raise ValueError("the profile is cut off")
    return bytes.fromhex("".join(lines[3:]))


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
    for kind, content in _text_chunks(io.BytesIO(data), _MAX_TEXT):
        keyword, _, rest = content.partition(b"\0")
        name = keyword.decode("latin-1")
        if skip.fullmatch(name):
            continue
        text = None if len(content) > _MAX_TEXT else _decode(kind, rest, _MAX_TEXT)
        if text is None:
            yield None
            continue
        parts = (rest[2:].split(b"\0", 2) if kind == b"iTXt" else [b"", b""])[:2]
        language, translated = (part.decode("utf-8", "replace") for part in parts)
        yield TextChunk(name, text, kind == b"iTXt", language, translated)


def packed_exif(file: IO[bytes]) -> bytes | None:
    """EXIF as exiftool packs it where it is asked to: zero, four bytes of length, zlib's stream."""
    for _, content in _text_chunks(file, _MAX_METADATA, (b"zxIf",)):
        with suppress(ValueError, zlib.error):
            return _inflate(content[5:], _MAX_METADATA)
    return None


def _text_chunks(file: IO[bytes], most: int, kinds: Collection[bytes] = _KINDS) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content; of what has more than `most` bytes, the first `most` + 1."""
    file.seek(0)
    if file.read(8) != _SIGNATURE:
        return
    while len(header := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == b"IEND":
            return
        if kind in kinds:
            wanted = min(length, most + 1)
            data = file.read(wanted)
            if len(data) == wanted:
                yield kind, data
            length -= wanted
        file.seek(length + 4, 1)


def _decode(kind: bytes, rest: bytes, most: int) -> str | None:
    """The text after a chunk's keyword; None where it is damaged or inflates beyond the limit."""
    try:
        if kind == b"tEXt":
            return rest.decode("latin-1")
        if kind == b"zTXt":
            return _inflate(rest[1:], most).decode("latin-1")
        compressed = rest[0] == 1
        text = rest[2:].split(b"\0", 2)[2]  # language and translated keyword stand before it
        return (_inflate(text, most) if compressed else text).decode("utf-8")
    except (IndexError, ValueError, zlib.error):
        return None


def _inflate(data: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, most)
    if not inflater.eof:
        raise ValueError("text is cut off or too long")
    return text
