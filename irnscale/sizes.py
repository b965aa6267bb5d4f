"""Sizes of memory as people write them, and of pictures. Imports nothing heavy: the command line starts quickly."""

from __future__ import annotations

import math
import re

from irnscale.errors import InputError, UsageError

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_memory(text: str) -> int:
    """ "800M", "1.5G" or "2GiB" as bytes (powers of 1024). Raises UsageError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if not match or not float(match[1]):
        raise UsageError(
            f"max_memory={text}: not a size", "for example max_memory=800M or max_memory=2G", parameters=("max_memory",)
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])


def check_original_size(size: tuple[int, int], small: tuple[int, int], scale: int) -> None:
    """Raise InputError unless `small` (width, height) is what `down` makes of a picture of that size."""
    if not all(0 <= have * scale - want < scale for want, have in zip(size, small, strict=True)):
        raise InputError(
            f"a picture of {small[0]} x {small[1]} cannot come from {size[0]} x {size[1]} at x{scale}",
            f"at most {small[0] * scale} x {small[1] * scale}, and less than {scale} below",
        )


def format_memory(size: float, *, up: bool = False) -> str:
    """Bytes for people: 1.20 GiB, 34 MiB; rounded to the nearest, or with `up` to what is surely enough."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if size >= unit:
            digits = 2 if size < 10 * unit else 0
            shown = math.ceil(size / unit * 10**digits) / 10**digits if up else size / unit
            return f"{shown:.{digits}f} {name}"
    if 0 < size < 2**10:
        return f"{math.ceil(size)} byte{'s' if size > 1 else ''}"
    return f"{math.ceil(size / 2**10)} KiB"
