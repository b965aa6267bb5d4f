"""A small TIFF writer: deflate with prediction, 8 and 16 bits, with EXIF, XMP and profile.

Pillow compresses through libtiff, which cannot write EXIF directories; its own writer does not compress, and moves the
camera's maker note, whose own offsets would then point nowhere. Here the file begins with the EXIF block as it is.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from irnscale.errors import UsageError
from irnscale.images.exif import without_loose_ends
from irnscale.images.exif_layout import fields_for_tiff
from irnscale.images.iptc import TIFF_TAG

if TYPE_CHECKING:
    from irnscale.images.pixels import Pixels
    from irnscale.images.tiff_directories import Field

_STRIP_BYTES = 1 << 20
_MAX_FILE = 2**32 - 2**20
_DEFLATE, _HORIZONTAL, _UNASSOCIATED_ALPHA = 8, 2, 2
_XMP, _ICC = 700, 34675
_BYTE, _SHORT, _LONG, _UNDEFINED = 1, 3, 4, 7


def tiff_bytes(
    planes: Pixels,
    *,
    gray: bool,
    alpha: bool,
    icc: bytes | None,
    exif: bytes | None,
    xmp: bytes | None,
    iptc: bytes | None = None,
) -> bytes:
    """A TIFF file of (H, W, C) pixels; the last channel is alpha where `alpha` is set.

    Its byte order is that of the EXIF block, little-endian without. Raises UsageError where the file would pass the
    4 GiB that TIFF can address, ValueError for a damaged EXIF block.
    """
    height, width, channels = planes.shape
    depth = 8 * planes.dtype.itemsize
    exif = without_loose_ends(exif) if exif else None
    order, described = fields_for_tiff(exif) if exif else ("<", [])
    rows = max(1, min(height, _STRIP_BYTES // (width * channels * planes.dtype.itemsize)))
    strips = [_compress(planes[top : top + rows], order) for top in range(0, height, rows)]
    sizes = tuple(len(strip) for strip in strips)
    if sum(sizes) > _MAX_FILE:
        raise UsageError(
            "the picture is too large for a TIFF file (4 GiB)", "choose png with `format`", parameters=("format",)
        )

    file = _File(order, exif)
    for field in described:
        file.put(field)
    places = [file.append(strip) for strip in strips]
    file.set_numbers(256, _LONG, width)
    file.set_numbers(257, _LONG, height)
    file.set_numbers(258, _SHORT, *(depth,) * channels)
    file.set_numbers(259, _SHORT, _DEFLATE)
    file.set_numbers(262, _SHORT, 1 if gray else 2)
    file.set_numbers(273, _LONG, *places)
    file.set_numbers(277, _SHORT, channels)
    file.set_numbers(278, _LONG, rows)
    file.set_numbers(279, _LONG, *sizes)
    file.set_numbers(284, _SHORT, 1)
    file.set_numbers(317, _SHORT, _HORIZONTAL)
    if alpha:
        file.set_numbers(338, _SHORT, _UNASSOCIATED_ALPHA)
    for tag, kind, content in ((_XMP, _BYTE, xmp), (TIFF_TAG, _UNDEFINED, iptc), (_ICC, _UNDEFINED, icc)):
        if content:
            file.set_value(tag, kind, len(content), content)
    return file.finished()


class _File:
    """A TIFF file in the making: what its directory points to, the directory at the end."""

    def __init__(self, order: str, block: bytes | None) -> None:
        """It begins with `block`, an EXIF block of that byte order, or with an empty header."""
        self._order = order
        self._parts = [block or (b"II*\0" if order == "<" else b"MM\0*") + bytes(4)]
        self._length = len(self._parts[0])
        self._entries: dict[int, bytes] = {}

    def append(self, content: bytes) -> int:
        """Where in the file it is; even, as TIFF demands."""
        if self._length % 2:
            self._parts.append(b"\0")
            self._length += 1
        place = self._length
        self._parts.append(content)
        self._length += len(content)
        return place

    def put(self, field: Field) -> None:
        """An entry of the block, whose content stays where it is."""
        content = field.content or b""
        value = content.ljust(4, b"\0") if len(content) <= 4 else struct.pack(self._order + "I", field.place)
        self._entry(field.tag, field.kind, field.many, value)

    def set_numbers(self, tag: int, kind: int, *numbers: int) -> None:
        """SHORT or LONG."""
        packed = struct.pack(f"{self._order}{len(numbers)}{'H' if kind == _SHORT else 'I'}", *numbers)
        self.set_value(tag, kind, len(numbers), packed)

    def set_value(self, tag: int, kind: int, count: int, content: bytes) -> None:
        """`content` in the byte order of the file."""
        short = len(content) <= 4
        value = content.ljust(4, b"\0") if short else struct.pack(self._order + "I", self.append(content))
        self._entry(tag, kind, count, value)

    def _entry(self, tag: int, kind: int, count: int, value: bytes) -> None:
        self._entries[tag] = struct.pack(self._order + "HHI", tag, kind, count) + value

    def finished(self) -> bytes:
        """The file."""
        entries = b"".join(self._entries[tag] for tag in sorted(self._entries))
        start = self.append(struct.pack(self._order + "H", len(self._entries)) + entries + bytes(4))
        head = self._parts[0]
        self._parts[0] = head[:4] + struct.pack(self._order + "I", start) + head[8:]
        return b"".join(self._parts)


def _compress(strip: Pixels, order: str) -> bytes:
    """Deflated differences to the pixel at the left."""
    values = strip.copy()
    values[:, 1:] -= strip[:, :-1]  # wraps around, as the format wants
    return zlib.compress(values.astype(strip.dtype.newbyteorder("<" if order == "<" else ">")).tobytes(), 6)
