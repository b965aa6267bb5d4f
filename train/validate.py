"""Scores of a network on a folder of photographs, by the test protocol, without files in between."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from irnscale.errors import InputError
from irnscale.images.bicubic import bicubic_down
from irnscale.kernels import quantize
from irnscale.metrics import psnr
from irnscale.train.data import decode, image_files
from irnscale.train.jpeg import jpeg
from irnscale.train.objective import Objective


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
def validate(objective: Objective, images: list[Tensor], device: torch.device) -> dict[str, float]:
    """Mean luma PSNR of HR (8-bit LR, z = 0, cropped by the scale) and of LR against the rounded bicubic.

    With `compression_mode` also "psnr_y_q90" and "psnr_y_q50": HR after JPEG of these qualities, 4:2:0 unless the
    recipe names another subsampling.
    """
    recipe = objective.recipe
    totals: dict[str, float] = {}
    for image in images:
        x = image[None].to(device).float() / 255
        lr = quantize(objective.downscale(x))
        stored = {"psnr_y": lr}
        for quality in (90, 50) if recipe.compression_mode else ():
            stored[f"psnr_y_q{quality}"] = jpeg(lr, torch.tensor([quality], device=device), recipe.chroma or "4:2:0")
        scores = {name: psnr(objective.upscale(small), x, crop=recipe.scale) for name, small in stored.items()}
        scores["lr_psnr_y"] = psnr(lr, bicubic_down(x, recipe.scale))
        for name, score in scores.items():
            totals[name] = totals.get(name, 0.0) + score.item() / len(images)
    return totals
