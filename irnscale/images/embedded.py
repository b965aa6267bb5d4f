"""Metadata that Pillow leaves in the file: put where it leaves that of other formats, in `info`."""

from __future__ import annotations

import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from irnscale.images.boxes import boxes_in, exif_item
from irnscale.images.exif import ORIENTATION
from irnscale.images.gif_xmp import gif_xmp
from irnscale.images.jpeg_segments import XMP_IDENTIFIER
from irnscale.images.orientation import turned_size
from irnscale.images.photoshop import EXIF, IPTC, SEGMENT_IDENTIFIER, XMP, iptc_of, resources
from irnscale.images.png_text import RESOURCES_KEYWORD, packed_exif, png_texts, profile_bytes
from irnscale.images.stored import stored_xmp
from irnscale.images.xmp import xmp_orientation

if TYPE_CHECKING:
    from typing import BinaryIO

    from PIL import Image

_UUIDS = {
    b"JpgTiffExif->JP2": "exif",
    bytes.fromhex("0537cdab9d0c4431a72afa561f2a113e"): "exif",  # as Photoshop writes it
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"): "iptc",
    bytes.fromhex("09a14e97c0b442e0bebf36df6f0ce36f"): "iptc",  # as Photoshop writes it
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): "xmp",
    bytes.fromhex("2c4c0100850440b9a03e562148d6dfeb"): "photoshop",
}
_RESOURCES = {EXIF: "exif", IPTC: "iptc", XMP: "xmp"}
_CHUNKS = {b"EXIF": "exif", b"XMP ": "xmp", b"XMP\0": "xmp"}
_XMP_KEYWORD = "Raw profile type xmp"
_PROFILES = (_XMP_KEYWORD, "Raw profile type exif", "Raw profile type APP1", RESOURCES_KEYWORD)
_MOST_RESOURCES = 2**26  # bytes of all of a PSD's


def reveal(image: Image.Image) -> None:
    """Add what is missing to the `info` of a picture just opened, whose file stays where it is read. Never raises.

    "exif", "xmp" and "iptc" are bytes there. What Pillow found itself stays; "stored_exif" is the block of which it
    made "exif", where it may have moved the maker note, and "xmp_profile" the packet of a PNG from a place that counts
    less than its own.
    """
    if image.format == "TIFF" and not isinstance(image.info.get("xmp", b""), bytes):
        del image.info["xmp"]  # numbers, in which Pillow would look for text; `stored_xmp` has the bytes
    if image.format == "TIFF":
        with suppress(OSError, ValueError, struct.error, SyntaxError, LookupError, TypeError):
            _turn_by_xmp(image)
    find = _FINDERS.get(image.format or "")
    file = getattr(image, "fp", None)
    if find is None or file is None:
        return
    position = file.tell()
    info: dict[Any, Any] = image.info
    try:
        with suppress(OSError, ValueError, struct.error, IndexError):
            for name, content in find(file).items():
                info.setdefault(name, content)
    finally:
        file.seek(position)


def _turn_by_xmp(image: Image.Image) -> None:
    """Tell Pillow of an orientation that only the XMP of a TIFF has: it looks for some spellings of it alone, and turns
    the pixels by it without exchanging width and height.
    """
    tiff: Any = image
    if ORIENTATION in tiff.tag_v2 or (packet := stored_xmp(image)) is None:
        return
    if (value := xmp_orientation(packet)) is not None:
        tiff.getexif()[ORIENTATION] = value
        tiff._size = turned_size(image.size, value)


def _of_jpeg2000(file: BinaryIO) -> dict[str, bytes]:
    """From the boxes of a JP2, named by UUIDs that other programs agree upon; the first of each kind."""
    found: dict[str, bytes] = {}
    for content in boxes_in(file, b"uuid"):
        name = _UUIDS.get(content[:16])
        if name is not None:
            found.setdefault(name, content[16:])
    block = iptc_of(found.pop("photoshop", b""))
    return {"iptc": block, **found} if block else found


def _of_psd(file: BinaryIO) -> dict[str, bytes]:
    """From the image resources, which follow the header and the colour table."""
    file.seek(26)
    file.seek(int.from_bytes(file.read(4), "big"), 1)
    section = file.read(min(int.from_bytes(file.read(4), "big"), _MOST_RESOURCES))
    found: dict[str, bytes] = {}
    for number, content in resources(section):
        if number in _RESOURCES and content:
            found.setdefault(_RESOURCES[number], content)
    if block := iptc_of(section):
        found["iptc"] = block
    return found


def _of_gif(file: BinaryIO) -> dict[str, bytes]:
    packet = gif_xmp(file)
    return {} if packet is None else {"xmp": packet}


def _of_avif(file: BinaryIO) -> dict[str, bytes]:
    """Pillow rewrites EXIF whose orientation is not that of the picture's own properties."""
    block = exif_item(file)
    return {"stored_exif": block} if block else {}


def _of_webp(file: BinaryIO) -> dict[str, bytes]:
    """From its chunks, whether the header announces them or not: without that Pillow passes over them."""
    file.seek(12)
    found: dict[str, bytes] = {}
    while len(header := file.read(8)) == 8:
        kind, length = header[:4], int.from_bytes(header[4:], "little")
        if (name := _CHUNKS.get(kind)) is not None and length <= _MOST_RESOURCES:
            found.setdefault(name, file.read(length))
            length = length % 2
        else:
            length += length % 2
        file.seek(length, 1)
    return {name: content for name, content in found.items() if content}


def _of_png(file: BinaryIO) -> dict[str, bytes]:
    """From the hexadecimal texts in which ImageMagick keeps profiles, and many programs did before PNG knew EXIF.

    What is no hexadecimal text is replaced by what is told to be damaged where it is parsed.
    """
    found: dict[str, bytes] = {}
    if block := packed_exif(file):
        found["exif"] = block
    for keyword, text in png_texts(file, _PROFILES).items():
        try:
            content = profile_bytes(text)
        except ValueError:
            content = b"damaged"
        if keyword == RESOURCES_KEYWORD:
            found |= {"iptc": block} if (block := iptc_of(content.removeprefix(SEGMENT_IDENTIFIER))) else {}
        elif keyword == _XMP_KEYWORD or content.startswith(XMP_IDENTIFIER):
            found["xmp_profile"] = content.removeprefix(XMP_IDENTIFIER)
        else:
            found["exif"] = content
    return found


_FINDERS = {
    "WEBP": _of_webp,
    "JPEG2000": _of_jpeg2000,
    "PSD": _of_psd,
    "GIF": _of_gif,
    "AVIF": _of_avif,
    "PNG": _of_png,
}
