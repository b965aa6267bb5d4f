"""Pictures to bytes in one of five formats, with their metadata and our record, and bytes to files."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, PngImagePlugin, features

from irnscale.errors import OutputError, UsageError
from irnscale.images.atomic import write_bytes_atomic
from irnscale.images.cicp import with_cicp
from irnscale.images.exif import PREFIX, without_orientation
from irnscale.images.extended_xmp import xmp_segments
from irnscale.images.formats import (
    DEEP_FORMATS,
    FORMATS,
    canonical_format,
    check_format_limits,
    format_from_name,
    is_lossy,
)
from irnscale.images.iptc import PNG_KEYWORD, photoshop_segments, png_profile
from irnscale.images.opening import PILLOW_ERRORS, quiet_pillow
from irnscale.images.optional_decoders import deep_png_bytes, has_io, require_io
from irnscale.images.placing import placed, with_placed
from irnscale.images.profiles import HDR, fitted
from irnscale.images.record import KEYWORD, Provenance
from irnscale.images.texts import comment_segments
from irnscale.images.tiff_file import tiff_bytes
from irnscale.images.xmp import xmp_with_record

if TYPE_CHECKING:
    from irnscale.images.picture import Picture
    from irnscale.images.pixels import Pixels

__all__ = [
    "FORMATS",
    "SUBSAMPLINGS",
    "canonical_format",
    "check_format_limits",
    "check_options",
    "check_transparency",
    "encode_picture",
    "encoding_notes",
    "format_from_name",
    "is_lossy",
    "write_bytes_atomic",
]

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")
_JPEG_QUALITY = 90
_JPEG_SEGMENT = 65533  # bytes of payload in one marker segment


def encode_picture(
    picture: Picture,
    format: str,
    *,
    quality: int | None = None,
    subsampling: str | None = None,
    record: Provenance | None = None,
) -> bytes:
    """The picture as a file of `format` (one of FORMATS), with its profile, resolution, EXIF, XMP,
    IPTC, texts and `record`.

    JPEG and AVIF: `quality` 1 to 100 (AVIF from 0), default 90, `subsampling` default 4:4:4. WebP: lossless
    unless `quality` (0 to 100) is given. PNG and TIFF are lossless and take neither. `picture.record` is not
    written; `picture.opaque_alpha` writes no alpha plane. What a format cannot hold is in `encoding_notes`.
    Raises UsageError for options or sizes that do not fit, OutputError where the encoder fails.
    """
    canonical = canonical_format(format)
    check_format_limits(canonical, picture.width, picture.height)
    check_options(canonical, quality, subsampling)
    check_transparency(picture, canonical)
    picture = _fitted(placed(picture, canonical)[0], canonical)
    xmp = picture.xmp or b""
    if record is not None and canonical != "png":
        xmp = _xmp_for(canonical, picture.xmp, record)
    planes = _planes(picture, canonical)
    options = encoder_options(canonical, quality, subsampling)
    if picture.icc:
        options["icc_profile"] = picture.icc
    if picture.exif:
        # Pillow would rewrite a block with an orientation for AVIF, which keeps that elsewhere
        options["exif"] = PREFIX + picture.exif if canonical != "avif" else without_orientation(picture.exif)
    if canonical == "png":
        options["pnginfo"] = _png_texts(xmp, record, picture.iptc)
    elif xmp and canonical != "jpg":
        options["xmp"] = xmp
    if canonical == "jpg":
        segments = (xmp_segments(xmp) or b"") if xmp else b""
        segments += photoshop_segments(picture.iptc) if picture.iptc else b""
        options["extra"] = segments + comment_segments(picture.texts)
    file = io.BytesIO()
    try:
        with quiet_pillow():
            if canonical == "tiff":
                return _tiff(planes, picture, xmp)
            if planes.dtype == np.uint16 and planes.shape[2] > 1:
                texts = _itxt(xmp, record, picture.iptc)
                deep = deep_png_bytes(planes, icc=picture.icc, exif=picture.exif, texts=texts)
                return with_placed(with_cicp(deep, picture.cicp), picture)
            image = Image.fromarray(planes[..., 0] if planes.shape[2] == 1 else planes)
            image.save(file, {"jpg": "JPEG"}.get(canonical, canonical.upper()), **options)
    except PILLOW_ERRORS as error:
        what = f"cannot encode {picture.width}x{picture.height} as {canonical}: {error}"
        raise OutputError(what, "try another format with `format`", parameters=("format",)) from error
    return with_placed(with_cicp(file.getvalue(), picture.cicp), picture)


def encoder_options(format: str, quality: int | None, subsampling: str | None) -> dict[str, Any]:
    """What Pillow's encoder of a format is told about pixels, with the defaults of `encode_picture`."""
    if format == "webp":
        # `exact` keeps the colour under transparent pixels, which the way back up needs.
        return {"exact": True} | ({"lossless": True, "quality": 80} if quality is None else {"quality": quality})
    if format not in ("jpg", "avif"):
        return {}
    chosen = {"quality": _JPEG_QUALITY if quality is None else quality, "subsampling": subsampling or "4:4:4"}
    return chosen | ({"optimize": True} if format == "jpg" else {})


def _tiff(planes: Pixels, picture: Picture, xmp: bytes) -> bytes:
    """TIFF rewrites EXIF tag by tag; a block with impossible values must not cost the picture."""
    gray, alpha, icc = planes.shape[2] < 3, picture.alpha is not None, picture.icc
    try:
        exif, iptc = picture.exif, picture.iptc
        return tiff_bytes(planes, gray=gray, alpha=alpha, icc=icc, exif=exif, xmp=xmp, iptc=iptc)
    except PILLOW_ERRORS:
        if picture.exif is None:
            raise
        return tiff_bytes(planes, gray=gray, alpha=alpha, icc=icc, exif=None, xmp=xmp, iptc=picture.iptc)


def encoding_notes(picture: Picture, format: str) -> tuple[str, ...]:
    """What of this picture the format cannot hold, for the user to be told."""
    canonical = canonical_format(format)
    picture, told = placed(picture, canonical)
    notes = list(told)
    if _stored_depth(picture, canonical) < picture.depth:
        notes.append(f"16 bits per channel rounded to 8, which is what {canonical} is written with here")
    if canonical == "jpg" and _exif_too_long(picture):
        notes.append("its EXIF block is larger than the 64 KiB that a JPEG holds and was dropped")
    if canonical == "jpg" and picture.xmp and xmp_segments(picture.xmp) is None:
        notes.append("its XMP packet is larger than the 64 KiB of a JPEG's segment, cannot be divided and was dropped")
    if picture.iptc and canonical in ("webp", "avif"):
        notes.append(f"its IPTC block was dropped: {canonical} has no place for it")
    if picture.cicp and canonical not in ("png", "avif"):
        kind = HDR.get(picture.cicp[1], "CICP")
        notes.append(
            f"its colours are {kind} (high dynamic range), which a {canonical} file cannot say; choose png or avif"
        )
    if picture.icc and _fitting_profile(picture, canonical) is None:
        notes.append(f"its colour profile does not fit the pixels of this {canonical} file and was dropped")
    return tuple(notes)


def check_transparency(picture: Picture, format: str) -> None:
    """Raise UsageError where the picture is transparent somewhere and the format knows no transparency."""
    if canonical_format(format) == "jpg" and picture.alpha is not None:
        raise UsageError(
            "JPEG has no transparency, and this picture has", "choose png or webp with `format`", parameters=("format",)
        )


def check_options(format: str, quality: int | None, subsampling: str | None, depth: int | None = None) -> None:
    """Raise UsageError for encoder options that this format has no use for."""
    format = canonical_format(format)
    if format == "avif" and not features.check("avif"):
        raise UsageError("this Pillow cannot write AVIF", "install one that can, or choose another format")
    if depth == 16 and format not in DEEP_FORMATS:
        raise UsageError(
            f"depth=16 has no meaning for {format}, which holds 8 bits", "choose png or tiff", parameters=("depth",)
        )
    if depth == 16 and format == "png":
        require_io("depth=16 as png", ("depth",))
    if format in ("png", "tiff") and quality is not None:
        what = f"`quality` has no meaning for {format}, which is lossless"
        raise UsageError(what, "leave it out, or choose jpg, webp or avif", parameters=("quality",))
    low = 1 if format == "jpg" else 0
    if quality is not None and not low <= quality <= 100:
        what = f"quality={quality}: is not from {low} to 100"
        raise UsageError(what, "for example quality=90", parameters=("quality",))
    if subsampling is not None and format not in ("jpg", "avif"):
        raise UsageError(
            f"`subsampling` has no meaning for {format}",
            "leave it out, or choose jpg or avif",
            parameters=("subsampling",),
        )
    if subsampling is not None and subsampling not in SUBSAMPLINGS:
        raise UsageError(f"unknown subsampling {subsampling}", f"choose one of {', '.join(SUBSAMPLINGS)}")


def _fitted(picture: Picture, format: str) -> Picture:
    """Without the metadata that the format has no room for."""
    picture = replace(picture, icc=_fitting_profile(picture, format))
    if format != "jpg":
        return picture
    return replace(picture, exif=None if _exif_too_long(picture) else picture.exif)


def _exif_too_long(picture: Picture) -> bool:
    return len(PREFIX) + len(picture.exif or b"") > _JPEG_SEGMENT


def _xmp_for(format: str, packet: bytes | None, record: Provenance) -> bytes:
    """A packet with the record; a fresh one where a JPEG does not hold both."""
    merged = xmp_with_record(packet, record.to_json())
    if format == "jpg" and xmp_segments(merged) is None:
        return xmp_with_record(None, record.to_json())
    return merged


def _itxt(xmp: bytes, record: Provenance | None, iptc: bytes | None) -> list[bytes]:
    """Contents of uncompressed iTXt chunks: keyword, flags, no language, no translation, text."""
    texts = [PNG_KEYWORD.encode() + b"\0\0\0\0\0" + png_profile(iptc).encode()] if iptc else []
    texts += [b"XML:com.adobe.xmp\0\0\0\0\0" + xmp] if xmp else []
    return texts + ([KEYWORD.encode() + b"\0\0\0\0\0" + record.to_json().encode()] if record else [])


def _png_texts(xmp: bytes, record: Provenance | None, iptc: bytes | None) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    if iptc:
        texts.add_text(PNG_KEYWORD, png_profile(iptc), zip=True)
    if xmp:
        texts.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    if record is not None:
        texts.add_itxt(KEYWORD, record.to_json())
    return texts


def _stored_depth(picture: Picture, format: str) -> int:
    """PNG and TIFF hold 16 bits; PNG of colour only where imagecodecs is installed."""
    simple = picture.gray and picture.alpha is None
    sixteen = format == "tiff" or (format == "png" and (simple or has_io()))
    return picture.depth if sixteen else 8


def _one_channel(picture: Picture, format: str) -> bool:
    no_gray = format in ("webp", "avif") or (_stored_depth(picture, format) == 16 and picture.alpha is not None)
    return picture.gray and not no_gray


def _fitting_profile(picture: Picture, format: str) -> bytes | None:
    """The profile as it fits the pixels that are written; None where it speaks of others."""
    return fitted(picture.icc, gray=_one_channel(picture, format)) if picture.icc else None


def _planes(picture: Picture, format: str) -> Pixels:
    """(H, W, C) to store: 1 or 3 channels, and alpha. WebP and AVIF have no gray.

    Nor do decoders take gray with alpha of 16 bits.
    """
    planes = picture.pixels
    depth = _stored_depth(picture, format)
    if _one_channel(picture, format):
        planes = planes[..., :1]
    if picture.alpha is not None:
        planes = np.concatenate((planes, picture.alpha[..., None]), axis=2)
    if depth < picture.depth:
        planes = ((planes.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.ascontiguousarray(planes)
