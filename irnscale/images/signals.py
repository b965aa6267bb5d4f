"""What a file says of its colours outside of an ICC profile, or in a profile that Pillow does not look for."""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from irnscale.images.boxes import boxes, find_box, primary_properties
from irnscale.images.profiles import D65, HDR, SRGB_PRIMARIES, Colours, cicp_colours, fitted, is_sound, profile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from PIL import Image

    from irnscale.images.pixels import Pixels

_DAMAGED = "its colour profile is damaged and was dropped"
_NARROW = "its samples are of narrow range (16 to 235) and are made full range"
_UNKNOWN = "its colours are signalled by codes that are not known, and are taken for sRGB"
_ROMM = Colours((0.3457, 0.3585), (0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001), gamma=1.8)
_JP2_SPACES = {16, 17, 18}  # sRGB, gray and YCC of it
_MAX_PROFILE = 2**24
_WHITE_POINT, _CHROMATICITIES, _TRANSFER_FUNCTION = 318, 319, 301  # of TIFF
_SRGB_GAMMA = 0.45455


@dataclass(frozen=True)
class Signalled:
    """A profile, or the codes (primaries, transfer) of H.273 where no profile can say it; notes of what is lost.

    narrow: whether black is at 16 and white at 235, of 255.
    """

    icc: bytes | None = None
    cicp: tuple[int, int] | None = None
    notes: tuple[str, ...] = ()
    narrow: bool = False


def colours_of(image: Image.Image, data: bytes, icc: bytes | None, *, gray: bool) -> Signalled:
    """The colours of decoded RGB or gray pixels; `icc` is the profile that Pillow found."""
    if image.format == "TIFF" and icc is None:
        found = _tiff(getattr(image, "tag_v2", {}), gray)
    else:
        found = _FINDERS.get(image.format or "", _plain)(data, icc, gray)
    if found.icc is None:
        return found
    if not is_sound(found.icc):
        return replace(found, icc=None, notes=(*found.notes, _DAMAGED))
    fits = fitted(found.icc, gray=gray)
    if fits is None:
        return replace(
            found, icc=None, notes=(*found.notes, "its colour profile does not fit its pixels and was dropped")
        )
    return replace(found, icc=fits)


def full_range(pixels: Pixels) -> Pixels:
    """Narrow range (H.273, 8.3: 16 to 235 of 8 bits, 4096 to 60160 of 16) as full range of as many bits."""
    step = 1 if pixels.dtype == np.uint8 else 256
    top = np.iinfo(pixels.dtype).max
    table = np.rint((np.arange(top + 1.0) - 16 * step) * (top / (219 * step))).clip(0, top).astype(pixels.dtype)
    whole: Pixels = table[pixels]
    return whole


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(kind, content) of each chunk of a PNG before the pixels."""
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in (b"IDAT", b"IEND"):
            return
        yield kind, data[at + 8 : at + 8 + length]
        at += 12 + length


def _plain(data: bytes, icc: bytes | None, gray: bool) -> Signalled:
    return Signalled(icc)


def _of_codes(primaries: int, transfer: int, gray: bool) -> Signalled:
    colours = cicp_colours(primaries, transfer, gray=gray)
    if colours is None:
        return Signalled(notes=(_UNKNOWN,))
    if transfer in HDR:
        return Signalled(cicp=(primaries, transfer))
    icc, note = profile(colours)
    return Signalled(icc, None, (note,) if note else ())


def _png(data: bytes, icc: bytes | None, gray: bool) -> Signalled:
    """cICP before iCCP before sRGB before gAMA and cHRM, as the third edition of the format says."""
    chunks: dict[bytes, bytes] = {}
    for kind, content in png_chunks(data):
        chunks.setdefault(kind, content)
    if len(cicp := chunks.get(b"cICP", b"")) == 4:
        found = _of_codes(cicp[0], cicp[1], gray)
        return found if cicp[3] else replace(found, notes=(*found.notes, _NARROW), narrow=True)
    notes: tuple[str, ...] = ()
    if b"iCCP" in chunks:
        whole = _inflated(chunks[b"iCCP"])
        if whole is not None and is_sound(whole):
            return Signalled(whole)
        notes = (_DAMAGED,)
    if b"sRGB" in chunks or not {b"gAMA", b"cHRM"} & set(chunks):
        return Signalled(notes=notes)
    encoding = int.from_bytes(chunks.get(b"gAMA", b"")[:4], "big") / 1e5
    gamma = 1 / encoding if encoding > 0 and abs(encoding - _SRGB_GAMMA) > 0.003 else None
    colours = Colours(gamma=gamma, gray=gray)
    if len(chrm := chunks.get(b"cHRM", b"")) == 32:
        points = tuple(value / 1e5 for value in struct.unpack(">8I", chrm))
        if min(points[1::2]) > 0 or points[1] > 0:
            # 1/2.2 stands for sRGB's curve only with sRGB's primaries
            exponent = gamma or (1 / encoding if encoding > 0 else None)
            plain = profile(Colours(points[:2], points[2:]))[0] is None
            colours = Colours(points[:2], points[2:], gamma=gamma if plain else exponent, gray=gray)
            if gray:
                colours = Colours(gamma=gamma, gray=True)
    made, note = profile(colours)
    return Signalled(made, None, (*notes, note) if note else notes)


def _inflated(chunk: bytes) -> bytes | None:
    """The profile in an iCCP chunk: a name, the method and deflated bytes."""
    _, _, rest = chunk.partition(b"\0")
    inflater = zlib.decompressobj()
    try:
        return inflater.decompress(rest[1:], _MAX_PROFILE) if rest[:1] == b"\0" else None
    except zlib.error:
        return None


def _jpeg(data: bytes, icc: bytes | None, gray: bool) -> Signalled:
    """Pillow gives no profile where one of its segments is missing."""
    lost = icc is None and b"ICC_PROFILE\0" in data[: data.find(b"\xff\xda") + 1]
    return Signalled(icc, None, (_DAMAGED,) if lost else ())


def _nclx(data: bytes, icc: bytes | None, gray: bool) -> Signalled:
    """The profile before the codes; matrix and range are the decoder's to heed."""
    if icc is not None:
        return Signalled(icc)
    for kind, content in primary_properties(data):
        if kind == b"colr" and content[:4] == b"nclx" and len(content) >= 11:
            primaries, transfer = struct.unpack_from(">HH", content, 4)
            return _of_codes(primaries, transfer, gray)
    return Signalled()


def _tiff(tags: Mapping[int, Any], gray: bool) -> Signalled:
    """The tags WhitePoint, PrimaryChromaticities and TransferFunction (TIFF 6.0, section 20)."""
    try:
        white = tuple(float(value) for value in tags.get(_WHITE_POINT, D65))
        points = tuple(float(value) for value in tags.get(_CHROMATICITIES, SRGB_PRIMARIES))
        gamma = _exponent(tags.get(_TRANSFER_FUNCTION))
    except (ValueError, TypeError, ZeroDivisionError):
        return Signalled()
    if len(white) != 2 or len(points) != 6 or min(white[1], *points) <= 0:
        return Signalled()
    made, note = profile(Colours((white[0], white[1]), points, gamma=gamma, gray=gray))
    return Signalled(made, None, (note,) if note else ())


def _exponent(table: object) -> float | None:
    """From samples to light, by the middle of the first channel's table; None for sRGB's curve, or no table."""
    if not isinstance(table, tuple) or len(table) < 16:
        return None
    entries = len(table) if len(table) % 3 else len(table) // 3  # of one channel, or of three
    middle = table[entries // 2] / 65535
    place = (entries // 2) / (entries - 1)
    if not 0 < middle < 1 or abs(middle - ((place + 0.055) / 1.055) ** 2.4) < 0.004:
        return None
    return math.log(middle) / math.log(place)


def _jp2(data: bytes, icc: bytes | None, gray: bool) -> Signalled:
    """The first colr box that is understood: 1 an enumerated space, 2 and 3 a profile, 5 codes."""
    found = None
    for kind, content in boxes(find_box(data, b"jp2h") or b""):
        if kind != b"colr" or len(content) < 7:
            continue
        if content[0] in (2, 3):
            return Signalled(content[3:])
        if content[0] == 5:
            primaries, transfer = struct.unpack_from(">HH", content, 3)
            return _of_codes(primaries, transfer, gray)
        if content[0] == 1 and found is None:
            space = int.from_bytes(content[3:7], "big")
            made = profile(_ROMM)[0] if space == 21 and not gray else None
            unknown = space not in _JP2_SPACES and made is None
            found = Signalled(made, None, (_UNKNOWN,) if unknown else ())
    return found or Signalled(icc)


def _gif(data: bytes, icc: bytes | None, gray: bool) -> Signalled:
    """An application extension of the ICC."""
    at = data.find(b"\x21\xff\x0bICCRGBG1012")
    if at < 0:
        return Signalled(icc)
    parts, at = [], at + 14
    while at < len(data) and data[at]:
        parts.append(data[at + 1 : at + 1 + data[at]])
        at += 1 + data[at]
    return Signalled(b"".join(parts))


def _bmp(data: bytes, icc: bytes | None, gray: bool) -> Signalled:
    """A V4 header has endpoints and gamma, a V5 header may have a profile, or the name of one."""
    size = int.from_bytes(data[14:18], "little")
    if size < 108 or len(data) < 14 + size:
        return Signalled(icc)
    kind = data[70:74][::-1]
    if kind == b"MBED" and size >= 124:
        start, length = struct.unpack_from("<II", data, 126)
        return Signalled(data[14 + start : 14 + start + length])
    if kind == b"LINK":
        return Signalled(notes=("its colour profile is in another file and was dropped",))
    if kind != bytes(4):
        return Signalled(icc)
    values = struct.unpack_from("<9i", data, 74)
    gammas = [value / 65536 for value in struct.unpack_from("<3I", data, 110)]
    sums = [sum(values[3 * k : 3 * k + 3]) for k in range(3)]
    if min(sums) <= 0 or min(gammas) <= 0:
        return Signalled(icc)  # most programs leave zeros
    points = tuple(values[3 * k + j] / sums[k] for k in range(3) for j in (0, 1))
    white = [sum(values[k::3]) for k in range(3)]
    colours = Colours((white[0] / sum(white), white[1] / sum(white)), points, gamma=gammas[1], gray=gray)
    made, note = profile(colours)
    if max(gammas) - min(gammas) > 0.01:
        note = "its channels have different gammas; green's is taken for all"
    return Signalled(made, None, (note,) if note else ())


_FINDERS = {
    "PNG": _png,
    "JPEG": _jpeg,
    "MPO": _jpeg,
    "AVIF": _nclx,
    "HEIF": _nclx,
    "JPEG2000": _jp2,
    "GIF": _gif,
    "BMP": _bmp,
}
