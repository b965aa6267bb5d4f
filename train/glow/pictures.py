"""Grids of digits, as PNG and as tensors."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from irnscale.train.glow.digits import WHITE, to_levels

TOP = 28
GAP = 16


def grid(pictures: Tensor, columns: int, zoom: int = 5) -> bytes:
    """PNG of (N, 1, 8, 8) pictures in rows, black on white as ink on paper; N a multiple of `columns`."""
    return _png(_grid(pictures, columns, zoom))


def sheet(pictures: Tensor, columns: int, zoom: int = 5) -> Tensor:
    """The same as (3, H, W) uint8."""
    gray = torch.from_numpy(np.array(_grid(pictures, columns, zoom)))
    return gray.expand(3, -1, -1)


def figure(parts: Mapping[str, Tensor], columns: int = 8, zoom: int = 4) -> bytes:
    """PNG of several grids beside each other, each under its name: the dissertation's figure 4.1."""
    grids = {name: _grid(pictures, columns, zoom) for name, pictures in parts.items()}
    height = max(image.height for image in grids.values())
    width = sum(image.width + GAP for image in grids.values())
    page = Image.new("L", (width + GAP, height + TOP + GAP), 255)
    draw = ImageDraw.Draw(page)
    x = GAP
    for name, image in grids.items():
        draw.text((x + 2, 8), name, fill=0)
        page.paste(image, (x, TOP))
        x += image.width + GAP
    return _png(page)


def _grid(pictures: Tensor, columns: int, zoom: int) -> Image.Image:
    levels = F.pad(to_levels(pictures[:, 0]), (1, 1, 1, 1))
    count, height, width = levels.shape
    rows = levels.reshape(count // columns, columns, height, width).permute(0, 2, 1, 3)
    gray = 255 - (rows.reshape(-1, columns * width) * (255 / WHITE)).round().to(torch.uint8)
    image = Image.fromarray(gray.numpy())
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
