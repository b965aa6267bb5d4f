"""Clocks, and what this machine multiplies at most."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

MATRIX = 2048
"""Side of the matrices whose product is timed."""


def matrix_rate(dtype: torch.dtype, device: torch.device, repeats: int = 5) -> float:
    """Floating-point operations per second of a large matrix product, the best of the repeats."""
    a = torch.ones(MATRIX, MATRIX, dtype=dtype, device=device)
    return 2.0 * MATRIX**3 / min(timed(lambda: a @ a, device)[0] for _ in range(repeats))


def timed(call: Callable[[], Tensor], device: torch.device) -> tuple[float, Tensor]:
    """Seconds that a call takes on the device, and its result."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start, result
