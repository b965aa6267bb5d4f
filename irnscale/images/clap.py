"""The clean aperture of an AVIF picture (ISO/IEC 14496-12, `clap`): the part of the coded picture that is shown.

Pillow and imagecodecs decode what is around it too; libheif, which reads HEIC, does not.
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import TYPE_CHECKING

from .boxes import primary_properties

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

_FIELDS = ">IIIIiIiI"  # width, height, horizontal and vertical offset of the middle, each over a denominator
_TOO_LONG = 2**28  # bytes of a file in which it is looked for without decoding


def clean_aperture(image: Image.Image, source: Path | bytes) -> tuple[int, int, int, int] | None:
    """(left, top, right, bottom) of what is shown of an opened picture as it is stored; None where that is all.

    Raises ValueError for an aperture that is not of whole pixels of the picture.
    """
    if image.format != "AVIF":
        return None
    data = source if isinstance(source, bytes) else _read(source)
    for kind, content in primary_properties(data):
        if kind == b"clap" and len(content) >= 32:
            parts = struct.unpack_from(_FIELDS, content)
            if 0 in parts[1::2]:
                raise ValueError("the clean aperture divides by 0")
            width, height, across, down = (Fraction(*parts[k : k + 2]) for k in range(0, 8, 2))
            left = Fraction(image.width - 1, 2) + across - (width - 1) / 2
            top = Fraction(image.height - 1, 2) + down - (height - 1) / 2
            box = (left, top, left + width, top + height)
            inside = 0 <= left < box[2] <= image.width and 0 <= top < box[3] <= image.height
            if not inside or any(side.denominator != 1 for side in box):
                raise ValueError("the clean aperture is not of whole pixels inside of the picture")
            return int(left), int(top), int(box[2]), int(box[3])
    return None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_TOO_LONG)
