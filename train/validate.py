"""Scores of a network on a folder of photographs, by the test protocol, without files in between."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from irnscale.errors import InputError
from irnscale.images.bicubic import bicubic_down
from irnscale.kernels import quantize
from irnscale.metrics import psnr, ssim
from irnscale.train.photos import decode, image_files

SSIM_WINDOW = 11


class Scored(Protocol):
    """What validation and its pictures need of an objective: see `irnscale.train.objective.Objective`."""

    scale: int
    makes_lr: bool

    def downscale(self, hr: Tensor) -> Tensor:
        """See `Objective.downscale`."""

    def upscale(self, lr: Tensor) -> Tensor:
        """See `Objective.upscale`."""

    def damaged(self, lr: Tensor) -> dict[str, Tensor]:
        """See `Objective.damaged`."""

    def scores(self, hr: Tensor, lr: Tensor) -> dict[str, float]:
        """See `Objective.scores`."""


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
        what = f"no photographs to validate on in {', '.join(map(str, sources))}"
        raise InputError(what, "give larger ones with `val`", parameters=("val",), otherwise="give larger ones")
    return images


@torch.inference_mode()
def validate(objective: Scored, images: list[Tensor], device: torch.device) -> dict[str, float]:
    """Means of PSNR and SSIM, of luma and of RGB: HR (from 8-bit LR, z = 0) cropped by the scale, as "psnr_y",
    "ssim_y", "psnr_rgb", "ssim_rgb", and LR against the rounded bicubic as "lr_psnr_y" and so on.

    And those of LR as it may be damaged, `Objective.damaged`, as "psnr_y_q90" and so on. No LR scores where the
    objective takes bicubic for LR. Images too small for SSIM's window have none. And what the objective has of its own,
    `Objective.scores`.
    """
    scale = objective.scale
    values: dict[str, list[float]] = {}
    for image in images:
        x = image[None].to(device).float() / 255
        lr = quantize(objective.downscale(x))
        restored = objective.upscale(lr)
        for prefix, result, truth, crop in (
            ("", restored, x, scale),
            ("lr_", lr, bicubic_down(x, scale), 0),
        )[: 2 if objective.makes_lr else 1]:
            for suffix, luma in (("y", True), ("rgb", False)):
                score = psnr(result, truth, crop=crop, y_channel=luma)
                values.setdefault(f"{prefix}psnr_{suffix}", []).append(score.item())
                if min(result.shape[2:]) >= SSIM_WINDOW + 2 * crop:
                    score = ssim(result, truth, crop=crop, y_channel=luma)
                    values.setdefault(f"{prefix}ssim_{suffix}", []).append(score.item())
        for name, value in objective.scores(x, lr).items():
            values.setdefault(name, []).append(value)
        for suffix, stored in objective.damaged(lr).items():
            score = psnr(objective.upscale(stored), x, crop=scale)
            values.setdefault(f"psnr_y{suffix}", []).append(score.item())
    return {name: sum(scores) / len(scores) for name, scores in values.items()}
