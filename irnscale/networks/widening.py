"""Convolutions that read few channels, with the same sums for a tile of any width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

MULTIPLE = 8


def missing_channels(channels: int, dtype: torch.dtype) -> int:
    """How many channels of zeros a convolution in `dtype` on a CPU should read beside its own.

    In bfloat16, up to a multiple of 8: of 3, 6, 12 or 15 channels, oneDNN computes the sums of some widths in another
    order where a processor has AMX, and a sample would depend on the tile that it is in.
    """
    return -channels % MULTIPLE if dtype == torch.bfloat16 else 0


def widen(x: Tensor, extra: int) -> Tensor:
    """(N, C, H, W) -> (N, C + extra, H, W), zeros behind."""
    return F.pad(x, (0, 0, 0, 0, 0, extra)) if extra else x


def convolve_few(x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """A 3 x 3 convolution, padded by 1, of x (N, C, H, W) of any dtype in `dtype`, which its result has, too."""
    extra = missing_channels(weight.shape[1], dtype) if x.device.type == "cpu" else 0
    return F.conv2d(widen(x, extra).to(dtype), widen(weight, extra).to(dtype), bias.to(dtype), padding=1)
