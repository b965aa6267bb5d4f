"""H.273's codes of primaries and transfer written into a PNG or AVIF file that is encoded already."""

from __future__ import annotations

import struct
import zlib

_END_OF_HEADER = 8 + 12 + 13  # of a PNG


def with_cicp(data: bytes, codes: tuple[int, int] | None) -> bytes:
    """The file with the codes (primaries, transfer); as it is for None and for formats that have no place for them."""
    if codes is None:
        return data
    if data.startswith(b"\x89PNG"):
        content = b"cICP" + bytes((*codes, 0, 1))  # RGB of full range
        chunk = struct.pack(">I", 4) + content + struct.pack(">I", zlib.crc32(content))
        return data[:_END_OF_HEADER] + chunk + data[_END_OF_HEADER:]
    if data[4:12] == b"ftypavif" and (at := data.find(b"colrnclx")) >= 0:
        # the matrix stays: it is the one by which the encoder stored these pixels
        return data[: at + 8] + struct.pack(">HH", *codes) + data[at + 12 :]
    return data
