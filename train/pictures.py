"""Pictures of what a network does: LR, LR', HR and HR' side by side."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from irnscale.images.bicubic import bicubic_down
from irnscale.kernels import quantize
from irnscale.metrics import as_8bit
from irnscale.train.validate import Scored

SIDE = 192
"""Largest side of the part of a photograph that is shown."""
GAP = 4


@torch.no_grad()
def strip(objective: Scored, hr: Tensor, lr_reference: Tensor) -> Tensor:
    """HR (3, H, W) and bicubic LR (3, h, w) -> (3, H, 4 W + gaps) uint8: LR, LR', HR, HR'; LR in large pixels."""
    lr = quantize(objective.downscale(hr[None]))
    restored = objective.upscale(lr)[0]
    small = [F.interpolate(x[None], size=hr.shape[1:], mode="nearest")[0] for x in (lr_reference, lr[0])]
    parts = [as_8bit(part).to(torch.uint8) for part in (*small, hr, restored)]
    gap = parts[0].new_full((3, hr.shape[1], GAP), 255)
    return torch.cat([x for part in parts for x in (part, gap)][:-1], dim=2)


def samples(objective: Scored, images: list[Tensor], device: torch.device) -> Tensor:
    """A strip of the middle of each image, (3, H, W) uint8 of multiples of the scale, one below the other."""
    scale = objective.scale
    strips = []
    for image in images:
        x = image[None].to(device).float() / 255
        reference = bicubic_down(x, scale)[0]
        height, width = (min(SIDE // scale, n) for n in reference.shape[1:])
        top, left = (reference.shape[1] - height) // 2, (reference.shape[2] - width) // 2
        middle = x[0, :, top * scale : (top + height) * scale, left * scale : (left + width) * scale]
        strips.append(strip(objective, middle, reference[:, top : top + height, left : left + width]))
    widest = max(s.shape[2] for s in strips)
    padded = [F.pad(s, (0, widest - s.shape[2], 0, GAP), value=255) for s in strips]
    return torch.cat(padded, dim=1)[:, :-GAP]
