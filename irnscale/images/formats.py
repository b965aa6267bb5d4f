"""The formats that are written, their names and their limits."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from irnscale.errors import UsageError

if TYPE_CHECKING:
    import os

FORMATS = ("png", "jpg", "webp", "tiff", "avif")
DEEP_FORMATS = ("png", "tiff")
_EXTENSIONS = {
    **{".png": "png", ".jpg": "jpg", ".jpeg": "jpg", ".jpe": "jpg", ".jfif": "jpg", ".webp": "webp"},
    **{".tif": "tiff", ".tiff": "tiff", ".avif": "avif"},
}
# libjpeg stops at 65500, a little below the 65535 that the format's header could hold.
# libavif refuses to decode sides above 32768.
_MAX_SIDE = {"jpg": 65500, "webp": 16383, "avif": 32768}


def format_from_name(path: str | os.PathLike[str]) -> str | None:
    """The format that a name's extension means, in any case of letters; None where it means none."""
    return _EXTENSIONS.get(PurePath(path).suffix.lower())


def canonical_format(format: str) -> str:
    """One of FORMATS for a name that a user may give ("JPEG", "tif"). Raises UsageError for others."""
    known = _EXTENSIONS.get("." + format.lower().lstrip("."))
    if known is None:
        raise UsageError(f"cannot write the format {format}", f"choose one of {', '.join(FORMATS)}")
    return known


def is_lossy(format: str, quality: int | None = None) -> bool:
    """Whether writing changes pixels: JPEG and AVIF always, WebP where a quality is given."""
    canonical = canonical_format(format)
    return canonical in ("jpg", "avif") or (canonical == "webp" and quality is not None)


def check_format_limits(format: str, width: int, height: int) -> None:
    """Raise UsageError where a picture of this size does not fit into the format."""
    canonical = canonical_format(format)
    limit = _MAX_SIDE.get(canonical)
    if limit is not None and max(width, height) > limit:
        raise UsageError(
            f"{width}x{height} is too large for {canonical}, which ends at {limit} pixels per side",
            "choose png or tiff with `format`",
            parameters=("format",),
        )
