"""What the machine says about itself while it trains."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module

import torch


def hardware(device: torch.device) -> dict[str, float]:
    """Peak memory in MiB of the device's tensors, or of the process on the CPU; on CUDA also degrees Celsius.

    What cannot be told (the temperature needs `nvidia-ml-py`) is left out.
    """
    facts: dict[str, float] = {}
    if device.type == "cuda":
        facts["gpu_memory_mib"] = torch.cuda.max_memory_allocated(device) / 2**20
        with suppress(ImportError, RuntimeError):
            facts["gpu_temperature"] = torch.cuda.temperature(device)
        return facts
    with suppress(ImportError):  # Windows
        usage = import_module("resource")
        peak = usage.getrusage(usage.RUSAGE_SELF).ru_maxrss
        facts["memory_mib"] = peak / (2**20 if sys.platform == "darwin" else 2**10)
    return facts
