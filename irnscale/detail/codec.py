"""Residuals to bytes and back, by the codecs that Pillow brings; and the search for the quality that fills the room."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, features

from irnscale.detail import av1
from irnscale.images.opening import PILLOW_ERRORS

Residual = npt.NDArray[np.int16]
"""(h, w, 3), original minus base, in grey levels of 8 bits."""

AV1, WEBP = 1, 2
CODECS = {AV1: "AVIF", WEBP: "WebP"}
MOST_ENCODES = 3
"""Per tile, unless none of them fits."""
_STEPS = 63
"""Quantisers of AV1 that Pillow's quality from 0 to 100 reaches, and as many qualities of WebP are tried."""
_SPEED = 6
_QUICK, _PROBES = 9, 3
"""The speed of encodings that only ask for a size, and their number."""
FLAT = 15
_BETWEEN = ((0.96, 12), (0.86, 10), (0.7, 8), (0.5, 6), (0.0, 4))
"""(ratio of room to size, matrices): what takes somewhat less room than a level that does not quite fit."""
_FULL = 0.93
"""Part of the room beyond which no further encoding is tried."""
_SMALLEST = 24
"""Bytes below which no stream of a codec is possible."""


def available() -> int | None:
    """The better of the codecs that this Pillow has; None where it has neither."""
    return AV1 if features.check("avif") else WEBP if features.check("webp") else None


def has(codec: int) -> bool:
    """Whether this Pillow decodes that codec."""
    return codec in CODECS and bool(features.check(CODECS[codec].lower()))


def encode(residual: Residual, codec: int, quality: int, *, flat: int = FLAT, speed: int = _SPEED) -> bytes:
    """The residual, clipped to [-128, 127], at a quality from 0 to 100, without a container. Raises OSError.

    flat: level of AV1's quantisation matrices, below FLAT finer steps between two qualities. speed: of AV1's encoder.
    """
    image = Image.fromarray((residual + 128).clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    if codec == WEBP:
        image.save(file, "WEBP", quality=quality, method=4)
        return file.getvalue()
    # the encoder's own measure is one of looks, which costs 0.7 dB; one thread, so that the bytes are always the same
    tuning = {"tune": "psnr"}
    if flat < FLAT:
        tuning |= {"enable-qm": "1", "qm-min": str(flat), "qm-max": str(flat)}
    options: dict[str, Any] = {"subsampling": "4:2:0", "speed": speed, "advanced": tuning}
    image.save(file, "AVIF", quality=quality, max_threads=1, **options)
    return av1.bare(file.getvalue())


def decode(stream: bytes, codec: int, width: int, height: int) -> Residual | None:
    """What `encode` was given, but for its loss; None where the stream is not a picture of exactly this size."""
    if codec == AV1 and av1.frame_size(stream) != (width, height):
        return None
    data = av1.contained(stream, width, height) if codec == AV1 else stream
    try:
        with Image.open(io.BytesIO(data), formats=[CODECS[codec].upper()]) as image:
            if image.size != (width, height) or image.mode != "RGB" or getattr(image, "n_frames", 1) != 1:
                return None
            pixels = np.asarray(image)
    except PILLOW_ERRORS:
        return None
    if pixels.shape != (height, width, 3) or pixels.dtype != np.uint8:
        return None
    return pixels.astype(np.int16) - 128


def encode_within(residual: Residual, codec: int, room: int) -> bytes | None:
    """The largest stream of at most `room` bytes that `MOST_ENCODES` encodings find; None where nothing fits.

    What photographs' residuals take on average says where to look, AV1 at its quickest, in a tenth of the time, how
    this one differs from it, and each encoding how that differs from the real one. Beyond the usual number of
    encodings only something that fits is looked for.
    """
    expected = _expected(residual)
    if codec == AV1:
        expected = _probed(residual, room, expected)
    best: bytes | None = None
    tried: dict[int, float] = {}
    low, high = -1, _STEPS + 1  # the highest level known to fit, the lowest known not to
    while room >= _SMALLEST and (best is None or len(tried) < MOST_ENCODES):
        if low + 1 == high:
            return _between(residual, codec, room, high, tried, best)
        cautious = 0.02 + 0.15 * max(0, len(tried) - 1) * (best is None)
        level = _highest(expected + _correction(expected, tried), room, cautious)
        if level == low:  # the next one is not expected to fit
            return _between(residual, codec, room, high, tried, best) if high in tried else best
        level = min(max(level, low + 1), high - 1)
        stream = encode(residual, codec, _quality(level))
        tried[level] = math.log2(len(stream))
        if len(stream) > room:
            high = level
        else:
            low, best = level, stream
            if len(stream) >= _FULL * room:
                break
    return best


def _probed(residual: Residual, room: int, expected: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The expectation, corrected by quick encodings near the level whose stream would fill the room."""
    slower = math.log2(1 + min(1.0, 0.004 * residual[..., 0].size / max(1, room)))
    found: dict[int, float] = {}
    for _ in range(_PROBES):
        level = _highest(expected + _correction(expected, found), room, slower)
        if level in found:
            break
        found[level] = math.log2(len(encode(residual, AV1, _quality(level), speed=_QUICK)))
    return expected + _correction(expected, found) + slower


def _highest(sizes: npt.NDArray[np.float64], room: int, cautious: float) -> int:
    """The highest level at which the size, given as its logarithm, stays within the room."""
    return int((sizes <= math.log2(max(1, room)) - cautious).nonzero()[0].max(initial=0))


def _quality(level: int) -> int:
    return round(100 * level / _STEPS)


def _between(
    residual: Residual, codec: int, room: int, level: int, tried: dict[int, float], best: bytes | None
) -> bytes | None:
    """`best`, or a stream of a level that was found too long, with its fine detail coded more coarsely."""
    if codec != AV1 or level not in tried:
        return best
    ratio = room / 2 ** tried[level]
    flat = next(flat for least, flat in _BETWEEN if ratio >= least)
    stream = encode(residual, codec, _quality(level), flat=flat)
    return stream if len(best or b"") < len(stream) <= room else best


def expected_bytes(residual: Residual, quality: int) -> float:
    """What photographs' residuals take on average at a quality from 0 to 100."""
    return float(2 ** _expected(residual)[round(quality * _STEPS / 100)])


def _expected(residual: Residual) -> npt.NDArray[np.float64]:
    """Logarithm to base 2 of the bytes at each level, rising: fitted to residuals of 11 photographs at x2 and x4.

    By the mean and the standard deviation of the luma's absolute value; a level more is a step less.
    """
    gray = residual.mean(axis=2)
    mean, deviation = (math.log2(max(float(v), 0.1)) for v in (np.abs(gray).mean(), gray.std()))
    step = np.log2(1.06 - np.arange(_STEPS + 1) / _STEPS)
    w = _FIT
    bits = w[0] + w[1] * step + w[2] * mean + w[3] * deviation + w[4] * step**2 + w[5] * step * mean
    bits += w[6] * mean**2 + w[7] * step**3 + w[8] * step**2 * mean
    size: npt.NDArray[np.float64] = np.maximum.accumulate(bits) + math.log2(gray.size / 8)
    return size


_FIT = (-8.237, -4.773, 1.233, 0.3825, -1.476, -0.3836, -0.1805, -0.2340, -0.1782)


def _correction(expected: npt.NDArray[np.float64], tried: dict[int, float]) -> npt.NDArray[np.float64]:
    """What is to be added to the expectation at each level, by the sizes that were found."""
    off = {level: size - float(expected[level]) for level, size in sorted(tried.items())}
    if not off:
        return np.zeros_like(expected)
    levels = list(off)
    wanted: npt.NDArray[np.float64] = np.interp(np.arange(len(expected)), levels, [off[level] for level in levels])
    return wanted
