"""Grids of digits and training curves as PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from irnscale.train.glow.digits import WHITE, to_levels

COLOURS = ("#1f77b4", "#d62728", "#2ca02c")
WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 28, 40
GAP = 16


def grid(pictures: Tensor, columns: int, zoom: int = 5) -> bytes:
    """PNG of (N, 1, 8, 8) pictures in rows, black on white as ink on paper; N a multiple of `columns`."""
    return _png(_grid(pictures, columns, zoom))


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


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], title: str, x_title: str) -> bytes:
    """PNG with one line of (x, y) points per name; values that are not finite are left out.

    The vertical axis leaves out the first tenth of the x range where that would squeeze the rest.
    """
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    finite = {n: [(x, y) for x, y in p if abs(y) < float("inf")] for n, p in lines.items()}
    points = [point for line in finite.values() for point in line]
    draw.text((LEFT, 8), title, fill="black")
    if points:
        end = max(x for x, _ in points) or 1.0
        low, high = _limits([y for x, y in points if x >= end / 10])

        def place(x: float, y: float) -> tuple[float, float]:
            share = min(max((y - low) / (high - low), 0.0), 1.0)
            return LEFT + x / end * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

        for tick in range(5):
            y = low + (high - low) * tick / 4
            x = end * tick / 4
            draw.line([place(0, y), place(end, y)], fill="#dddddd")
            draw.text((4, place(0, y)[1] - 6), f"{y:.1f}", fill="black")
            draw.text((place(x, low)[0] - 12, HEIGHT - BOTTOM + 4), f"{x:.0f}", fill="black")
        draw.text((WIDTH // 2, HEIGHT - 16), x_title, fill="black")
        for number, (name, line) in enumerate(finite.items()):
            colour = COLOURS[number % len(COLOURS)]
            if len(line) > 1:
                draw.line([place(x, y) for x, y in line], fill=colour, width=2)
            draw.text((WIDTH - 150, HEIGHT - BOTTOM - 20 - 14 * number), name, fill=colour)
    return _png(image)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
