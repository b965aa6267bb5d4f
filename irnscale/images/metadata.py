"""EXIF, XMP and IPTC of an opened picture, as they go with upright pixels, or a line of what is wrong with them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from irnscale.images.exif import PREFIX, upright_exif
from irnscale.images.exif_layout import block_of_tiff
from irnscale.images.extended_xmp import with_extension
from irnscale.images.iptc import stored_iptc
from irnscale.images.stored import in_file, stored_xmp
from irnscale.images.xmp import names_second_picture, upright_xmp
from irnscale.images.xmp_document import TooLargeError

if TYPE_CHECKING:
    from PIL import Image


def read_exif(image: Image.Image) -> tuple[bytes | None, str | None]:
    """The cleaned block, and a note where it had to be dropped."""
    try:
        if image.format == "TIFF":
            return in_file(image, ("TIFF",), block_of_tiff) or (None, None)
        block = image.info.get("stored_exif", image.info.get("exif"))
        if not isinstance(block, bytes) or not block.removeprefix(PREFIX):
            return None, None
        return upright_exif(block), None
    except (ValueError, SyntaxError, OSError, LookupError, TypeError, AttributeError, ArithmeticError):
        return None, "its EXIF block is damaged and was dropped"


def read_iptc(image: Image.Image) -> tuple[bytes | None, str | None]:
    """The data sets that describe the photograph, and a note where they had to be dropped."""
    try:
        return stored_iptc(image), None
    except (ValueError, IndexError, struct.error):
        return None, "its IPTC block is damaged and was dropped"


def read_xmp(image: Image.Image) -> tuple[bytes | None, tuple[str, ...]]:
    """The cleaned packet, with what extends it, and notes of what had to be dropped."""
    packet, note = with_extension(image, stored_xmp(image))
    notes = (note,) if note else ()
    if packet is None:
        return None, notes
    try:
        if image.format != "MPO" and names_second_picture(packet):
            what = "a gain map, depth map, sound or second picture with it"
            notes = (*notes, f"only the primary picture is kept; {what} is dropped")
        return upright_xmp(packet), notes
    except TooLargeError:
        return None, (*notes, "its XMP packet has more than 16 MiB, or too many parts, and was dropped")
    except ValueError:
        return None, (*notes, "its XMP packet is damaged and was dropped")
