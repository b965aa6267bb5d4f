"""The colour encoding in a JPEG XL header (ISO/IEC 18181-1, E.2), as an ICC profile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from irnscale.images import profiles

_GRAY, _XYB = 1, 2  # colour spaces
_CUSTOM = 2
_WHITES = {1: (0.3127, 0.329), 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}
_SRGB = (0.639998686, 0.330010138, 0.300003784, 0.600003357, 0.150002046, 0.059997204)
_PRIMARIES = {1: _SRGB, 9: (0.708, 0.292, 0.17, 0.797, 0.131, 0.046), 11: (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)}
_SRGB_CURVE = 13
_BITS_32 = ((0, 0), (1, 0), (2, 4), (18, 6))  # of an enumerated value
_ALPHA, _SPOT, _CFA = 0, 2, 5  # types of extra channels


class Bits(Protocol):
    """The rest of a header."""

    def take(self, count: int) -> int:
        """The next number of `count` bits."""


@dataclass(frozen=True)
class Colour:
    """What the header says; the default is sRGB. `white` is (x, y), `primaries` are those of R, G and B.

    has_icc: a compressed ICC profile follows instead, which imagecodecs does not give. xyb: the pixels are stored in
    the codec's own colour space, and decoded to this one, or where it is an ICC profile to linear sRGB.
    """

    gray: bool = False
    white: tuple[float, float] = _WHITES[1]
    primaries: tuple[float, ...] = _SRGB
    transfer: int = _SRGB_CURVE
    gamma: float | None = None
    has_icc: bool = False
    xyb: bool = True


def read_colour(bits: Bits) -> Colour:
    """From the bit depth on: what stands between it and the colour encoding is passed over."""
    _bit_depth(bits)
    bits.take(1)  # whether 16 bits suffice
    for _ in range(_u32(bits, (0, 0), (1, 0), (2, 4), (1, 12))):
        _extra_channel(bits)
    xyb = bool(bits.take(1))
    if bits.take(1):
        return Colour(xyb=xyb)
    has_icc, space = bool(bits.take(1)), _u32(bits, *_BITS_32)
    if has_icc or space == _XYB:
        return Colour(gray=space == _GRAY, has_icc=has_icc, xyb=xyb)
    code = _u32(bits, *_BITS_32)
    white = _point(bits) if code == _CUSTOM else _WHITES.get(code, _WHITES[1])
    primaries: tuple[float, ...] = _SRGB
    if space != _GRAY:
        code = _u32(bits, *_BITS_32)
        primaries = _point(bits) + _point(bits) + _point(bits) if code == _CUSTOM else _PRIMARIES.get(code, _SRGB)
    if bits.take(1):
        return Colour(space == _GRAY, white, primaries, gamma=bits.take(24) / 1e7, xyb=xyb)
    return Colour(space == _GRAY, white, primaries, _u32(bits, *_BITS_32), xyb=xyb)


def profile(colour: Colour) -> tuple[bytes | None, str | None]:
    """An ICC profile of the colours, None where they are sRGB; a note where a profile cannot say what they are."""
    if colour.has_icc:
        return None, None
    gamma = 1 / colour.gamma if colour.gamma else None
    return profiles.profile(profiles.Colours(colour.white, colour.primaries, colour.transfer, gamma, colour.gray))


def hdr_codes(colour: Colour) -> tuple[int, int] | None:
    """H.273's (primaries, transfer) of PQ and HLG, which no profile can say; None for others.

    None too for primaries that have no code.
    """
    if colour.has_icc or colour.gamma or colour.transfer not in profiles.HDR:
        return None
    if colour.gray:
        return profiles.UNSPECIFIED, colour.transfer
    for code in (1, 9, 11, 12):
        known = profiles.cicp_colours(code, colour.transfer)
        if known is not None and profiles.near(known.white + known.primaries, colour.white + colour.primaries):
            return code, colour.transfer
    return None


def from_linear(pixels: npt.NDArray[np.uint8 | np.uint16]) -> npt.NDArray[np.uint8 | np.uint16]:
    """Linear sRGB in whole numbers as sRGB in the same number of bits."""
    top = np.iinfo(pixels.dtype).max
    x = np.arange(top + 1) / top
    curve = np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    table: npt.NDArray[np.uint8 | np.uint16] = np.rint(curve * top).astype(pixels.dtype)
    return table[pixels]


def _u32(bits: Bits, *choices: tuple[int, int]) -> int:
    offset, count = choices[bits.take(2)]
    return offset + bits.take(count)


def _point(bits: Bits) -> tuple[float, float]:
    def coordinate() -> float:
        value = _u32(bits, (0, 19), (524288, 19), (1048576, 20), (2097152, 21))
        return (-(value + 1) // 2 if value & 1 else value // 2) / 1e6

    return coordinate(), coordinate()


def _bit_depth(bits: Bits) -> None:
    if bits.take(1):  # floating point
        _u32(bits, (32, 0), (16, 0), (24, 0), (1, 6))
        bits.take(4)
    else:
        _u32(bits, (8, 0), (10, 0), (12, 0), (1, 6))


def _extra_channel(bits: Bits) -> None:
    if bits.take(1):  # alpha as usual
        return
    kind = _u32(bits, *_BITS_32)
    _bit_depth(bits)
    _u32(bits, (0, 0), (3, 0), (4, 0), (1, 3))
    bits.take(8 * _u32(bits, (0, 0), (0, 4), (16, 5), (48, 10)))
    if kind == _ALPHA:
        bits.take(1)
    elif kind == _SPOT:
        bits.take(64)
    elif kind == _CFA:
        _u32(bits, (1, 0), (0, 2), (3, 4), (19, 8))
