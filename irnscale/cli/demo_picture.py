"""The labelled side-by-side picture of `irnscale demo`."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PANEL = 384
GAP = 12
LABEL = 46


def _label(draw: ImageDraw.ImageDraw, x: int, y: int, title: str, detail: str) -> None:
    draw.text((x, y + 4), title, fill="black", font=ImageFont.load_default(18))
    draw.text((x, y + 25), detail, fill=(90, 90, 90), font=ImageFont.load_default(14))


def side_by_side(
    original: np.ndarray[Any, Any],
    small: np.ndarray[Any, Any],
    restored: np.ndarray[Any, Any],
    bicubic: np.ndarray[Any, Any],
    scores: dict[str, tuple[float, float]],
    *,
    crop: tuple[int, int, int],
) -> bytes:
    """PNG of four columns, each with the whole picture above and an enlarged crop (nearest) below.

    All arrays are (H, W, 3) uint8; `small` is shown in its true size relative to the others. `scores` has
    (PSNR, SSIM) for "irnscale" and "bicubic"; `crop` is left, top, side in pixels of the original.
    """
    left, top, side = crop
    height, width = original.shape[:2]
    scale = width // small.shape[1]
    panel_height = PANEL * height // width
    columns = [
        ("original", f"{width} x {height}", original, 1),
        ("small, by irnscale", f"{small.shape[1]} x {small.shape[0]}: all that is kept", small, scale),
        ("restored by irnscale", "PSNR {:.2f} dB, SSIM {:.4f}".format(*scores["irnscale"]), restored, 1),
        ("bicubic, for comparison", "PSNR {:.2f} dB, SSIM {:.4f}".format(*scores["bicubic"]), bicubic, 1),
    ]
    sheet = Image.new("RGB", (len(columns) * (PANEL + GAP) + GAP, LABEL + panel_height + GAP + PANEL + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (title, detail, pixels, factor) in enumerate(columns):
        x = GAP + index * (PANEL + GAP)
        _label(draw, x, 0, title, detail)
        image = Image.fromarray(pixels)
        whole = image.resize((PANEL // factor, panel_height // factor), Image.Resampling.LANCZOS)
        sheet.paste(whole, (x, LABEL))
        box = (left // factor, top // factor, (left + side) // factor, (top + side) // factor)
        zoomed = image.crop(box).resize((PANEL, PANEL), Image.Resampling.NEAREST)
        sheet.paste(zoomed, (x, LABEL + panel_height + GAP))
        scaled = [round(v * PANEL / width / factor) for v in (left, top, left + side, top + side)]
        draw.rectangle(
            (x + scaled[0], LABEL + scaled[1], x + scaled[2], LABEL + scaled[3]),
            outline=(255, 60, 0),
            width=2,
        )
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()
