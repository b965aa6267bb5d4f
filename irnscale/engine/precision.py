"""Which number format the convolutions use.

A lower one is one of the convolutions alone. The state between the steps, to which they are added, stays in
float32, and so does what a dense block of few channels makes, which the picture itself is changed by. Rounded to
bfloat16's 8 bits, it would cost irn-x2 0.035 dB on Set5 where it costs 0.013. Rounded weights and features cost
nothing there. What is left is mostly the picture, rounded where s and t read it: given to them as two channels of 8
bits for each, it would cost irn-x2 0.005 dB, which is not done.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

from irnscale.errors import DeviceError, UsageError
from irnscale.logs import logger

_log = logger(__name__)

PRECISIONS = ("auto", "float32", "bfloat16", "float16")
EXACT = "float32"
"""What others are compared with."""
FEW_CHANNELS = 5
"""Results of so many channels are not rounded to fewer than 32 bits."""
LOWERED = " 3"
"""Changes when a lower precision would give other pictures, so that no kept measurement is taken for a new one."""


@cache
def cpu_multiplies_bfloat16() -> bool:
    """Whether this CPU has AVX512-BF16 or AMX; without them bfloat16 is emulated and ten times slower."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux: ask torch, whose names for this are private and may go
        probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
        return bool(probe and probe())
    return "avx512_bf16" in flags or "amx_bf16" in flags


def result_of(out_channels: int, dtype: torch.dtype) -> torch.dtype:
    """The number format in which a dense block gives its result, where its convolutions are in `dtype`."""
    return torch.float32 if out_channels <= FEW_CHANNELS and dtype.itemsize < torch.float32.itemsize else dtype


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The number format called `name` on `device`; "auto" takes bfloat16 where it is native.

    Raises UsageError for an unknown name and DeviceError for one that the device has no instructions for.
    """
    if name not in PRECISIONS:
        raise UsageError(f"precision={name}: not one of {', '.join(PRECISIONS)}", parameters=("precision",))
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and cpu_multiplies_bfloat16()
    if name == "auto":
        _log.debug("%s %s bfloat16", device, "computes" if native else "only emulates")
        return torch.bfloat16 if native else torch.float32
    if name == "float16" and device.type == "cpu":
        raise DeviceError("float16 convolutions are not available on the CPU", "use bfloat16 or float32")
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
