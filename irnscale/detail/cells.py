"""Samples as cells and digits: sample = m * cell + digit, with m a power of two."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[Any]
"""uint8, or uint16 for a picture of 16 bits per channel."""


def cells_of(fine: npt.NDArray[np.uint16], bits: int, depth: int) -> Samples:
    """The cell that each value of the network's picture falls into, for samples of `depth` (8 or 16) bits.

    fine: uint16, the picture on the grid of 16 bits. A cell is 2^bits grey levels; its index is below 2^(depth - bits).
    """
    m, step = 1 << bits, 257 if depth == 8 else 1
    # floor((v + 1/2) / m) with v in grey levels of `depth` bits, in integers
    index = (2 * fine.astype(np.int64) + step) // (2 * step * m)
    return np.minimum(index, (1 << (depth - bits)) - 1).astype(np.uint8 if depth == 8 else np.uint16)


def centres(cells: Samples, bits: int, depth: int) -> npt.NDArray[np.uint16]:
    """The middle of each cell on the grid of 16 bits: what the base is made of."""
    m, step = 1 << bits, 257 if depth == 8 else 1
    return (cells.astype(np.uint32) * (m * step) + (m - 1) * step // 2).astype(np.uint16)


def nearest_digits(fine: npt.NDArray[np.uint16], cells: Samples, bits: int, depth: int) -> npt.NDArray[np.uint8]:
    """The digit that brings each sample nearest to the network's picture: for samples that carry nothing."""
    step = 257 if depth == 8 else 1
    sample = (fine.astype(np.int64) + step // 2) // step
    return np.clip(sample - (cells.astype(np.int64) << bits), 0, (1 << bits) - 1).astype(np.uint8)


def neutral_digit(bits: int) -> int:
    """The digit at the middle of a cell: of a sample whose digits were removed."""
    return 1 << (bits - 1)


def split(samples: Samples, bits: int) -> tuple[Samples, npt.NDArray[np.uint8]]:
    """Samples -> (cells, digits): the upper bits shifted down, and the lower `bits` of each sample."""
    return samples >> bits, (samples & ((1 << bits) - 1)).astype(np.uint8)


def joined(cells: Samples, digits: npt.NDArray[np.uint8], bits: int) -> Samples:
    """The inverse of `split`: (cells, digits) of one shape -> samples of the cells' dtype."""
    samples: Samples = (cells << bits) | digits.astype(cells.dtype)
    return samples


def capacity(samples: int, bits: int) -> int:
    """Whole bytes that so many samples carry."""
    return samples * bits // 8


def bytes_to_digits(data: bytes, bits: int) -> npt.NDArray[np.uint8]:
    """The bits of `data`, most significant first, in groups of `bits`; the last group is filled with zeros."""
    stream = np.unpackbits(np.frombuffer(data, np.uint8))
    groups = np.pad(stream, (0, -len(stream) % bits)).reshape(-1, bits)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint8)
    digits: npt.NDArray[np.uint8] = (groups * weights).sum(axis=1, dtype=np.uint8)
    return digits


def digits_to_bytes(digits: npt.NDArray[np.uint8], bits: int, first: int, last: int) -> bytes:
    """Bytes [first, last) of those that a flat array of digits carries; fewer where it ends before."""
    start, stop = first * 8 // bits, -(-last * 8 // bits)
    part = np.unpackbits(digits[start:stop, None], axis=1)[:, 8 - bits :].reshape(-1)
    skip = first * 8 - start * bits
    whole = part[skip : skip + (last - first) * 8]
    return np.packbits(whole[: len(whole) // 8 * 8]).tobytes()
