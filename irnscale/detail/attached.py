"""The layers in a block attached to the file: tiles in any amount, and the lossless residual."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from irnscale.detail.cells import Samples
from irnscale.detail.chunk import SIZE, Common, Place, pack, parse
from irnscale.detail.codec import CODECS, Residual, encode, expected_bytes
from irnscale.detail.pixels import Layer, as_checked, checked_bytes
from irnscale.detail.tiles import Tile, grid

MAGIC = b"irnd\x01"
LOSSY, EXACT = 1, 2
_SECTION = struct.Struct(">BI")
_INDEX = struct.Struct(">I")


@dataclass(frozen=True)
class Amount:
    """How much is attached: so many bytes, or whatever a quality from 0 to 100 takes. One of the two is given."""

    bytes: int | None = None
    quality: int | None = None


def encode_amount(
    residual_of: Callable[[Tile], Residual], tiles: Sequence[Tile], codec: int, amount: Amount
) -> list[bytes | None]:
    """A stream per tile, all of one quality: the given one, or the best whose bytes are within the given number.

    None for all where nothing fits.
    """
    if amount.quality is not None:
        return [encode(residual_of(tile), codec, amount.quality) for tile in tiles]
    assert amount.bytes is not None
    room = amount.bytes - len(MAGIC) - _SECTION.size - len(tiles) * (_INDEX.size + SIZE)
    best: list[bytes | None] = [None] * len(tiles)
    low, high = -1, 101
    ratio = 1.0
    for _ in range(6):
        if room <= 0 or low + 1 >= high:
            break
        quality = min(max(_quality_for(residual_of, tiles, room / ratio), low + 1), high - 1)
        streams = [encode(residual_of(tile), codec, quality) for tile in tiles]
        size = sum(map(len, streams))
        if size > room:
            high = quality
        else:
            low, best = quality, list(streams)
            if size >= 0.97 * room:
                break
        ratio = size / max(1.0, sum(expected_bytes(residual_of(tile), quality) for tile in tiles))
    return best


def _quality_for(residual_of: Callable[[Tile], Residual], tiles: Sequence[Tile], room: float) -> int:
    """The highest quality at which the tiles are expected to take at most `room` bytes together."""
    low, high = 0, 100
    while low < high:
        middle = (low + high + 1) // 2
        size = sum(expected_bytes(residual_of(tile), middle) for tile in tiles)
        low, high = (middle, high) if math.isfinite(size) and size <= room else (low, middle - 1)
    return low


def lossy_section(
    common: Common, samples: Samples, payloads: Sequence[bytes | None], alpha: Samples | None = None
) -> bytes:
    """A section of tiles, each with its check over the whole (H, W, C) samples of its place and the alpha (H, W).

    Empty where no tile has a payload.
    """
    height, width, channels = samples.shape
    place = Place(width, height, 0, channels)
    parts = [
        _INDEX.pack(tile.index) + pack(common, place, tile, checked_bytes(samples[tile.small], alpha, tile), payload)
        for tile, payload in zip(grid(width, height, common.side), payloads, strict=True)
        if payload is not None
    ]
    return b"".join(parts)


def lossy_layer(section: bytes, samples: Samples, alpha: Samples | None = None) -> Layer | None:
    """The tiles of a section that fit the samples; None where none does, or the section is damaged at its start."""
    height, width, channels = samples.shape
    place = Place(width, height, 0, channels)
    common: Common | None = None
    tiles: tuple[Tile, ...] = ()
    payloads: dict[int, bytes] = {}
    at = 0
    while at + _INDEX.size + SIZE <= len(section):
        index = _INDEX.unpack_from(section, at)[0]
        header = section[at + _INDEX.size : at + _INDEX.size + SIZE]
        said = parse(header)
        if said is None or (common is not None and said[0] != common):
            break
        if common is None:
            if said[0].codec not in CODECS:
                return None
            common = said[0]
            tiles = tuple(grid(width, height, common.side))
        at += _INDEX.size + SIZE
        payload = section[at : at + said[1]]
        at += said[1]
        if index >= len(tiles) or len(payload) < said[1]:
            break
        tile = tiles[index]
        seen = as_checked(samples[tile.small], alpha, tile)
        if any(place.check(header, tile, cells, payload) == said[2] for cells in seen):
            payloads[index] = payload
    return None if common is None else Layer(common, 0, tiles, payloads)


def block(sections: dict[int, bytes]) -> bytes:
    """The bytes to attach, of sections by kind."""
    return MAGIC + b"".join(_SECTION.pack(kind, len(data)) + data for kind, data in sections.items() if data)


def sections(data: bytes) -> dict[int, bytes]:
    """The sections of an attached block; empty where it is none of ours, cut where it is damaged."""
    found: dict[int, bytes] = {}
    at = len(MAGIC)
    if not data.startswith(MAGIC):
        return found
    while at + _SECTION.size <= len(data):
        kind, length = _SECTION.unpack_from(data, at)
        at += _SECTION.size
        if at + length > len(data):
            break
        found.setdefault(kind, data[at : at + length])
        at += length
    return found
