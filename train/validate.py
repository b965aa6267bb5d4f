"""Scores of a network on a folder of photographs, by the test protocol, without files in between."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from irnscale.errors import InputError
from irnscale.images.bicubic import bicubic_down
from irnscale.kernels import quantize
from irnscale.metrics import psnr
from irnscale.networks import IRN
from irnscale.train.data import decode, image_files


def validation_images(sources: list[Path], *, scale: int, limit: int) -> list[Tensor]:
    """Up to `limit` images, (3, H, W) uint8, cut to multiples of the scale, spread over the sources.

    Raises InputError for an unreadable image, or where none is larger than the border that scores leave out.
    """
    items = list(image_files(sources))
    images = []
    for item in items[:: max(1, len(items) // limit)][:limit]:
        image = decode(item)
        if isinstance(image, str):
            raise InputError(image, "validation needs readable images")
        height, width = (n - n % scale for n in image.shape[1:])
        if min(height, width) > 2 * scale:
            images.append(image[:, :height, :width])
    if not images:
        raise InputError(f"no photographs to validate on in {', '.join(map(str, sources))}")
    return images


@torch.inference_mode()
def validate(net: IRN, images: list[Tensor], device: torch.device) -> dict[str, float]:
    """Mean luma PSNR of HR (8-bit LR, z = 0, cropped by the scale) and of LR against the rounded bicubic."""
    hr_scores, lr_scores = [], []
    for image in images:
        x = image[None].to(device).float() / 255
        lr = quantize(net.downscale(x)[0])
        hr_scores.append(psnr(net.upscale(lr), x, crop=net.scale).item())
        lr_scores.append(psnr(lr, bicubic_down(x, net.scale)).item())
    return {"psnr_y": sum(hr_scores) / len(hr_scores), "lr_psnr_y": sum(lr_scores) / len(lr_scores)}
