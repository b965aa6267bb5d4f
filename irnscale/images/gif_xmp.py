"""The XMP packet of a GIF.

Adobe XMP Specification Part 3, 1.1.2: an application extension, in whose sub-blocks the packet lies as it is, so that
their lengths are its letters; a trailer of descending numbers leads from wherever one gets to the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from irnscale.images.xmp_document import MAX_PACKET

if TYPE_CHECKING:
    from typing import BinaryIO

_NAME = b"XMP DataXMP"
_TRAILER = bytes(range(255, 0, -1))  # behind a 1
_EXTENSION, _APPLICATION, _FRAME = b"!", b"\xff", b","
_MOST_BLOCKS = 2**20


def gif_xmp(file: BinaryIO) -> bytes | None:
    """The packet, wherever it stands among the frames; None where there is none, or it is longer than 16 MiB."""
    file.seek(0)
    header = file.read(13)
    if len(header) < 13 or not header.startswith(b"GIF8"):
        return None
    _skip_colours(file, header[10])
    left = _MOST_BLOCKS
    while left > 0:
        kind = file.read(1)
        if kind == _EXTENSION:
            if file.read(1) == _APPLICATION:
                size = file.read(1)
                name = file.read(size[0] if size else 0)
                if name == _NAME:
                    return _packet(file)
        elif kind == _FRAME and len(frame := file.read(9)) == 9:
            _skip_colours(file, frame[8])
            file.read(1)  # the width of its codes
        else:
            return None
        left -= 1 + _skip_blocks(file, left)
    return None


def _skip_colours(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << (flags & 7) + 1, 1)


def _skip_blocks(file: BinaryIO, most: int) -> int:
    """Pass over sub-blocks, and how many they were."""
    for number in range(most):
        size = file.read(1)
        if not size or not size[0]:
            return number
        file.seek(size[0], 1)
    return most


def _packet(file: BinaryIO) -> bytes | None:
    """From the sub-blocks: with their lengths where the trailer follows, else what a careless writer put in them."""
    whole, contents = bytearray(), bytearray()
    while len(whole) <= MAX_PACKET + len(_TRAILER):
        size = file.read(1)
        if not size or not size[0]:
            end = whole.rfind(_TRAILER)
            return bytes(contents if end < 0 else whole[:end].removesuffix(b"\1"))
        content = file.read(size[0])
        whole += size + content
        contents += content
    return None
