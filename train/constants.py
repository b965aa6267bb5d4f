"""Constant tensors, made once per device."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor


@cache
def constant(values: tuple[Any, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """`values`, nested tuples of numbers, as a tensor that nobody may change.

    A copy from the host cannot be part of a CUDA graph, so a step must find its constants on the device; and a
    tensor made in inference mode, by a validation that came first, could not be trained with.
    """
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype, device=device)
