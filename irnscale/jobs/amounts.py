"""How much coded detail a small file carries, by options that may be left out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from irnscale.errors import UsageError

if TYPE_CHECKING:
    from irnscale.detail.attached import Amount

DETAILS = ("none", "1", "2", "3", "exact")
MOST_EFFORT = 200


def parse_attach(text: str | None) -> Amount | None:
    """ "40K" as bytes, "50" as a quality. Raises UsageError."""
    from irnscale.detail.attached import Amount
    from irnscale.detail.codec import available

    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMG]?)(i?B)?", text, re.IGNORECASE)
    if not match:
        raise _attach_error(f"attach={text}: neither a size nor a quality", "for example attach=40K or attach=50")
    if available() is None:
        raise _attach_error("`attach` needs a Pillow that has AVIF or WebP", "install one, or leave it out")
    if not match[2] and not match[3]:
        if "." in match[1] or int(match[1]) > 100:
            raise _attach_error(f"attach={text}: a quality is from 0 to 100", f"a size has a unit: attach={text}B")
        return Amount(quality=int(match[1]))
    return Amount(bytes=int(float(match[1]) * {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}[match[2].upper()]))


def detail_bits(given: str | None, scale: int, *, lossy: bool, jpeg_resistant: bool) -> int:
    """Bits per sample of the coded layer; 0: none. Raises UsageError where they could not survive.

    given: one of `DETAILS`; None: 1 at x2, else 2, and none in lossy formats and for JPEG-resistant models.
    """
    from irnscale.detail.codec import available

    given = None if given == "exact" else given
    if given == "none" or (given is None and (lossy or jpeg_resistant or available() is None)):
        return 0
    if lossy:
        what = f"detail={given} is carried by the last bits of the pixels, which a lossy format changes"
        raise _detail_error(what, "use png, tiff, or webp without `quality`")
    if available() is None:
        raise _detail_error("`detail` needs a Pillow that has AVIF or WebP", "install one, or use detail=none")
    if given is not None:
        return int(given)
    return 1 if scale == 2 else 2


def _attach_error(what: str, hint: str) -> UsageError:
    return UsageError(what, hint, parameters=("attach",))


def _detail_error(what: str, hint: str) -> UsageError:
    return UsageError(what, hint, parameters=("detail", "quality"))
