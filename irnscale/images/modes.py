"""Pillow's modes to arrays: what kinds of pixels are read, and how."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms

from irnscale.errors import InputError
from irnscale.images.samples import correct_order, from_type, typed_gray

if TYPE_CHECKING:
    from irnscale.images.pixels import Pixels

_GRAY = {"1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N"}
_SIXTEEN = {"I;16", "I;16L", "I;16B", "I;16N"}
_COLOUR = {"RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "YCbCr"}
_ICC_CMYK = b"CMYK"
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_BAND = 2**22  # pixels


@dataclass(frozen=True)
class Arrays:
    """Decoded pixels before orientation is applied; fields as in `Picture`."""

    pixels: Pixels
    alpha: Pixels | None
    gray: bool
    opaque_alpha: bool
    depth: int
    icc: bytes | None
    notes: tuple[str, ...] = ()


def decode(image: Image.Image, name: str) -> Arrays:
    """Decode an opened picture into RGB and alpha. Raises InputError for modes that are not photographs."""
    icc = image.info.get("icc_profile") or None
    if not isinstance(icc, bytes):
        icc = None
    mode = image.mode
    correct_order(image)
    if (typed := typed_gray(image)) is not None:
        return _typed(*typed, icc)
    if mode in _SIXTEEN or (mode == "I" and image.format in ("PPM", "PNG")):
        return _sixteen(image, icc)
    if mode == "CMYK":
        return _cmyk(image, icc)
    if mode == "LAB":
        return _lab(image, icc, name)
    if mode in ("F", "I"):
        return _wide(image, icc)
    if mode not in _GRAY | _COLOUR:
        raise InputError(f"{name}: its {mode} pixels are not supported", "convert it to RGB with 8 bits")
    gray = mode in _GRAY
    transparent = "A" in mode or mode.endswith("a") or "transparency" in image.info
    if not transparent:
        return Arrays(_three(image, "L" if gray else "RGB"), None, gray, False, 8, icc)
    if mode in ("La", "RGBa"):
        image = image.convert({"La": "LA", "RGBa": "RGBA"}[mode])
    return arrays_of(np.asarray(image.convert("LA" if gray else "RGBA")), icc)


def arrays_of(planes: Pixels, icc: object) -> Arrays:
    """(H, W, 1 to 4) uint8 or uint16: gray or RGB, the last of 2 or 4 channels alpha."""
    channels = planes.shape[2]
    gray = channels < 3
    alpha, opaque = _plane(planes[..., -1]) if channels in (2, 4) else (None, False)
    pixels = np.repeat(planes[..., :1], 3, axis=2) if gray else np.ascontiguousarray(planes[..., :3])
    depth = 8 * planes.dtype.itemsize
    return Arrays(pixels, alpha, gray, opaque, depth, icc if isinstance(icc, bytes) else None)


def cropped(arrays: Arrays, box: tuple[int, int, int, int]) -> Arrays:
    """The part inside of (left, top, right, bottom)."""
    part = slice(box[1], box[3]), slice(box[0], box[2])
    alpha, opaque = (None, False) if arrays.alpha is None else _plane(arrays.alpha[part])
    opaque = opaque or arrays.opaque_alpha
    return replace(arrays, pixels=np.ascontiguousarray(arrays.pixels[part]), alpha=alpha, opaque_alpha=opaque)


def _three(image: Image.Image, mode: str = "RGB") -> Pixels:
    """(H, W, 3) of a picture converted to L or RGB.

    A band of rows at a time: Pillow takes four bytes for a pixel, and as many again for each whole copy.
    """
    image.load()
    width, height = image.size
    array = np.empty((height, width, 3), np.uint8)
    rows = max(1, _BAND // width)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        pixels = np.asarray(band if band.mode == mode else band.convert(mode))
        array[top : top + rows] = pixels[..., None] if pixels.ndim == 2 else pixels
    return array


def _plane(alpha: Pixels) -> tuple[Pixels | None, bool]:
    """(alpha, False), or (None, True) for a plane that hides nothing."""
    if (alpha == np.iinfo(alpha.dtype).max).all():
        return None, True
    return np.ascontiguousarray(alpha), False


def _sixteen(image: Image.Image, icc: bytes | None) -> Arrays:
    """Gray of 16 bits; a PNG may declare one of its values transparent."""
    plane = np.asarray(image)
    if plane.dtype.kind != "u" or plane.dtype.itemsize != 2:
        plane = plane.clip(0, 65535)
    plane = np.ascontiguousarray(plane, dtype=np.uint16)
    if _white_is_zero(image):
        plane = 65535 - plane
    alpha, opaque = None, False
    key = image.info.get("transparency")
    if isinstance(key, int):
        alpha, opaque = _plane(np.where(plane == key, 0, 65535).astype(np.uint16))
    return Arrays(np.repeat(plane[..., None], 3, axis=2), alpha, True, opaque, 16, icc)


def _typed(plane: Pixels, bits: int, signed: bool, icc: bytes | None) -> Arrays:
    """Gray of the type that a TIFF's header says."""
    values, note = from_type(plane, bits, signed=signed)
    depth = 8 * values.dtype.itemsize
    return Arrays(np.repeat(values[..., None], 3, axis=2), None, True, False, depth, icc, (note,) if note else ())


def _white_is_zero(image: Image.Image) -> bool:
    """Of a TIFF of more than 8 bits; Pillow heeds it for 8 bits only."""
    tags: Any = getattr(image, "tag_v2", {})
    return bool(tags.get(_PHOTOMETRIC, 1) == _WHITE_IS_ZERO)


def _wide(image: Image.Image, icc: bytes | None) -> Arrays:
    """Gray of 32 bits, rounded to 16: floats from 0 to 1 and integers from 0 to 65535 as they are.

    What goes beyond that has no agreed black and white, and is stretched from its least to its greatest.
    """
    plane = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(plane.min()), float(plane.max())
    top = 1.0 if image.mode == "F" else 65535.0
    notes: tuple[str, ...] = ()
    if low < 0 or high > top:
        notes = (f"its values from {low:g} to {high:g} are stretched from black to white",)
        plane, top = plane - low, (high - low) or 1.0
    values = np.rint(plane * (65535 / top)).astype(np.uint16)
    if _white_is_zero(image):
        values = 65535 - values
    return Arrays(np.repeat(values[..., None], 3, axis=2), None, True, False, 16, icc, notes)


def _cmyk(image: Image.Image, icc: bytes | None) -> Arrays:
    """CMYK to sRGB through its profile. The result carries none: untagged pixels are taken for sRGB."""
    if icc is not None and icc[16:20] == _ICC_CMYK:
        try:
            profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None
        if converted is not None:
            note = "CMYK converted to sRGB through its colour profile"
            return Arrays(_three(converted), None, False, False, 8, None, (note,))
    note = "CMYK without a usable colour profile: colours are approximate"
    return Arrays(_three(image), None, False, False, 8, None, (note,))


def _lab(image: Image.Image, icc: bytes | None, name: str) -> Arrays:
    """CIE L*a*b* to sRGB, through its profile where it has one, else taken for D50."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc)) if icc else ImageCms.createProfile("LAB")
        converted = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        raise InputError(f"{name}: its CIE L*a*b* pixels cannot be converted", "convert it to RGB") from error
    if converted is None:
        raise InputError(f"{name}: its CIE L*a*b* pixels cannot be converted", "convert it to RGB")
    return Arrays(_three(converted), None, False, False, 8, None, ("CIE L*a*b* converted to sRGB",))
