"""Pictures side by side on one sheet, each whole above and an enlarged part of it below."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PANEL = 384
GAP = 12
LABEL = 46
_FRAME = (255, 60, 0)


@dataclass(frozen=True)
class Column:
    """One picture of a sheet.

    pixels: (H, W, 3) uint8. factor: how many pixels of the original one of these is wide. in_proportion: the
    whole is drawn as small as it is, not enlarged to the others' size.
    """

    title: str
    detail: str
    pixels: np.ndarray[Any, Any]
    factor: int = 1
    in_proportion: bool = False


def sheet(columns: Sequence[Column], crop: tuple[int, int, int], size: tuple[int, int]) -> bytes:
    """PNG of the columns. crop: left, top, side in pixels of the original; size: its (width, height)."""
    left, top, side = crop
    width, height = size
    zoom = PANEL / max(width, height)
    panel_height = max(1, round(height * zoom))
    canvas = Image.new("RGB", (len(columns) * (PANEL + GAP) + GAP, LABEL + panel_height + GAP + PANEL + GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for index, column in enumerate(columns):
        x = GAP + index * (PANEL + GAP)
        draw.text((x, 4), column.title, fill="black", font=ImageFont.load_default(18))
        draw.text((x, 25), column.detail, fill=(90, 90, 90), font=ImageFont.load_default(14))
        image, factor = Image.fromarray(column.pixels), column.factor
        # what is drawn of one pixel of the original; a padded small picture reaches a little beyond its edge
        scale = zoom / factor if column.in_proportion else zoom
        drawn = (max(1, round(image.width * factor * scale)), max(1, round(image.height * factor * scale)))
        kind = Image.Resampling.NEAREST if factor > 1 and not column.in_proportion else Image.Resampling.LANCZOS
        shown = (min(drawn[0], PANEL), min(drawn[1], panel_height))
        whole = image.resize(drawn, kind).crop((0, 0, *shown))
        canvas.paste(whole, (x, LABEL))
        box = (left / factor, top / factor, (left + side) / factor, (top + side) / factor)
        zoomed = image.resize((PANEL, PANEL), Image.Resampling.NEAREST, box=box)
        canvas.paste(zoomed, (x, LABEL + panel_height + GAP))
        frame = [round(edge * scale) for edge in (left, top, left + side, top + side)]
        draw.rectangle((x + frame[0], LABEL + frame[1], x + frame[2], LABEL + frame[3]), outline=_FRAME, width=2)
    file = io.BytesIO()
    canvas.save(file, "PNG")
    return file.getvalue()


def difference_map(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], gain: int) -> np.ndarray[Any, Any]:
    """(H, W, 3) uint8: the absolute difference of two (H, W, 3) uint8 pictures, `gain` times as bright."""
    distance = np.abs(one.astype(np.int32) - other.astype(np.int32)) * gain
    result: np.ndarray[Any, Any] = distance.clip(0, 255).astype(np.uint8)
    return result
