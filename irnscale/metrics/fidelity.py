"""PSNR and SSIM by the field's protocol (DESIGN: HR cropped by the scale, luma unrounded, float64).

Images are (3, H, W) or (N, 3, H, W) tensors in [0, 1]; N images give N values. Sources: the test code of
Xiao et al. 2020; Wang et al. 2004 for SSIM (11 x 11 Gaussian, sigma 1.5, valid region).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LUMA_WEIGHTS = (65.481, 128.553, 24.966)


def as_8bit(x: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """Clamp to [0, 1], round to the 8-bit grid and return 0..255 in `dtype`."""
    return (x.to(dtype).clamp(0, 1) * 255).round()


def luma(rgb255: Tensor) -> Tensor:
    """BT.601 luma, 16 + (65.481 R + 128.553 G + 24.966 B) / 255 for values 0..255, unrounded: (..., 1, H, W)."""
    weights = torch.tensor(LUMA_WEIGHTS, dtype=rgb255.dtype, device=rgb255.device).view(3, 1, 1) / 255
    return 16 + (rgb255 * weights).sum(dim=-3, keepdim=True)


def _prepare(x: Tensor, crop: int, y_channel: bool, rounded: bool, dtype: torch.dtype) -> Tensor:
    x = as_8bit(x, dtype)
    if x.dim() == 3:
        x = x.unsqueeze(0)
    if crop:
        x = x[..., crop:-crop, crop:-crop]
    if not y_channel:
        return x
    return luma(x).round() if rounded else luma(x)


def _pair(a: Tensor, b: Tensor, crop: int, y_channel: bool, rounded: bool, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    x, y = (_prepare(image, crop, y_channel, rounded, dtype) for image in (a, b))
    if x.shape != y.shape or not x.numel():
        shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ValueError(f"{shapes} cannot be compared with {crop} pixels cut on every side")
    return x, y


def psnr(
    a: Tensor,
    b: Tensor,
    *,
    crop: int = 0,
    y_channel: bool = True,
    rounded: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Peak signal-to-noise ratio in dB, (N,); infinite for equal images. `crop` pixels are cut on every side.

    `rounded` rounds luma to whole numbers, as MATLAB's rgb2ycbcr does and the published bicubic rows were made.
    `dtype` float32 is faster on a GPU; `irnscale evaluate --fast` reports what it changes. Raises ValueError for
    images of different sizes, and where the crop leaves nothing.
    """
    x, y = _pair(a, b, crop, y_channel, rounded, dtype)
    d = x - y
    return 10 * torch.log10(255**2 / (d * d).mean(dim=(1, 2, 3)))


def ssim(
    a: Tensor,
    b: Tensor,
    *,
    crop: int = 0,
    y_channel: bool = True,
    rounded: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Structural similarity, (N,), mean over the valid region and the channels; options as for `psnr`.

    Raises ValueError for images of different sizes, and where fewer than 11 x 11 pixels are left after the crop.
    """
    x, y = _pair(a, b, crop, y_channel, rounded, dtype)
    if min(x.shape[-2:]) < _WINDOW:
        raise ValueError(f"SSIM needs at least 11 x 11 pixels after the crop, got {x.shape[-2]} x {x.shape[-1]}")
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = _blur(x), _blur(y)
    # Around the middle gray: float32 would lose the variance in the squares of large values.
    x, y, ax, ay = x - 128, y - 128, mx - 128, my - 128
    vx, vy, cxy = _blur(x * x) - ax * ax, _blur(y * y) - ay * ay, _blur(x * y) - ax * ay
    value = ((2 * mx * my + c1) * (2 * cxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return value.mean(dim=(1, 2, 3))


_WINDOW = 11
_TAPS = [math.exp(-((k - 5) ** 2) / (2 * 1.5**2)) for k in range(_WINDOW)]


def _blur(v: Tensor) -> Tensor:
    """The valid part of the Gaussian window's mean, one axis after the other.

    As sums of shifted slices: thirty times faster in float64 on a CPU than a convolution, and on a GPU
    float32 is not rounded to TF32.
    """
    for dim in (-2, -1):
        length = v.shape[dim] - _WINDOW + 1
        total = torch.zeros_like(v.narrow(dim, 0, length))
        for k, tap in enumerate(_TAPS):
            total.add_(v.narrow(dim, k, length), alpha=tap / sum(_TAPS))
        v = total
    return v
