"""PSNR and SSIM by the field's protocol (DESIGN: HR cropped by the scale, luma unrounded, float64).

Images are (3, H, W) or (N, 3, H, W) tensors in [0, 1]; N images give N values. Sources: the test code of
Xiao et al. 2020; Wang et al. 2004 for SSIM (11 x 11 Gaussian, sigma 1.5, valid region).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA_WEIGHTS = (65.481, 128.553, 24.966)


def as_8bit(x: Tensor) -> Tensor:
    """Clamp to [0, 1], round to the 8-bit grid and return 0..255 in float64."""
    return (x.to(torch.float64).clamp(0, 1) * 255).round()


def luma(rgb255: Tensor) -> Tensor:
    """BT.601 luma, 16 + (65.481 R + 128.553 G + 24.966 B) / 255 for values 0..255, unrounded: (..., 1, H, W)."""
    weights = torch.tensor(LUMA_WEIGHTS, dtype=rgb255.dtype, device=rgb255.device).view(3, 1, 1) / 255
    return 16 + (rgb255 * weights).sum(dim=-3, keepdim=True)


def _prepare(x: Tensor, crop: int, y_channel: bool, rounded: bool) -> Tensor:
    x = as_8bit(x)
    if x.dim() == 3:
        x = x.unsqueeze(0)
    if crop:
        x = x[..., crop:-crop, crop:-crop]
    if not y_channel:
        return x
    return luma(x).round() if rounded else luma(x)


def psnr(a: Tensor, b: Tensor, *, crop: int = 0, y_channel: bool = True, rounded: bool = False) -> Tensor:
    """Peak signal-to-noise ratio in dB, (N,); infinite for equal images. `crop` pixels are cut on every side.

    `rounded` rounds luma to whole numbers, as MATLAB's rgb2ycbcr does and the published bicubic rows were made.
    """
    d = _prepare(a, crop, y_channel, rounded) - _prepare(b, crop, y_channel, rounded)
    return 10 * torch.log10(255**2 / (d * d).mean(dim=(1, 2, 3)))


def ssim(a: Tensor, b: Tensor, *, crop: int = 0, y_channel: bool = True, rounded: bool = False) -> Tensor:
    """Structural similarity, (N,), mean over the valid region and the channels; options as for `psnr`.

    Raises ValueError where fewer than 11 x 11 pixels are left after the crop.
    """
    x, y = _prepare(a, crop, y_channel, rounded), _prepare(b, crop, y_channel, rounded)
    if min(x.shape[-2:]) < 11:
        raise ValueError(f"SSIM needs at least 11 x 11 pixels after the crop, got {x.shape[-2]} x {x.shape[-1]}")
    t = torch.arange(11, dtype=torch.float64, device=x.device) - 5
    g = torch.exp(-(t**2) / (2 * 1.5**2))
    g = g / g.sum()
    channels = x.shape[1]

    def blur(v: Tensor) -> Tensor:
        v = F.conv2d(v, g.view(1, 1, 11, 1).expand(channels, 1, 11, 1), groups=channels)
        return F.conv2d(v, g.view(1, 1, 1, 11).expand(channels, 1, 1, 11), groups=channels)

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mx, my = blur(x), blur(y)
    vx, vy, cxy = blur(x * x) - mx * mx, blur(y * y) - my * my, blur(x * y) - mx * my
    value = ((2 * mx * my + c1) * (2 * cxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return value.mean(dim=(1, 2, 3))
