"""Samples of 8 and of 16 bits, each as the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def eight_bits(samples: Array) -> Array:
    """Samples of 16 bits rounded to 8; those of 8 as they are."""
    if samples.dtype == np.uint8:
        return samples
    rounded: Array = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return rounded


def sixteen_bits(samples: Array) -> Array:
    """Samples of 8 bits on the grid of 16; those of 16 as they are."""
    return samples if samples.dtype == np.uint16 else samples.astype(np.uint16) * 257
