"""MATLAB's `imresize(..., "bicubic")` in torch: the ruler by which the field measures.

The only module of this package that imports torch; nothing here imports it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

_MARGIN = 4  # small pixels per side; the kernel reaches 2 of them


def bicubic_down(x: torch.Tensor, scale: int) -> torch.Tensor:
    """Antialiased bicubic reduction of (N, C, H, W) to (N, C, H/scale, W/scale); nothing is clipped.

    The border is mirrored with the edge repeated, as MATLAB does; torch alone would renormalise the
    kernel there. Raises ValueError where H or W is not divisible by `scale`.
    """
    height, width = _check(x, scale)
    if height % scale or width % scale:
        raise ValueError(f"{width}x{height} is not divisible by the scale {scale}")
    padded = _mirror(x, _MARGIN * scale)
    size = (height // scale + 2 * _MARGIN, width // scale + 2 * _MARGIN)
    small = F.interpolate(padded, size=size, mode="bicubic", antialias=True)
    return small[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def bicubic_up(x: torch.Tensor, scale: int) -> torch.Tensor:
    """Bicubic enlargement of (N, C, H, W) to (N, C, H*scale, W*scale); nothing is clipped.

    `antialias=True` does not widen the kernel here; it selects Keys' a = -0.5, which MATLAB uses,
    where torch's plain bicubic has -0.75.
    """
    height, width = _check(x, scale)
    padded = _mirror(x, _MARGIN)
    size = ((height + 2 * _MARGIN) * scale, (width + 2 * _MARGIN) * scale)
    large = F.interpolate(padded, size=size, mode="bicubic", antialias=True)
    edge = _MARGIN * scale
    return large[..., edge:-edge, edge:-edge]


def _check(x: torch.Tensor, scale: int) -> tuple[int, int]:
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"expected (N, C, H, W) of floats, not {tuple(x.shape)} of {x.dtype}")
    if scale < 1:
        raise ValueError(f"the scale must be at least 1, not {scale}")
    return x.shape[2], x.shape[3]


def _mirror(x: torch.Tensor, margin: int) -> torch.Tensor:
    """Symmetric padding by `margin` on all sides; pads wider than the picture mirror it repeatedly."""
    for axis in (2, 3):
        indices = np.pad(np.arange(x.shape[axis]), margin, mode="symmetric")
        x = x.index_select(axis, torch.from_numpy(indices).to(x.device))
    return x
