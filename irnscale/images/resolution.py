"""The resolution that a picture is to be printed or shown at: read from wherever its format keeps it, and written.

JFIF 1.02 (density), PNG 11.3.4.3 (pHYs), TIFF 6.0 (XResolution), BMP (biXPelsPerMeter), ISO 15444-1 I.5.3.7 (res),
Photoshop's resource 1005; WebP, AVIF, HEIC and JPEG XL have no place for it but an EXIF block's.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image

from irnscale.images.boxes import find_box
from irnscale.images.exif_additions import RATIONAL, SHORT, Field, with_fields
from irnscale.images.jpeg_segments import APP13
from irnscale.images.opening import PILLOW_ERRORS, quiet_pillow
from irnscale.images.photoshop import SEGMENT_IDENTIFIER, resource
from irnscale.images.stored import stored_segments

if TYPE_CHECKING:
    from collections.abc import Iterator

X_TAG, Y_TAG, UNIT_TAG = 0x011A, 0x011B, 0x0128
_JFIF_UNITS: dict[int, Literal["inch", "cm"] | None] = {0: None, 1: "inch", 2: "cm"}
_EXIF_UNITS: dict[int, Literal["inch", "cm"] | None] = {1: None, 2: "inch", 3: "cm"}
_SHOP = 1005  # image resource ResolutionInfo
_PER_INCH, _PER_METRE = Fraction(254, 10000), 100
_LEAST, _MOST = Fraction(1, 1000), 10**6
_JFIF = b"\xff\xd8\xff\xe0\0\x10JFIF\0"


@dataclass(frozen=True)
class Resolution:
    """Pixels per unit of length along both sides, from 0.001 to a million; without a unit, only their ratio counts."""

    x: Fraction
    y: Fraction
    unit: Literal["inch", "cm"] | None

    @property
    def turned(self) -> Resolution:
        """That of the picture turned by 90 degrees."""
        return Resolution(self.y, self.x, self.unit)

    def __str__(self) -> str:
        """As people say it: 300x300 per inch, or 2:1 for a ratio."""
        x, y = (f"{float(side):.7g}" for side in (self.x, self.y))
        return f"{x}x{y} per {self.unit}" if self.unit else f"{x}:{y}"

    @property
    def per_metre(self) -> tuple[Fraction, Fraction]:
        """The ratio alone where there is no unit."""
        factor = {"inch": 1 / _PER_INCH, "cm": Fraction(_PER_METRE), None: Fraction(1)}[self.unit]
        return self.x * factor, self.y * factor


def stored_resolution(image: Image.Image, data: bytes, exif: bytes | None) -> Resolution | None:
    """The resolution of an opened picture as it is stored, before it is turned upright; None where nothing says it.

    `data` is the file and `exif` its block without prefix. Where several places say one, the format's own is taken,
    then EXIF's, then Photoshop's. Never raises: what makes no sense is none.
    """
    for found in _candidates(image, data, exif):
        if found is not None:
            return found
    return None


def exif_fields(resolution: Resolution) -> dict[int, Field]:
    """The tags of a TIFF directory that say it."""
    unit = {None: 1, "inch": 2, "cm": 3}[resolution.unit]
    return {X_TAG: (RATIONAL, resolution.x), Y_TAG: (RATIONAL, resolution.y), UNIT_TAG: (SHORT, unit)}


def of_exif(exif: bytes | None) -> Resolution | None:
    """The one that an EXIF block without prefix says; None where it says none that makes sense."""
    if not exif:
        return None
    block = Image.Exif()
    with quiet_pillow(), suppress(*PILLOW_ERRORS):
        block.load(exif)
        return _of_tags(block)
    return None


def turned_exif(exif: bytes | None) -> bytes | None:
    """The block of a picture that is turned by 90 degrees now, where it tells both sides apart."""
    found = of_exif(exif)
    return exif if found is None or found == found.turned else with_fields(exif, exif_fields(found.turned))


def png_chunk(resolution: Resolution) -> bytes | None:
    """The content of pHYs; None where it cannot be said in whole pixels per metre."""
    if resolution.unit is None:
        x, y = _whole_ratio(resolution)
    else:
        x, y = (round(value) for value in resolution.per_metre)
    if not (0 < x < 2**31 and 0 < y < 2**31):
        return None
    return struct.pack(">IIB", x, y, resolution.unit is not None)


def with_jfif_density(data: bytes, resolution: Resolution | None) -> bytes:
    """A JPEG file, which begins with JFIF's segment, with its density; as it is where that cannot say it."""
    density = jfif_density(resolution) if resolution else None
    if density is None or not data.startswith(_JFIF):
        return data
    at = len(_JFIF) + 2  # behind the version
    return data[:at] + struct.pack(">BHH", *density) + data[at + 5 :]


def jfif_density(resolution: Resolution) -> tuple[int, int, int] | None:
    """(unit, x, y) of JFIF, in the unit whose whole numbers come nearer; None where there are none."""
    if resolution.unit is None:
        x, y = _whole_ratio(resolution)
        return (0, x, y) if max(x, y) < 2**16 else None
    metric = resolution.per_metre
    best: tuple[Fraction, tuple[int, int, int]] | None = None
    for code, factor in ((1, _PER_INCH), (2, Fraction(1, _PER_METRE))):
        exact = tuple(value * factor for value in metric)
        x, y = (round(value) for value in exact)
        if not (0 < x < 2**16 and 0 < y < 2**16):
            continue
        error = max(abs(whole / value - 1) for whole, value in zip((x, y), exact, strict=True))
        if best is None or error < best[0]:
            best = error, (code, x, y)
    return None if best is None else best[1]


def _candidates(image: Image.Image, data: bytes, exif: bytes | None) -> Iterator[Resolution | None]:
    format = image.format or ""
    if format in _OWN:
        with suppress(struct.error, IndexError, ValueError, TypeError, OverflowError):
            yield _OWN[format](image, data)
    yield of_exif(exif)
    if format in ("JPEG", "MPO"):
        yield _of_resource(resource(b"".join(stored_segments(image, APP13, SEGMENT_IDENTIFIER)), _SHOP))
    elif format not in _OWN:
        dpi = image.info.get("dpi")
        if isinstance(dpi, tuple) and len(dpi) == 2:
            yield _resolution(dpi[0], dpi[1], "inch")


def _resolution(x: object, y: object, unit: Literal["inch", "cm"] | None) -> Resolution | None:
    """None for what is no number, or out of bounds, and for square pixels of no size."""
    sides = _number(x), _number(y)
    if sides[0] is None or sides[1] is None or (unit is None and sides[0] == sides[1]):
        return None
    return Resolution(sides[0], sides[1], unit)


def _number(value: Any) -> Fraction | None:
    try:
        number = Fraction(value).limit_denominator(1000)
        if number == 0 or Fraction(value) < 0:
            return None
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if _LEAST <= number <= _MOST else None


def _metric(x: Fraction | int, y: Fraction | int, quantum: Fraction) -> Resolution | None:
    """Of pixels per metre: per inch, where whole numbers are what a writer in steps of `quantum` rounds or cuts so."""
    inches = [round(value * _PER_INCH) for value in (x, y)]
    if all(abs(inch / _PER_INCH - value) < quantum for inch, value in zip(inches, (x, y), strict=True)):
        return _resolution(inches[0], inches[1], "inch")
    return _resolution(Fraction(x) / _PER_METRE, Fraction(y) / _PER_METRE, "cm")


def _whole_ratio(resolution: Resolution) -> tuple[int, int]:
    ratio = (resolution.x / resolution.y).limit_denominator(1000)
    return max(1, ratio.numerator), ratio.denominator


def _of_tags(tags: Any) -> Resolution | None:
    """Of a mapping of TIFF tags."""
    unit = tags.get(UNIT_TAG, 2)
    if unit not in _EXIF_UNITS:
        return None
    return _resolution(tags.get(X_TAG), tags.get(Y_TAG), _EXIF_UNITS[unit])


def _of_jpeg(image: Image.Image, data: bytes) -> Resolution | None:
    unit, density = image.info.get("jfif_unit"), image.info.get("jfif_density")
    if unit not in _JFIF_UNITS or not isinstance(density, tuple):
        return None
    return _resolution(density[0], density[1], _JFIF_UNITS[unit])


def _of_png(image: Image.Image, data: bytes) -> Resolution | None:
    """What Pillow has made of pHYs: a ratio, or pixels per metre times 0.0254."""
    if aspect := image.info.get("aspect"):
        return _resolution(aspect[0], aspect[1], None)
    if dpi := image.info.get("dpi"):
        x, y = (round(side / 0.0254) for side in dpi)
        return _metric(x, y, Fraction(1))
    return None


def _of_tiff(image: Image.Image, data: bytes) -> Resolution | None:
    return _of_tags(getattr(image, "tag_v2", {}))


def _of_bmp(image: Image.Image, data: bytes) -> Resolution | None:
    (size,) = struct.unpack_from("<I", data, 14)
    x, y = struct.unpack_from("<ii", data, 38)
    return _metric(x, y, Fraction(1)) if size >= 40 else None


def _of_jpeg2000(image: Image.Image, data: bytes) -> Resolution | None:
    """Capture resolution, else the one for display: each a fraction times a power of ten, of points per metre."""
    content = next((box for kind in (b"resc", b"resd") if (box := find_box(data, b"jp2h", b"res ", kind))), None)
    if content is None:
        return None
    yn, yd, xn, xd, ye, xe = struct.unpack_from(">HHHHbb", content)
    if not xd or not yd or max(abs(xe), abs(ye)) > 20:
        return None
    x, y = Fraction(xn, xd) * Fraction(10) ** xe, Fraction(yn, yd) * Fraction(10) ** ye
    return _metric(x, y, max(Fraction(1), x / 2**15))  # writers have 16 bits for it


def _of_psd(image: Image.Image, data: bytes) -> Resolution | None:
    at = 30 + int.from_bytes(data[26:30], "big")
    return _of_resource(resource(data[at + 4 : at + 4 + int.from_bytes(data[at : at + 4], "big")], _SHOP))


def _of_resource(content: bytes | None) -> Resolution | None:
    """Pixels per inch in fixed point, whatever unit they are shown in."""
    if content is None or len(content) < 16:
        return None
    x, y = struct.unpack_from(">I4xI", content)
    return _resolution(Fraction(x, 2**16), Fraction(y, 2**16), "inch")


_OWN = {
    "JPEG": _of_jpeg,
    "MPO": _of_jpeg,
    "PNG": _of_png,
    "TIFF": _of_tiff,
    "BMP": _of_bmp,
    "JPEG2000": _of_jpeg2000,
    "PSD": _of_psd,
}
