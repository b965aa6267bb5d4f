"""The layer in the last digits of a picture's samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from irnscale.detail import cells as digital
from irnscale.detail.cells import Samples
from irnscale.detail.chunk import SIZE, Common, Place, pack, parse
from irnscale.detail.codec import CODECS, Residual, encode_within
from irnscale.detail.tiles import Tile, grid, side_for
from irnscale.images.alpha import opaque_alpha, seen_alpha

MOST_BITS = 3
"""Per sample; more is seen as grain."""
SIDES = tuple(sorted({side_for(scale) for scale in range(2, 65)}, reverse=True))
"""The sides of tiles that are looked for where no record names one."""


@dataclass(frozen=True)
class Layer:
    """A picture's detail as it was found: what all tiles say, and the payload of each that is sound.

    tiles: of the whole grid. bits: of digits per sample; 0 where the payload was attached to the file.
    """

    common: Common
    bits: int
    tiles: tuple[Tile, ...]
    payloads: dict[int, bytes]

    @property
    def size(self) -> int:
        """Bytes of payload in all sound tiles together."""
        return sum(map(len, self.payloads.values()))

    @property
    def missing(self) -> int:
        """How many tiles have no sound payload."""
        return len(self.tiles) - len(self.payloads)

    def without_payloads(self) -> Layer:
        """The same digits as noise: nothing to add, but the network still starts from the samples without them."""
        return replace(self, payloads={})


def encode_tiles(
    residual_of: Callable[[Tile], Residual], tiles: Sequence[Tile], rooms: Sequence[int], codec: int, workers: int
) -> list[bytes | None]:
    """A stream per tile, at most as long as its room; `residual_of(tile)` gives what to encode."""

    def one(index: int) -> bytes | None:
        return encode_within(residual_of(tiles[index]), codec, rooms[index])

    with ThreadPoolExecutor(max(1, workers)) as pool:
        return list(pool.map(one, range(len(tiles))))


def hidden(
    fine: npt.NDArray[np.uint16],
    bits: int,
    depth: int,
    common: Common,
    payloads: Sequence[bytes | None],
    alpha: Samples | None = None,
) -> Samples:
    """The samples to store: cells of the network's picture, with the tiles' payloads as digits.

    fine: (H, W, C) uint16, the network's picture on the grid of 16 bits, C = 1 or 3 channels as they are stored.
    alpha: (H, W) as it is stored, which the checks cover.
    Where a tile has no payload, and behind its end, samples are what they would be without: the nearest ones.
    """
    cells = digital.cells_of(fine, bits, depth)
    digits = digital.nearest_digits(fine, cells, bits, depth)
    height, width, channels = fine.shape
    place = Place(width, height, bits, channels)
    for tile, payload in zip(grid(width, height, common.side), payloads, strict=True):
        if payload is None:
            continue
        part = digits[tile.small].reshape(-1)  # a copy
        data = pack(common, place, tile, checked_bytes(cells[tile.small], alpha, tile), payload)
        written = digital.bytes_to_digits(data, bits)
        part[: len(written)] = written
        digits[tile.small] = part.reshape(digits[tile.small].shape)
    return digital.joined(cells, digits, bits)


def found(
    samples: Samples, alpha: Samples | None = None, *, bits: int | None = None, side: int | None = None
) -> Layer | None:
    """The layer in (H, W, C) samples beside an alpha (H, W); None where no tile has one.

    bits, side: what a record says of them; None: all that are possible are tried. Decodes nothing, and reads nothing
    beyond what is there.
    """
    for width in range(1, MOST_BITS + 1) if bits is None else (bits,):
        for edge in SIDES if side is None else (side,):
            if (layer := _found(samples, alpha, width, edge)) is not None:
                return layer
    return None


def begins(samples: Samples) -> bool:
    """Whether the first tile of (H, W, C) samples has a header; looks at nothing else, however large they are."""
    height, width, _ = samples.shape
    for edge in SIDES:
        first = next(grid(width, height, edge))
        if any(True for bits in range(1, MOST_BITS + 1) for _ in _headers(samples, (first,), bits)):
            return True
    return False


def _found(samples: Samples, alpha: Samples | None, bits: int, side: int) -> Layer | None:
    height, width, channels = samples.shape
    place = Place(width, height, bits, channels)
    tiles = tuple(grid(width, height, side))
    headers = [(tile, header) for tile, header in _headers(samples, tiles, bits) if header[0].side == side]
    payloads: dict[int, bytes] = {}
    common: Common | None = None
    for tile, (said, length, crc) in headers:
        if (common is not None and said != common) or said.codec not in CODECS:
            continue
        cells, digits = digital.split(samples[tile.small], bits)
        if SIZE + length > digital.capacity(digits.size, bits):
            continue
        data = digital.digits_to_bytes(digits.reshape(-1), bits, 0, SIZE + length)
        payload = data[SIZE:]
        if any(place.check(data[:SIZE], tile, seen, payload) == crc for seen in as_checked(cells, alpha, tile)):
            common, payloads[tile.index] = said, payload
    return None if common is None else Layer(common, bits, tiles, payloads)


def _headers(samples: Samples, tiles: Sequence[Tile], bits: int) -> Iterator[tuple[Tile, tuple[Common, int, int]]]:
    """What the first digits of each tile say, where they are a header."""
    for tile in tiles:
        needed = -(-SIZE * 8 // bits)
        columns = tile.right - tile.left
        rows = min(tile.bottom, tile.top + -(-needed // (columns * samples.shape[2])))
        first = samples[tile.top : rows, tile.left : tile.right].reshape(-1)[:needed]
        header = parse(digital.digits_to_bytes(digital.split(first, bits)[1], bits, 0, SIZE))
        if header is not None:
            yield tile, header


def without(samples: Samples, bits: int) -> Samples:
    """The samples with neutral digits: what is seen stays, what was hidden is gone."""
    cells, digits = digital.split(samples, bits)
    return digital.joined(cells, np.full_like(digits, digital.neutral_digit(bits)), bits)


def cell_bytes(cells: Samples) -> bytes:
    """Cells in raster order, 16 bits little-endian where the picture has 16 bits."""
    return np.ascontiguousarray(cells).astype("<u2" if cells.dtype == np.uint16 else "u1", copy=False).tobytes()


def checked_bytes(cells: Samples, alpha: Samples | None, tile: Tile) -> bytes:
    """What a tile's check covers of the picture: its cells and, behind them, its part of the picture's alpha.

    What was erased by making it transparent must not come back, either.
    """
    return cell_bytes(cells) + (b"" if alpha is None else cell_bytes(alpha[tile.small]))


def as_checked(cells: Samples, alpha: Samples | None, tile: Tile) -> Iterator[bytes]:
    """What the check of a tile that nobody changed may cover.

    A tile that hides nothing is the same with an alpha and without: what became transparent or opaque elsewhere may
    have brought one since `down`, or taken it away.
    """
    part = None if alpha is None else seen_alpha(alpha[tile.small])
    if part is not None:
        yield checked_bytes(cells, alpha, tile)
        return
    yield cell_bytes(cells)
    yield cell_bytes(cells) + cell_bytes(opaque_alpha(cells))


def residual(original: Samples, base: Samples) -> Residual:
    """Original minus base, (h, w, 3), both uint8."""
    difference: Residual = original.astype(np.int16) - base
    return difference
