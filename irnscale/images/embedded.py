"""Metadata that Pillow leaves in the file: put where it leaves that of other formats, in `info`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image


def reveal(image: Image.Image) -> None:
    """Add what is missing to the `info` of a picture just opened, whose file stays where it is read. Never raises."""
    if image.format == "TIFF" and not isinstance(image.info.get("xmp", b""), bytes):
        del image.info["xmp"]  # numbers, in which Pillow would look for text; `stored_xmp` has the bytes
