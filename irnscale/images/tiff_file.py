"""A small TIFF writer: deflate with prediction, 8 and 16 bits, with EXIF, XMP and profile.

Pillow compresses through libtiff, which cannot write EXIF directories; its own writer does not compress.
"""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, TiffTags
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ..errors import UsageError
from .exif import descriptive_tags
from .iptc import TIFF_TAG

if TYPE_CHECKING:
    from .picture import Pixels

_STRIP_BYTES = 1 << 20
_MAX_FILE = 2**32 - 2**20
_DEFLATE, _HORIZONTAL, _UNASSOCIATED_ALPHA = 8, 2, 2
_XMP, _ICC = 700, 34675


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

    Raises UsageError where the file would pass the 4 GiB that TIFF can address.
    """
    height, width, channels = planes.shape
    depth = 8 * planes.dtype.itemsize
    rows = max(1, min(height, _STRIP_BYTES // (width * channels * planes.dtype.itemsize)))
    strips = [_compress(planes[top : top + rows]) for top in range(0, height, rows)]
    sizes = tuple(len(strip) for strip in strips)
    if sum(sizes) > _MAX_FILE:
        raise UsageError("the picture is too large for a TIFF file (4 GiB)", "choose png with --format")

    directory: Any = ImageFileDirectory_v2(prefix=b"II")
    if exif:
        source = Image.Exif()
        source.load(exif)
        for tag, value in descriptive_tags(source).items():
            directory[tag] = value
    directory[256], directory[257] = width, height
    directory[258] = (depth,) * channels
    directory[259] = _DEFLATE
    directory[262] = 1 if gray else 2
    directory[277] = channels
    directory[278] = rows
    directory[284] = 1
    directory[317] = _HORIZONTAL
    if alpha:
        directory[338] = _UNASSOCIATED_ALPHA
    if icc:
        directory[_ICC] = icc
    if xmp:
        directory.tagtype[_XMP] = TiffTags.BYTE
        directory[_XMP] = xmp
    if iptc:
        directory.tagtype[TIFF_TAG] = TiffTags.UNDEFINED
        directory[TIFF_TAG] = iptc
    for tag, value in ((273, tuple(np.cumsum((0, *sizes[:-1])).tolist())), (279, sizes)):
        directory.tagtype[tag] = TiffTags.LONG
        directory[tag] = value
    file = io.BytesIO()
    directory.save(file)  # moves the offsets of the strips behind itself
    for strip in strips:
        file.write(strip)
    return file.getvalue()


def _compress(strip: Pixels) -> bytes:
    """Deflated differences to the pixel at the left, little-endian."""
    values = strip.astype(strip.dtype.newbyteorder("<"))
    values[:, 1:] -= strip[:, :-1]  # wraps around, as the format wants
    return zlib.compress(values.tobytes(), 6)
