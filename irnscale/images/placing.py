"""Resolution and texts put where a format keeps them."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

from irnscale.images.exif import PREFIX
from irnscale.images.exif_additions import with_fields
from irnscale.images.jpeg_segments import ROOM
from irnscale.images.resolution import exif_fields, jfif_density, of_exif, png_chunk, with_jfif_density
from irnscale.images.texts import COMMENT, dropped_note, png_text_chunks, text_fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from irnscale.images.picture import Picture

_END_OF_HEADER = 8 + 12 + 13  # of a PNG


def placed(picture: Picture, format: str) -> tuple[Picture, tuple[str, ...]]:
    """The picture for a file of `format`, and what the user is to be told.

    What the format says in EXIF's tags is in its EXIF block, which need not have been there before: resolution in WebP,
    TIFF and AVIF; in all but PNG the texts that EXIF knows. `texts` are those that the format has a place of its own
    for, which is all in PNG, comments in JPEG, and none elsewhere.
    """
    notes = []
    resolution, exif = picture.resolution, picture.exif
    if resolution and format in ("webp", "tiff", "avif") and of_exif(exif) != resolution:
        exif = with_fields(exif, exif_fields(resolution))
    if resolution and format in ("jpg", "png") and _unsaid(picture, format):
        notes.append(f"its resolution was dropped: it is none that a {format} file can say")
    if format == "png" or not picture.texts:
        return replace(picture, exif=exif), tuple(notes)
    own = [text for text in picture.texts if format == "jpg" and text.keyword == COMMENT]
    own = [text for text in own if max(len(text.as_comment), len(text.utf8)) <= ROOM]
    rest = [text for text in picture.texts if text not in own]
    fields, found = text_fields(rest, exif)
    if fields:
        richer = with_fields(exif, fields)
        if format == "jpg" and len(PREFIX) + len(richer or b"") > ROOM:
            found = set()
        else:
            exif = richer
    if lost := [text for text in rest if text not in found]:
        notes.append(dropped_note(lost, format))
    if picture.format == "png" and picture.record is None:
        # a PNG says how its letters are coded, but one of ours holds what a JPEG had; readers of comments expect UTF-8
        own = [replace(text, text=text.utf8.decode(), international=True) for text in own]
    return replace(picture, exif=exif, texts=tuple(own)), tuple(notes)


def with_placed(data: bytes, picture: Picture) -> bytes:
    """A file just encoded, with what the encoder was not told of: JPEG's density, PNG's pHYs and texts."""
    if data.startswith(b"\xff\xd8"):
        return with_jfif_density(data, picture.resolution)
    if not data.startswith(b"\x89PNG"):
        return data
    chunks = list(png_text_chunks(picture.texts))
    if picture.resolution and (content := png_chunk(picture.resolution)):
        chunks.insert(0, (b"pHYs", content))
    return data[:_END_OF_HEADER] + b"".join(_chunks(chunks)) + data[_END_OF_HEADER:]


def _unsaid(picture: Picture, format: str) -> bool:
    assert picture.resolution is not None
    return (jfif_density if format == "jpg" else png_chunk)(picture.resolution) is None


def _chunks(chunks: Iterable[tuple[bytes, bytes]]) -> Iterable[bytes]:
    for kind, content in chunks:
        yield struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
