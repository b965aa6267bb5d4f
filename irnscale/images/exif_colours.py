"""Adobe RGB as cameras signal it: by EXIF alone, without a profile (DCF 2.0, 3.3; EXIF 2.32, 4.6.5)."""

from __future__ import annotations

from PIL import Image

from irnscale.images.profiles import D65, Colours, profile

_EXIF, _INTEROP = 0x8769, 0xA005
_COLOUR_SPACE, _INTEROP_INDEX = 0xA001, 1
_ADOBE = 2  # of no standard; written by several makers
_SRGB = 1
_PRIMARIES = (0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
_GAMMA = 563 / 256


def exif_profile(block: bytes | None, *, gray: bool) -> bytes | None:
    """A profile where an EXIF block says Adobe RGB; None where it says sRGB or nothing, or is damaged."""
    if block is None:
        return None
    exif = Image.Exif()
    try:
        exif.load(block)
        space = exif.get_ifd(_EXIF).get(_COLOUR_SPACE)
        index = exif.get_ifd(_INTEROP).get(_INTEROP_INDEX)
    except (ValueError, SyntaxError, OSError, LookupError, TypeError):
        return None
    if isinstance(index, bytes):
        index = index.decode("latin-1")
    optional = isinstance(index, str) and index.startswith("R03") and space != _SRGB
    return profile(Colours(D65, _PRIMARIES, gamma=_GAMMA, gray=gray))[0] if optional or space == _ADOBE else None
