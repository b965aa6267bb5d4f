"""The lossless layer: an integer base from the small picture, and what is missing from it to the original, bit for bit.

Nothing here depends on floating point: the base is Keys's bicubic enlargement in integers, of each tile by itself, so
that a tile depends on no other; the residual is taken modulo 256 and stored as lossless WebP, whose pixels are
exactly those that were given.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from irnscale.detail.cells import Samples
from irnscale.detail.pixels import cell_bytes
from irnscale.detail.tiles import LARGE_SIDE, UNIT, Tile, grid
from irnscale.images.alpha import opaque_alpha, seen_alpha
from irnscale.images.opening import PILLOW_ERRORS

_HEADER = struct.Struct(
    ">BBBIIHIIB"
)  # scale, depth, planes, width, height, side, width and height of the small, channels
_TILE = struct.Struct(">II")  # index, CRC of the small picture's samples and of all that follows it
_CHECKED = struct.Struct(">IB")  # CRC of the original's samples, whether from a base; then the streams
_LENGTH = struct.Struct(">I")
_ONE = 14  # bits of the fractions of a weight
_METHOD = 4


def side_for(scale: int) -> int:
    """Largest side of a tile in pixels of the small picture."""
    return max(1, LARGE_SIDE // scale)


def weights(scale: int) -> npt.NDArray[np.int64]:
    """(scale, 4): Keys's kernel (a = -1/2) at the four nearest samples, in units of 2^-14, each row's sum exactly 2^14.

    Output k of a sample lies at (k + 1/2) / scale - 1/2 from it; the taps are at -2..1 or -1..2 around it.
    """
    rows = []
    for k in range(scale):
        # the distance t of the output behind the sample before it, as the fraction p / q
        p, q = 2 * k + 1 - scale, 2 * scale
        p += q if p < 0 else 0
        # 2 q^3 times the kernel at t + 1, t, 1 - t and 2 - t
        a = -(p**3) + 2 * p * p * q - p * q * q
        b = 3 * p**3 - 5 * p * p * q + 2 * q**3
        c = -3 * p**3 + 4 * p * p * q + p * q * q
        row = [(value * (1 << _ONE) + q**3) // (2 * q**3) for value in (a, b, c)]
        rows.append([*row, (1 << _ONE) - sum(row)])
    return np.array(rows, np.int64)


def enlarged(samples: Samples, scale: int, top: int) -> npt.NDArray[np.int64]:
    """(h, w, C) -> (h scale, w scale, C): bicubic in integers, edges repeated, rounded half up and clipped to [0, top].

    Rows first, then columns, without rounding in between.
    """
    taps = weights(scale)
    values = samples.astype(np.int64)
    for axis in (0, 1):
        values = np.moveaxis(values, axis, 0)
        length = values.shape[0]
        index = np.arange(length)
        result = np.empty((length * scale, *values.shape[1:]), np.int64)
        for k in range(scale):
            first = index - (2 if 2 * k + 1 < scale else 1)
            parts = (values[np.clip(first + n, 0, length - 1)] * taps[k, n] for n in range(4))
            result[k::scale] = sum(parts)
        values = np.moveaxis(result, 0, axis)
    half = 1 << (2 * _ONE - 1)
    rounded: npt.NDArray[np.int64] = np.clip((values + half) >> (2 * _ONE), 0, top)
    return rounded


def encoded(original: Samples, small: Samples, scale: int) -> bytes:
    """The section that gives `original` (H, W, C) back from `small` (h, w, c), both uint8 or uint16.

    The planes of `small` are the base of those of `original`, a single one of all; those that it lacks have none.

    Raises ValueError for shapes that do not belong together.
    """
    height, width, planes = original.shape
    high, wide, channels = small.shape
    if not 0 <= high * scale - height < scale or not 0 <= wide * scale - width < scale:
        raise ValueError(f"{small.shape} is no small picture of {original.shape}")
    depth = 8 * original.dtype.itemsize
    side = side_for(scale)
    parts = [_HEADER.pack(scale, depth, planes, width, height, side, wide, high, channels)]
    for tile in grid(wide, high, side):
        samples = small[tile.small]
        target = original[tile.large(scale, width, height)]
        base = _base(samples, scale, target.shape, depth)
        residual = (target.astype(np.int64) - base + (1 << (depth - 1))) & ((1 << depth) - 1)
        # at x4 and beyond the codec often predicts better from the photograph itself
        ways = [
            [_lossless(plane) for plane in _bytes_of(values, depth)] for values in (target.astype(np.int64), residual)
        ]
        based = sum(map(len, ways[1])) < sum(map(len, ways[0]))
        streams = [_LENGTH.pack(len(stream)) + stream for stream in ways[based]]
        data = b"".join([_CHECKED.pack(zlib.crc32(cell_bytes(target)), based), *streams])
        parts += [_TILE.pack(tile.index, zlib.crc32(data, zlib.crc32(cell_bytes(samples)))), data]
    return b"".join(parts)


class Exact:
    """A section as `encoded` makes it, beside the small picture that was read."""

    def __init__(self, section: bytes, small: Samples, alpha: Samples | None = None) -> None:
        """small: (h, w, C) gray or RGB. alpha: (h, w) where it has one.

        A tile that hides nothing is the same with an alpha and without: what became transparent or opaque elsewhere
        may have brought one since `down`, or taken it away. Raises ValueError where the section is no such one, or
        belongs to another small picture.
        """
        if len(section) < _HEADER.size:
            raise ValueError("too short")
        scale, depth, planes, width, height, side, wide, high, channels = _HEADER.unpack_from(section)
        sound = 2 <= scale <= 64 and depth in (8, 16) and 1 <= planes <= 4 and side >= UNIT and width and height
        hides = alpha is not None and channels == small.shape[2]  # an alpha that `down` did not know
        if channels == small.shape[2] + 1:
            small = np.concatenate([small, (opaque_alpha(small) if alpha is None else alpha)[..., None]], axis=2)
        fits = (high, wide, channels) == small.shape
        if not sound or not fits or not 0 <= high * scale - height < scale or not 0 <= wide * scale - width < scale:
            raise ValueError("a section of another picture")
        self.scale, self.depth, self.planes, self.width, self.height = scale, depth, planes, width, height
        self._tiles = tuple(grid(wide, high, side))
        self._small, self._section = small, section
        self._hidden = alpha if hides else None
        self._found = dict(self._index())

    @property
    def complete(self) -> bool:
        """Whether all tiles are there, undamaged, and their small pictures are those that they were made for."""
        return len(self._found) == len(self._tiles)

    def _index(self) -> Iterator[tuple[int, int]]:
        """(tile, where what is checked begins) of those that are whole and whose small picture has not changed."""
        at = _HEADER.size
        while at + _TILE.size + _CHECKED.size <= len(self._section):
            index, crc = _TILE.unpack_from(self._section, at)
            start = at + _TILE.size
            at = start + _CHECKED.size
            for _ in range(self.depth // 8):
                if at + _LENGTH.size > len(self._section):
                    return
                at += _LENGTH.size + _LENGTH.unpack_from(self._section, at)[0]
            if index < len(self._tiles) and at <= len(self._section):
                small = self._tiles[index].small
                samples = zlib.crc32(cell_bytes(self._small[small]))
                seen = self._hidden is None or seen_alpha(self._hidden[small]) is None
                if seen and zlib.crc32(self._section[start:at], samples) == crc:
                    yield index, start

    def tiles(self) -> Iterator[tuple[tuple[slice, slice], Samples]]:
        """(place in the original, its pixels) of each sound tile, checked against the original's CRC."""
        for index, start in self._found.items():
            tile = self._tiles[index]
            place = tile.large(self.scale, self.width, self.height)
            shape = (place[0].stop - place[0].start, place[1].stop - place[1].start, self.planes)
            pixels = self._decoded(tile, start, shape)
            crc, _ = _CHECKED.unpack_from(self._section, start)
            if pixels is not None and zlib.crc32(cell_bytes(pixels)) == crc:
                yield place, pixels

    def _decoded(self, tile: Tile, start: int, shape: tuple[int, int, int]) -> Samples | None:
        at, residual = start + _CHECKED.size, np.zeros(shape, np.int64)
        for _ in range(self.depth // 8):
            length = _LENGTH.unpack_from(self._section, at)[0]
            plane = _plane(self._section[at + _LENGTH.size : at + _LENGTH.size + length], shape)
            if plane is None:
                return None
            residual = residual << 8 | plane
            at += _LENGTH.size + length
        if _CHECKED.unpack_from(self._section, start)[1]:
            base = _base(self._small[tile.small], self.scale, shape, self.depth)
            residual = (base + residual - (1 << (self.depth - 1))) & ((1 << self.depth) - 1)
        return residual.astype(np.uint8 if self.depth == 8 else np.uint16)


def _base(samples: Samples, scale: int, shape: tuple[int, ...], depth: int) -> npt.NDArray[np.int64]:
    """The integer base of a tile, at the depth of the original, with as many planes."""
    large = enlarged(samples, scale, np.iinfo(samples.dtype).max)[: shape[0], : shape[1]]
    have = 8 * samples.dtype.itemsize
    large = large * 257 if depth > have else (large + 128) // 257 if depth < have else large
    have, wanted = large.shape[2], shape[2]
    if have == 1:
        return np.broadcast_to(large, shape)
    return np.pad(large, ((0, 0), (0, 0), (0, max(0, wanted - have))))[..., :wanted]


def _bytes_of(residual: npt.NDArray[np.int64], depth: int) -> list[npt.NDArray[np.uint8]]:
    """The residual's bytes, the higher first."""
    return [(residual >> shift & 255).astype(np.uint8) for shift in range(depth - 8, -1, -8)]


def _lossless(plane: npt.NDArray[np.uint8]) -> bytes:
    """(h, w, 1 to 4) as lossless WebP; what is left of its four channels is filled."""
    planes = plane.shape[2]
    if planes in (1, 2):
        plane = np.concatenate([np.repeat(plane[..., :1], 3, axis=2), plane[..., 1:]], axis=2)
    file = io.BytesIO()
    Image.fromarray(plane).save(file, "WEBP", lossless=True, quality=50, method=_METHOD, exact=True)
    return file.getvalue()


def _plane(stream: bytes, shape: tuple[int, int, int]) -> npt.NDArray[np.int64] | None:
    """What `_lossless` was given; None where the stream is not a picture of this shape."""
    height, width, planes = shape
    try:
        with Image.open(io.BytesIO(stream), formats=["WEBP"]) as image:
            if image.size != (width, height) or getattr(image, "n_frames", 1) != 1:
                return None
            pixels = np.asarray(image.convert("RGBA" if planes in (2, 4) else "RGB")).astype(np.int64)
    except PILLOW_ERRORS:
        return None
    return pixels if planes > 2 else pixels[..., :1] if planes == 1 else pixels[..., [0, 3]]
