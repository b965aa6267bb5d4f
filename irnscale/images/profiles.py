"""ICC profiles: made of primaries and a transfer curve, checked, and made to fit gray or RGB pixels.

The one maker of profiles for whatever a format says of its colours otherwise (CICP, gAMA, cHRM, BMP's endpoints,
the header of JPEG XL).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

D65 = (0.3127, 0.329)
SRGB_PRIMARIES = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
_E, _DCI_WHITE = (1 / 3, 1 / 3), (0.314, 0.351)
_C = (0.310, 0.316)
# ITU-T H.273, table 2: white and primaries by code
_PRIMARIES: dict[int, tuple[tuple[float, float], tuple[float, ...]]] = {
    1: (D65, SRGB_PRIMARIES),
    4: (_C, (0.67, 0.33, 0.21, 0.71, 0.14, 0.08)),
    5: (D65, (0.64, 0.33, 0.29, 0.6, 0.15, 0.06)),
    6: (D65, (0.63, 0.34, 0.31, 0.595, 0.155, 0.07)),
    7: (D65, (0.63, 0.34, 0.31, 0.595, 0.155, 0.07)),
    8: (_C, (0.681, 0.319, 0.243, 0.692, 0.145, 0.049)),
    9: (D65, (0.708, 0.292, 0.17, 0.797, 0.131, 0.046)),
    10: (_E, (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)),
    11: (_DCI_WHITE, (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
    12: (D65, (0.68, 0.32, 0.265, 0.69, 0.15, 0.06)),
    22: (D65, (0.63, 0.34, 0.295, 0.605, 0.155, 0.077)),
}
UNSPECIFIED = 2
_LINEAR, _SRGB_CURVE = 8, 13
_REC709 = {1, 6, 14, 15}
_GAMMAS = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
HDR = {16: "PQ", 18: "HLG"}
_D50 = np.array([0.96422, 1.0, 0.82491])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_CLASSES = {b"scnr", b"mntr", b"prtr", b"spac"}  # and not links between devices, abstract or named colours
_NOT_EXPRESSED = "its colours are of a kind that no profile describes, and are taken for sRGB"


@dataclass(frozen=True)
class Colours:
    """`white` is (x, y), `primaries` are x and y of red, green and blue; `transfer` is a code of H.273, unless
    `gamma`, the exponent from samples to light, is given."""

    white: tuple[float, float] = D65
    primaries: tuple[float, ...] = SRGB_PRIMARIES
    transfer: int = _SRGB_CURVE
    gamma: float | None = None
    gray: bool = False


def cicp_colours(primaries: int, transfer: int, *, gray: bool = False) -> Colours | None:
    """The colours of H.273's codes, an unspecified one taken for sRGB's; None for codes that are reserved."""
    known = _PRIMARIES.get(1 if primaries == UNSPECIFIED else primaries)
    transfer = _SRGB_CURVE if transfer == UNSPECIFIED else transfer
    if known is None or transfer not in {_SRGB_CURVE} | _REC709 | set(_GAMMAS) | set(HDR):
        return None
    return Colours(*known, transfer, gray=gray)


@lru_cache(64)
def profile(colours: Colours) -> tuple[bytes | None, str | None]:
    """An ICC profile of version 4, None where the colours are sRGB's; a note where a profile cannot say them."""
    if colours.transfer in HDR and colours.gamma is None:
        return None, f"its colours are {HDR[colours.transfer]} (high dynamic range) and are taken for sRGB"
    gamma = colours.gamma or _GAMMAS.get(colours.transfer)
    srgb = near(colours.white, D65) and near(colours.primaries, SRGB_PRIMARIES)
    if gamma is None and colours.transfer not in _REC709 and (colours.gray or srgb):
        return None, None
    if gamma is not None and not 0.05 <= gamma <= 20:
        return None, _NOT_EXPRESSED
    curve = _curve(gamma, rec709=colours.transfer in _REC709)
    if colours.gray:
        return _assembled(b"GRAY", [(b"wtpt", _xyz(_D50)), (b"kTRC", curve)]), None
    try:
        columns = _matrix(colours.white, colours.primaries)
    except (np.linalg.LinAlgError, ZeroDivisionError):
        return None, _NOT_EXPRESSED
    if not np.isfinite(columns).all() or np.abs(columns).max() > 4:
        return None, _NOT_EXPRESSED
    tags = [(name, _xyz(columns[:, k])) for k, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
    tags += [(b"wtpt", _xyz(_D50)), *((name, curve) for name in (b"rTRC", b"gTRC", b"bTRC"))]
    return _assembled(b"RGB ", tags), None


def is_sound(icc: bytes) -> bool:
    """Whether a profile has a header and a table of tags that lie in it."""
    if len(icc) < 132 or icc[36:40] != b"acsp" or not 132 <= int.from_bytes(icc[:4], "big") <= len(icc):
        return False
    count = int.from_bytes(icc[128:132], "big")
    if not 1 <= count <= (len(icc) - 132) // 12:
        return False
    entries = [struct.unpack_from(">II", icc, 136 + 12 * k) for k in range(count)]
    return all(start >= 128 and start + length <= len(icc) for start, length in entries)


def fitted(icc: bytes, *, gray: bool) -> bytes | None:
    """A profile for pixels of one channel or of three; None where this one speaks of others, or of no pixels at all.

    A gray axis has no primaries: an RGB profile with one curve for all channels gives a gray one, and the reverse.
    """
    space = icc[16:20]
    if icc[12:16] not in _CLASSES:
        return None
    if not is_sound(icc) or space == (b"GRAY" if gray else b"RGB "):
        return icc if is_sound(icc) else None
    if gray and space == b"RGB " and not _tag(icc, b"A2B0"):
        curves = {_tag(icc, name) for name in (b"rTRC", b"gTRC", b"bTRC")}
        curve = curves.pop() if len(curves) == 1 else None
        return _assembled(b"GRAY", [(b"wtpt", _xyz(_D50)), (b"kTRC", curve)]) if curve else None
    if not gray and space == b"GRAY" and not _tag(icc, b"A2B0") and (curve := _tag(icc, b"kTRC")):
        columns = _matrix(D65, SRGB_PRIMARIES)
        tags = [(name, _xyz(columns[:, k])) for k, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
        tags += [(b"wtpt", _xyz(_D50)), *((name, curve) for name in (b"rTRC", b"gTRC", b"bTRC"))]
        return _assembled(b"RGB ", tags)
    return None


def _tag(icc: bytes, name: bytes) -> bytes | None:
    count = min(int.from_bytes(icc[128:132], "big"), (len(icc) - 132) // 12)
    for k in range(count):
        found, start, length = struct.unpack_from(">4sII", icc, 132 + 12 * k)
        if found == name:
            return icc[start : start + length]
    return None


def _matrix(white: tuple[float, float], primaries: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """(3, 3): columns are XYZ of the primaries, adapted to D50 by Bradford's transform."""
    xyz = np.array([_of_xy(*primaries[2 * k : 2 * k + 2]) for k in range(3)]).T
    bright = _of_xy(*white) / white[1]
    scaled = xyz * np.linalg.solve(xyz, bright)
    gain = (_BRADFORD @ _D50) / (_BRADFORD @ bright)
    adapted: npt.NDArray[np.float64] = np.linalg.solve(_BRADFORD, gain[:, None] * (_BRADFORD @ scaled))
    return adapted


def _of_xy(x: float, y: float) -> npt.NDArray[np.float64]:
    return np.array([x, y, 1 - x - y])


def _curve(gamma: float | None, *, rec709: bool) -> bytes:
    """A parametric curve: of an exponent, else of Rec. 709 or of sRGB (IEC 61966-2-1)."""
    if gamma is not None:
        return b"para" + bytes(8) + _fixed(gamma)
    if rec709:
        parts = (1 / 0.45, 1 / 1.099, 0.099 / 1.099, 1 / 4.5, 0.081)
    else:
        parts = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + b"".join(map(_fixed, parts))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: npt.NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(float(value)) for value in values)


def _text(text: str) -> bytes:
    coded = text.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", len(coded), 28) + coded


def _assembled(space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    tags = [(b"desc", _text("as the picture file says")), (b"cprt", _text("CC0")), *tags]
    start = 132 + 12 * len(tags)
    table, body, places = b"", b"", dict[bytes, int]()
    for name, content in tags:
        if content not in places:
            places[content] = start + len(body)
            body += content + bytes(-len(content) % 4)
        table += struct.pack(">4sII", name, places[content], len(content))
    head = struct.pack(">I4sI4s4s4s12s4s", start + len(body), b"", 0x04400000, b"mntr", space, b"XYZ ", b"", b"acsp")
    head += bytes(28) + b"".join(_fixed(float(value)) for value in _D50) + bytes(48)
    return head + struct.pack(">I", len(tags)) + table + body


def near(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether coordinates of colours are the same but for rounding."""
    return all(abs(a - b) < 1e-3 for a, b in zip(one, other, strict=True))
