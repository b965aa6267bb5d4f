"""Metadata as it lies in an opened file, wherever the format puts it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from irnscale.images.jpeg_segments import contents
from irnscale.images.png_text import png_texts
from irnscale.images.tiff_directories import raw_values
from irnscale.images.xmp_document import as_utf8

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from PIL import Image

_Found = TypeVar("_Found")
_PNG_XMP = "XML:com.adobe.xmp"
_TIFF_XMP = 700
_DAMAGED = b"<"  # what no parser takes


def in_file(image: Image.Image, formats: Collection[str], read: Callable[[BinaryIO], _Found]) -> _Found | None:
    """What `read` finds in the file of an opened picture, which stays where Pillow reads it.

    None for other formats than these, and once Pillow has decoded the picture and let go of the file.
    """
    file = getattr(image, "fp", None)
    if image.format not in formats or file is None:
        return None
    position = file.tell()
    try:
        return read(file)
    finally:
        file.seek(position)


def stored_texts(image: Image.Image, keywords: Collection[str]) -> dict[str, str]:
    """The text chunks of an opened PNG; nothing for other formats."""
    return in_file(image, ("PNG",), lambda file: png_texts(file, keywords)) or {}


def stored_values(image: Image.Image, tags: Collection[int]) -> dict[int, bytes | None]:
    """Tags of the first directory of an opened TIFF as they are stored; nothing for other formats, or once decoded.

    Pillow makes of them what it thinks their type is: of IPTC that is called LONG, as ImageMagick, GIMP and exiftool
    do, the first four bytes.
    """
    return in_file(image, ("TIFF",), lambda file: raw_values(file, tags)) or {}


def stored_segments(image: Image.Image, marker: int, identifier: bytes) -> list[bytes]:
    """What follows `identifier` in the segments of an opened JPEG; nothing for other formats, or once decoded."""
    return in_file(image, ("JPEG", "MPO"), lambda file: list(contents(file, marker, identifier))) or []


def stored_xmp(image: Image.Image) -> bytes | None:
    """The XMP packet of an opened picture, in UTF-8 unless it is damaged; None where there is none or it is blank."""
    packet: object = image.info.get("xmp")
    if image.format == "PNG":
        packet = stored_texts(image, (_PNG_XMP,)).get(_PNG_XMP, "").encode()
        packet = packet or image.info.get("xmp_profile")
    elif image.format == "TIFF":
        packet = stored_values(image, (_TIFF_XMP,)).get(_TIFF_XMP, b"")
        packet = _DAMAGED if packet is None else packet
    if not isinstance(packet, bytes) or not packet.strip(b"\0 \r\n\t"):
        return None
    with suppress(ValueError):
        return as_utf8(packet)
    return packet
