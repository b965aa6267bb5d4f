"""Metadata as it lies in an opened file, wherever the format puts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import ImageFile

from .png_text import png_texts

if TYPE_CHECKING:
    from collections.abc import Collection

    from PIL import Image

_PNG_XMP = "XML:com.adobe.xmp"


def stored_texts(image: Image.Image, keywords: Collection[str]) -> dict[str, str]:
    """The text chunks of an opened PNG; nothing for other formats."""
    if image.format != "PNG" or not isinstance(image, ImageFile.ImageFile) or image.fp is None:
        return {}
    return png_texts(image.fp, keywords)


def stored_xmp(image: Image.Image) -> bytes | None:
    """The XMP packet of an opened picture; None where there is none or it is blank."""
    packet: object = image.info.get("xmp")
    if image.format == "PNG":
        packet = stored_texts(image, (_PNG_XMP,)).get(_PNG_XMP, "").encode()
    return packet if isinstance(packet, bytes) and packet.strip(b"\0 \r\n\t") else None
