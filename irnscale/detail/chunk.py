"""What stands before a tile's payload: enough to restore the picture where its record was lost, and the check."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from irnscale.detail.tiles import UNIT, Tile

MAGIC = b"\xd7\x1d"
VERSION = 1
_LAYOUT = struct.Struct(">2sBBBBBB6s3sI")
SIZE = _LAYOUT.size
"""Bytes of a header, 21."""
_CHECKED = SIZE - 4
GRAY, OPAQUE_ALPHA, JPEG_RESISTANT, BICUBIC_BASE = 1, 2, 4, 8
_KNOWN_FLAGS = GRAY | OPAQUE_ALPHA | JPEG_RESISTANT | BICUBIC_BASE
LONGEST = (1 << 24) - 1


@dataclass(frozen=True)
class Common:
    """What the headers of all tiles of a picture say alike.

    codec: one of `codec.CODECS`. flags: of GRAY, OPAQUE_ALPHA, JPEG_RESISTANT, BICUBIC_BASE. scale 2 to 64. padding:
    (right, bottom), pixels by which scale times the small picture exceeds the original, each below scale.
    side: largest side of a tile in pixels of the small picture, a multiple of 16. digest: the first 12 hexadecimal
    digits that identify the model's weights, as in the record.
    """

    codec: int
    flags: int
    scale: int
    padding: tuple[int, int]
    side: int
    digest: str

    def original(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of the original of a small picture of this size."""
        return width * self.scale - self.padding[0], height * self.scale - self.padding[1]


@dataclass(frozen=True)
class Place:
    """Where a tile's samples lie: the small picture's size, the bits of digits per sample, and samples per pixel.

    bits 0: the payload is attached to the file, and whole samples are checked.
    """

    width: int
    height: int
    bits: int
    channels: int

    def check(self, header: bytes, tile: Tile, cells: bytes, payload: bytes) -> int:
        """CRC-32 over the header before it, the tile's place, its cells in raster order, and the payload."""
        place = struct.pack(">IIIBB", self.width, self.height, tile.index, self.bits, self.channels)
        crc = zlib.crc32(place, zlib.crc32(header[:_CHECKED]))
        return zlib.crc32(payload, zlib.crc32(cells, crc))


def pack(common: Common, place: Place, tile: Tile, cells: bytes, payload: bytes) -> bytes:
    """Header and payload of one tile. Raises ValueError for a payload of 16 MiB or more."""
    if len(payload) > LONGEST:
        raise ValueError(f"a payload of {len(payload)} bytes is too long")
    fields = (
        *(MAGIC, VERSION << 4 | common.codec, common.flags, common.scale, *common.padding, common.side // UNIT),
        *(bytes.fromhex(common.digest), len(payload).to_bytes(3, "big")),
    )
    header = _LAYOUT.pack(*fields, 0)
    return header[:_CHECKED] + place.check(header, tile, cells, payload).to_bytes(4, "big") + payload


def parse(data: bytes) -> tuple[Common, int, int] | None:
    """A header -> (what it says, length of its payload, CRC); None for anything else, or a later version."""
    if len(data) < SIZE:
        return None
    magic, kind, flags, scale, right, bottom, side, digest, length, crc = _LAYOUT.unpack(data[:SIZE])
    sound = magic == MAGIC and kind >> 4 == VERSION and not flags & ~_KNOWN_FLAGS and 2 <= scale <= 64
    if not sound or not side or right >= scale or bottom >= scale:
        return None
    common = Common(kind & 15, flags, scale, (right, bottom), side * UNIT, digest.hex())
    return common, int.from_bytes(length, "big"), crc
