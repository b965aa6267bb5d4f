"""What is wrong with files that no decoder here reads though nothing is damaged: their feature, by name."""

from __future__ import annotations

import io
import re
from pathlib import Path

from PIL import TiffImagePlugin

from irnscale.images.clap import impossible_aperture
from irnscale.images.tiff_directories import Tags, directories

_BIG_TIFF_MOTOROLA = b"MM\0+"
_CONVERT = "convert it to RGB of 8 or 16 bits"
_MOST = 1 << 20
"""Bytes at a file's beginning that are searched; a TIFF's directory may be at its end."""
_COLOURS = {0: "gray", 1: "gray", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr"}
_COLOURS |= {8: "Lab", 9: "ICC Lab", 10: "ITU Lab", 32844: "LogL", 32845: "LogLuv"}
_FORMATS = {1: "", 2: "signed ", 3: "floating-point ", 4: "untyped ", 5: "complex ", 6: "complex "}
_COMPRESSIONS = {34661: "JBIG", 34676: "SGI LogLuv", 34677: "SGI LogLuv", 34712: "JPEG 2000", 34887: "LERC"}
_COMPRESSIONS |= {33003: "JPEG 2000", 33004: "JPEG 2000", 33005: "JPEG 2000", 34933: "PNG", 34934: "JPEG XR"}
_COMPRESSIONS |= {22610: "JPEG XR", 48124: "Jetraw", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL"}
_FRAMES = {0xC3: "lossless", 0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical lossless"}
_FRAMES |= {0xCB: "lossless arithmetic-coded", 0xCD: "hierarchical arithmetic-coded"}
_FRAMES |= {0xCE: "hierarchical arithmetic-coded", 0xCF: "hierarchical lossless arithmetic-coded"}
# ITU-T H.273, MatrixCoefficients; what libavif converts is left out
_MATRICES = {0: "RGB without a conversion in subsampled planes", 10: "BT.2020 of constant luminance", 11: "YDzDx"}
_MATRICES |= {13: "constant luminance", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
_ITEMS = {b"unci": "uncompressed", b"j2k1": "JPEG 2000", b"vvc1": "VVC", b"evc1": "EVC", b"jpeg": "JPEG"}
_ITEM = re.compile(rb"infe(?:\x02.{3}.{4}|\x03.{3}.{6})([a-z0-9]{4})", re.DOTALL)


def unsupported(source: Path | bytes | None) -> tuple[str, str] | None:
    """What a file that could not be read is, and the remedy; None where it is of a kind that is read."""
    if source is None:
        return None
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            data = file.read(_MOST)
            tags = next(directories(file), None)
    except OSError:
        return None
    if tags is not None:
        if data[:4] == _BIG_TIFF_MOTOROLA:
            return "is a BigTIFF with its most significant bytes first, which is not supported", "save it as a TIFF"
        return _tiff(data[:2], tags)
    if data[:2] == b"\xff\xd8":
        return _jpeg(data)
    if data[4:8] == b"ftyp":
        return _heif(data)
    return None


def _tiff(order: bytes, tags: Tags) -> tuple[str, str] | None:
    """By Pillow's own table of what it reads."""
    compression = _one(tags, 259, 1)
    samples = _one(tags, 277, 1)
    if not _one(tags, 256, 0) or not _one(tags, 257, 0) or not 1 <= samples <= 64:
        return None
    known = compression in TiffImagePlugin.COMPRESSION_INFO and compression not in _COMPRESSIONS
    if not known:
        name = _COMPRESSIONS.get(compression, f"the method {compression}")
        return f"is a TIFF compressed by {name}, which is not supported", "save it with LZW or Deflate"
    bits = tags.get(258) or (1,)
    bits = bits * samples if len(bits) == 1 else bits
    kinds = tags.get(339) or (1,)
    kinds = kinds[:1] if len(set(kinds)) == 1 else kinds
    photometric, extra = _one(tags, 262, 0), tags.get(338, ())
    key = (order, photometric, kinds, _one(tags, 266, 1), bits, extra)
    if key in TiffImagePlugin.OPEN_INFO or max(bits) > 128 or not min(bits):
        return None
    depth = str(bits[0]) if len(set(bits)) == 1 else "-".join(map(str, bits))
    kind = _FORMATS.get(kinds[0], "unknown ")
    colour = _COLOURS.get(photometric, f"colour of the kind {photometric}")
    alpha = " with alpha" if any(one in (1, 2) for one in extra) else f" with {len(extra)} more channels" * bool(extra)
    return f"is a TIFF of {depth}-bit {kind}{colour}{alpha}, which is not supported", _CONVERT


def _one(tags: Tags, tag: int, default: int) -> int:
    return next(iter(tags.get(tag, ())), default)


def _jpeg(data: bytes) -> tuple[str, str] | None:
    """By the marker and the precision of its frame (ITU-T T.81, B.2.2)."""
    position = 2
    while position + 5 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # filling
            position += 1
            continue
        if marker == 0xF7:
            return "is a JPEG-LS picture, which is not supported", _CONVERT
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            precision = data[position + 4]
            if marker in _FRAMES:
                return f"is a JPEG of the {_FRAMES[marker]} kind, which is not supported", _CONVERT
            if 8 < precision <= 16:
                return f"is a JPEG of {precision} bits per channel, which is not supported", _CONVERT
            return None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _heif(data: bytes) -> tuple[str, str] | None:
    """By the kinds of its items and the matrix of its colours (ISO/IEC 23008-12)."""
    avif = b"avif" in data[8:64] or b"avis" in data[8:64]
    for kind in (match[1] for match in _ITEM.finditer(data)):
        if kind in _ITEMS:
            return f"is a HEIF picture stored as {_ITEMS[kind]} ({kind.decode()}), which is not supported", _CONVERT
    if impossible_aperture(data):
        return "has an invalid clean aperture (clap), which divides by 0", "save it again, without cropping"
    at = data.find(b"nclx")
    if avif and at >= 0 and len(data) > at + 10:
        matrix = int.from_bytes(data[at + 8 : at + 10], "big")
        if matrix in _MATRICES:
            return (
                f"is an AVIF whose colours are {_MATRICES[matrix]} (matrix {matrix}), which is not supported",
                _CONVERT,
            )
    return None
