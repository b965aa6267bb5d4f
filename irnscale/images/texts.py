"""Texts that stand beside the pixels: PNG's, under keywords, and the comments of JPEG, GIF and JPEG 2000.

PNG 11.3.3 (tEXt, zTXt, iTXt), JPEG B.2.4.5 (COM), GIF89a 24 (comment extension). Those of a TIFF are tags of it, which
are kept with EXIF's.
"""

from __future__ import annotations

import codecs
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from irnscale.images.boxes import find_box
from irnscale.images.exif_additions import ASCII, Field
from irnscale.images.jpeg_segments import ROOM, segment
from irnscale.images.opening import PILLOW_ERRORS, quiet_pillow
from irnscale.images.png_text import TextChunk, every_text
from irnscale.images.record import KEYWORD
from irnscale.images.stored import stored_segments

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

COMMENT = "Comment"
"""The keyword that PNG has for what other formats call a comment."""
_COM = 0xFE
_MOST = 2**24
"""Letters of all texts of a picture that are kept."""
_MOST_TEXTS = 1000
_MOST_BLOCKS = 2**22  # of a GIF, 255 bytes each
_COMPRESSED_FROM = 1024  # bytes of a text from which on PNG advises compression
# What is kept elsewhere (XMP, EXIF, IPTC, our record), or speaks of other pixels or another file.
_ELSEWHERE = re.compile(rf"XML:com\.adobe\.xmp|{KEYWORD}|Raw profile type .*|Thumb::.*|exif:.*", re.DOTALL)
_VALID = re.compile(r"[!-~\xa1-\xff]+(?: [!-~\xa1-\xff]+)*")  # PNG 11.3.3.2
_STAMPS = (b"Created by OpenJPEG", b"Kakadu")  # of the encoder that made the file, in a JPEG 2000
_EXIF_TAGS = {"Description": 0x010E, "Software": 0x0131, "Author": 0x013B, "Copyright": 0x8298, COMMENT: 0x010E}


@dataclass(frozen=True)
class Text:
    """A text under a keyword of 1 to 79 Latin-1 letters; `international` where it is not of Latin-1 itself."""

    keyword: str
    text: str
    international: bool = False
    language: str = ""
    translated: str = ""  # the keyword in that language

    @property
    def as_comment(self) -> bytes:
        """Its bytes as they were, for comments, whose letters may be coded in any way."""
        return self.text.encode("utf-8" if self.international else "latin-1")

    @property
    def utf8(self) -> bytes:
        """Many programs put UTF-8 where PNG has Latin-1: that stays as it is."""
        raw = self.as_comment
        return raw if _is_utf8(raw) else self.text.encode()


def stored_texts_of(image: Image.Image, data: bytes) -> tuple[tuple[Text, ...], str | None]:
    """The texts of an opened picture, whose file is `data`, and a note where some cannot be kept. Never raises.

    At most a thousand, of 16 million letters together; compressed ones are not inflated beyond 4 MiB each.
    """
    found: list[Text] = []
    letters, lost = 0, 0
    for text in _texts(image, data):
        letters += len(text.text) + len(text.translated) if text else 0
        if letters > _MOST or len(found) == _MOST_TEXTS:
            return tuple(found), "some of its texts were dropped: there are too many"
        if text is None:
            lost += 1
        else:
            found.append(text)
    return tuple(found), f"{lost} of its texts damaged or too long, and dropped" if lost else None


def png_text_chunks(texts: Sequence[Text]) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of a PNG chunk for each."""
    for text in texts:
        keyword = text.keyword.encode("latin-1") + b"\0"
        body = text.text.encode("utf-8" if text.international else "latin-1")
        compressed = len(body) >= _COMPRESSED_FROM
        body = zlib.compress(body) if compressed else body
        if text.international:
            head = bytes((compressed, 0)) + text.language.encode() + b"\0" + text.translated.encode() + b"\0"
            yield b"iTXt", keyword + head + body
        else:
            yield (b"zTXt", keyword + b"\0" + body) if compressed else (b"tEXt", keyword + body)


def comment_segments(texts: Sequence[Text]) -> bytes:
    """The JPEG marker segments of those that are comments and fit into one."""
    comments = (text.as_comment for text in texts if text.keyword == COMMENT)
    return b"".join(segment(_COM, content) for content in comments if len(content) <= ROOM)


def text_fields(texts: Sequence[Text], exif: bytes | None) -> tuple[dict[int, Field], set[Text]]:
    """Fields of EXIF and TIFF for texts that mean the same, where the block says nothing yet; and those texts.

    A comment becomes the description where there is no other. A text that the block has already has its place there.
    """
    said = _texts_in(exif)
    fields: dict[int, Field] = {}
    placed: set[Text] = set()
    for text in sorted(texts, key=lambda text: text.keyword == COMMENT):
        tag = _EXIF_TAGS.get(text.keyword)
        if tag is None:
            continue
        if tag not in said and text.text:
            fields[tag] = ASCII, text.utf8
            said[tag] = text.utf8
        if said.get(tag, b"") == text.utf8:
            placed.add(text)
    return fields, placed


def dropped_note(texts: Sequence[Text], format: str) -> str:
    """What to say of texts that a format has no place for."""
    names = list(dict.fromkeys(text.keyword for text in texts))
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"its texts ({shown}) were dropped: {format} has no place for them"


def _texts_in(exif: bytes | None) -> dict[int, bytes]:
    """What a block says under the tags that are compared, as it is stored."""
    block = Image.Exif()
    said: dict[int, bytes] = {}
    if not exif:
        return said
    with quiet_pillow(), suppress(*PILLOW_ERRORS):
        block.load(exif)
    for tag in set(_EXIF_TAGS.values()):
        with suppress(*PILLOW_ERRORS):
            if tag in block:
                said[tag] = str(block[tag]).encode("latin-1", "replace")
    return said


def _texts(image: Image.Image, data: bytes) -> Iterator[Text | None]:
    """None for one that cannot be kept."""
    if image.format == "PNG":
        for chunk in every_text(data, skip=_ELSEWHERE):
            yield _of_png(chunk) if chunk else None
    elif image.format in ("JPEG", "MPO"):
        yield from _comments(stored_segments(image, _COM, b""))
    elif image.format == "GIF":
        yield from _comments(gif_comments(data))
    elif image.format == "JPEG2000":
        yield from _comments(c for c in jpeg2000_comments(data) if not c.startswith(_STAMPS))


def _of_png(chunk: TextChunk) -> Text | None:
    if not _VALID.fullmatch(chunk.keyword) or len(chunk.keyword) > 79 or "\0" in chunk.text + chunk.translated:
        return None
    if not re.fullmatch("[A-Za-z0-9-]*", chunk.language):
        return None
    return Text(chunk.keyword, chunk.text, chunk.international, chunk.language, chunk.translated)


def _comments(contents: Iterable[bytes]) -> Iterator[Text]:
    """Those that are not empty, in UTF-8, in UTF-16 with its mark, or else Latin-1: no format of comments says which.

    Some writers end them with a NUL.
    """
    for content in contents:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            with suppress(UnicodeDecodeError):
                content = content.decode("utf-16").encode()
        content = content.rstrip(b"\0").replace(b"\0", b" ")
        if content.strip():
            international = not content.isascii() and _is_utf8(content)
            yield Text(COMMENT, content.decode("utf-8" if international else "latin-1"), international)


def gif_comments(data: bytes) -> Iterator[bytes]:
    """The comment extensions of a GIF, wherever they stand among its frames; nothing for what is no GIF."""
    if len(data) < 13 or not data.startswith(b"GIF8"):
        return
    at, left = 13 + _colours(data[10]), _MOST_BLOCKS
    while at + 2 < len(data) and left > 0:
        kind, label = data[at], data[at + 1]
        if kind == 0x21:
            at += 2
        elif kind == 0x2C and at + 9 < len(data):
            at += 11 + _colours(data[at + 9])  # with the width of its codes
        else:
            return
        blocks = []
        while at < len(data) and data[at] and left > 0:
            left -= 1
            if (kind, label) == (0x21, 0xFE):
                blocks.append(data[at + 1 : at + 1 + data[at]])
            at += 1 + data[at]
        at += 1
        if blocks:
            yield b"".join(blocks)


def jpeg2000_comments(data: bytes) -> Iterator[bytes]:
    """The texts in the main header of a codestream, bare or in a JP2 (ISO 15444-1 A.9.2).

    Pillow gives the first alone, and none where another box stands before the codestream.
    """
    stream = data if data.startswith(b"\xff\x4f") else find_box(data, b"jp2c") or b""
    at = 2
    while at + 6 <= len(stream) and stream[at] == 0xFF and stream[at + 1] not in (0x90, 0xD9):
        length = int.from_bytes(stream[at + 2 : at + 4], "big")
        if length < 2:
            return
        if stream[at + 1] == 0x64 and stream[at + 4 : at + 6] == b"\0\1":  # and no binary data
            yield stream[at + 6 : at + 2 + length]
        at += 2 + length


def _colours(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
