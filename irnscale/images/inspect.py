"""What `irnscale info` tells about a file, without decoding its pixels."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from PIL import ImageCms

from irnscale.images.opening import open_source, read_bytes, source_name
from irnscale.images.provenance import find_record
from irnscale.images.read import (
    HEAD,
    bits_per_channel,
    format_name,
    frame_count,
    refuse_raw,
    stored_orientation,
    upright_size,
)
from irnscale.images.resolution import stored_resolution
from irnscale.images.samples import is_filling
from irnscale.images.segments import attachment
from irnscale.images.stored import stored_xmp
from irnscale.images.texts import stored_texts_of

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image


def describe(source: Path | bytes, name: str | None = None) -> dict[str, Any]:
    """Facts about a picture, ready for JSON. Width and height are those of the upright picture.

    `name` is what to call it (default: its path). `provenance` is the record as a dictionary or None; `note` says what
    is wrong with a record that cannot be used. Raises InputError where it cannot be read.
    """
    label = source_name(source, name)
    data = source if isinstance(source, bytes) else read_bytes(source, label)
    with open_source(data, label) as image:
        refuse_raw(image, label)
        orientation = stored_orientation(image)
        width, height = upright_size(image, data, label, orientation)
        record, note = find_record(image)
        block = attachment(data) if record is None or record.kind == "down" else None
        exif = image.info.get("exif")
        resolution = stored_resolution(image, data, exif if isinstance(exif, bytes) else None)
        if resolution and orientation >= 5:
            resolution = resolution.turned
        return {
            "file": label,
            "bytes": len(data),
            "format": format_name(image),
            "width": width,
            "height": height,
            "mode": image.mode,
            "depth": bits_per_channel(image, data[:HEAD]),
            "alpha": "transparency" in image.info
            or (image.mode in ("LA", "La", "PA", "RGBA", "RGBa") and not is_filling(image, data[:HEAD])),
            "icc": _profile_name(image),
            "exif": bool(image.info.get("exif")) or (image.format == "TIFF" and 0x8769 in image.getexif()),
            "xmp": stored_xmp(image) is not None,
            "resolution": None if resolution is None else str(resolution),
            "texts": [text.keyword for text in stored_texts_of(image, data)[0]],
            "orientation": orientation,
            "frames": frame_count(image),
            "provenance": None if record is None else {**asdict(record), "padding": list(record.padding)},
            "attached_detail": None if block is None else len(block),
            "note": note,
        }


def format_of(data: bytes) -> str:
    """The format of a picture file, as `describe` has it. Raises InputError."""
    with open_source(data) as image:
        return format_name(image)


def _profile_name(image: Image.Image) -> str | None:
    """The profile's own description; "unreadable" where it cannot be parsed, None where there is none."""
    icc = image.info.get("icc_profile")
    if not icc:
        return None
    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(icc))).strip()
    except (ImageCms.PyCMSError, OSError, TypeError):
        return "unreadable"
    return name if name.isprintable() and name else "unnamed"
