"""The clean aperture of AVIF and HEIC (ISO/IEC 14496-12, `clap`): the part of the coded picture that is shown.

Pillow and imagecodecs decode what is around it in an AVIF too; libheif, which reads HEIC, does not.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING

from irnscale.errors import InputError
from irnscale.images.boxes import primary_properties

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

_FIELDS = ">IIIIiIiI"  # width, height, horizontal and vertical offset of the middle, each over a denominator
_TOO_LONG = 2**28  # bytes of a file in which it is looked for without decoding


def clean_aperture(image: Image.Image, source: Path | bytes, name: str) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) of what is shown of an opened picture as it is decoded; None where that is all.

    Raises InputError, which calls the picture `name`, for an aperture that is not within it, or, of an AVIF, not of
    whole pixels.
    """
    if image.format not in ("AVIF", "HEIF"):
        return None
    data = source if isinstance(source, bytes) else _read(source)
    size = image.size
    for kind, content in primary_properties(data):
        if image.format == "HEIF" and kind == b"ispe" and len(content) >= 12:
            size = struct.unpack_from(">II", content, 4)
        if image.format == "HEIF" and kind in (b"irot", b"imir"):
            return None  # the aperture is that of a picture turned already, against the order of the standard
        if kind == b"clap" and len(content) >= 32:
            box = _within(_box(content, size), size, name, whole=image.format == "AVIF")
            return box if image.format == "AVIF" else None
    return None


def impossible_aperture(data: bytes) -> bool:
    """Whether the aperture of an AVIF or HEIC, of which `data` is the beginning, divides by zero."""
    found = (content for kind, content in primary_properties(data) if kind == b"clap" and len(content) >= 32)
    return any(0 in struct.unpack_from(_FIELDS, content)[1::2] for content in found)


def _box(content: bytes, size: tuple[int, int]) -> tuple[Fraction, ...] | None:
    """Left, top, right and bottom; None for denominators of 0."""
    parts = struct.unpack_from(_FIELDS, content)
    if 0 in parts[1::2]:
        return None
    width, height, across, down = (Fraction(*parts[k : k + 2]) for k in range(0, 8, 2))
    left = Fraction(size[0] - 1, 2) + across - (width - 1) / 2
    top = Fraction(size[1] - 1, 2) + down - (height - 1) / 2
    return left, top, left + width, top + height


def _within(
    box: tuple[Fraction, ...] | None, size: tuple[int, int], name: str, *, whole: bool
) -> tuple[int, int, int, int]:
    """The box in `whole` pixels, or, as libheif does it, rounded; InputError where there is none within `size`."""
    again = "save it again, without cropping"
    if box is None:
        raise InputError(f"{name}: its clean aperture (clap) is invalid: it divides by 0", again)
    left, top, right, bottom = box
    room = 0 if whole else Fraction(99, 100)  # what rounding may take
    fits = min(left, top) >= -room and right <= size[0] + room and bottom <= size[1] + room
    if not (fits and left < right and top < bottom):
        what = f"{_shown(right - left)}x{_shown(bottom - top)} at {_shown(left)},{_shown(top)}"
        raise InputError(
            f"{name}: its clean aperture (clap) is invalid: {what} is not within its {size[0]}x{size[1]} pixels", again
        )
    if whole and any(side.denominator != 1 for side in box):
        raise InputError(f"{name}: its clean aperture (clap) is not of whole pixels, which is not supported", again)
    return int(left), int(top), int(right), int(bottom)


def _shown(value: Fraction) -> str:
    return f"{float(value):.10g}"


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_TOO_LONG)
