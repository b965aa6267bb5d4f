"""Argument checks of single operations, raised before dispatch; needs no Triton."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from irnscale.kernels.dispatch import require_image, require_writable


def check_bias_lrelu(x: Tensor, bias: Tensor, out: Tensor, channel: int) -> None:
    """ValueError naming the first argument of `bias_lrelu_into` that does not fit."""
    require_image("x", x)
    require_image("out", out)
    n, c, h, w = x.shape
    if bias.shape != (c,):
        raise ValueError(f"bias must have shape ({c},), one value per channel of x, got {tuple(bias.shape)}")
    if out.shape[0] != n or out.shape[2:] != x.shape[2:]:
        raise ValueError(f"out must have shape ({n}, any, {h}, {w}) like x, got {tuple(out.shape)}")
    if not 0 <= channel <= out.shape[1] - c:
        raise ValueError(f"channel must leave room for {c} channels in the {out.shape[1]} of out, got {channel}")
    for name, tensor in (("bias", bias), ("out", out)):
        if tensor.device != x.device:
            raise ValueError(f"{name} is on {tensor.device}, x on {x.device}")
    if out.dtype != x.dtype:
        raise ValueError(f"out is {out.dtype}, x is {x.dtype}")
    if not bias.is_floating_point():
        raise ValueError(f"bias must be floating point, got {bias.dtype}")
    require_writable("out", out)


def check_philox(
    shape: Sequence[int], seed: int, origin: Sequence[int], dtype: torch.dtype
) -> tuple[int, int, int, int]:
    """The four sizes; ValueError naming the first argument that is out of range."""
    if len(shape) != 4 or min(shape) < 0:
        raise ValueError(f"shape must be (N, C, H, W), got {tuple(shape)}")
    if len(origin) != 4 or min(origin) < 0:
        raise ValueError(f"origin must be four non-negative positions, got {tuple(origin)}")
    if any(start + size > 2**32 for start, size in zip(origin, shape, strict=True)):
        raise ValueError(f"origin {tuple(origin)} with shape {tuple(shape)} leaves the 32-bit counters")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in [0, 2^64), got {seed}")
    if not dtype.is_floating_point:
        raise ValueError(f"dtype must be floating point, got {dtype}")
    n, c, h, w = shape
    return n, c, h, w
