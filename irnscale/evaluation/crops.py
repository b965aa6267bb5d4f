"""Parts of photographs, where the errors are large, as each method restores them: to be looked at."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.loop import Summary
from irnscale.evaluation.methods import Rescale, baselines
from irnscale.evaluation.pictures import load, set_name
from irnscale.evaluation.ruler import Shrunk, make, shrink
from irnscale.metrics import as_8bit, luma

SIDE = 192


@dataclass(frozen=True)
class Crop:
    """A square part of a photograph. `pictures`: data URIs by label, the original first; `notes`: a line for each."""

    title: str
    pictures: dict[str, str]
    notes: dict[str, str]
    side: int


def data_uri(pixels: Tensor) -> str:
    """(1, 3, H, W) in [0, 1] as lossless WebP in a data URI."""
    array = as_8bit(pixels)[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(file, "WEBP", lossless=True, quality=60)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()


def worst_window(restored: Tensor, original: Tensor, side: int, multiple: int = 1) -> tuple[int, int]:
    """(left, top), multiples of `multiple`, of the square of `side` with the largest squared error of luma.

    Pictures (1, 3, H, W) in [0, 1]; `side` at most H and W.
    """
    error = (luma(as_8bit(restored)) - luma(as_8bit(original))) ** 2
    means = F.avg_pool2d(error, side, stride=multiple)
    place = int(means.argmax())
    top, left = divmod(place, means.shape[3])
    return left * multiple, top * multiple


def chosen_photographs(summary: Summary, number: int) -> list[str]:
    """At most `number` photographs: that which comes out worst, the middle one, the best, then others."""
    names = sorted(summary.rows, key=lambda name: summary.rows[name]["psnr_y"])
    places = [0, len(names) // 2, len(names) - 1, *range(1, len(names))]
    return [names[place] for place in dict.fromkeys(places)][:number]


def crops_of(folder: Path, results: Sequence[Summary], number: int, multiple: int | None = None) -> list[Crop]:
    """Crops of `number` photographs of a set per scale, as every method of `results` restores them.

    The part is the one where bicubic's error is largest, the same for all methods.
    """
    found = []
    for scale in sorted({summary.scale for summary in results}):
        of_scale = [summary for summary in results if summary.scale == scale]
        for name in chosen_photographs(_judge(of_scale), number):
            found.append(_crop(folder, name, of_scale, int(np.lcm(scale, multiple or 1))))
    return found


def _judge(results: Sequence[Summary]) -> Summary:
    """The summary by which photographs are picked: the first model's, or the last method's where there is none."""
    return next((summary for summary in results if summary.method.weights), results[-1])


def _crop(folder: Path, name: str, results: Sequence[Summary], multiple: int) -> Crop:
    scale = results[0].scale
    photograph = load(folder / name, multiple)
    hr = photograph.pixels
    bicubic = baselines(scale)[0]
    side = min(SIDE, *hr.shape[2:]) // scale * scale
    naive = make(bicubic, photograph, Codec()).restored
    left, top = worst_window(naive, hr, side, scale)

    def part(x: Tensor, factor: int = 1) -> str:
        x = x[:, :, top // factor : (top + side) // factor, left // factor : (left + side) // factor]
        return data_uri(x.repeat_interleave(factor, 2).repeat_interleave(factor, 3))

    pictures, notes = {"original": part(hr)}, {"original": f"{hr.shape[3]} x {hr.shape[2]}"}
    shrunk: dict[Rescale, Shrunk] = {}
    for summary in results:
        method = summary.method
        row = summary.rows[name]
        if method.travel is None and method.shrink not in shrunk:
            shrunk[method.shrink] = shrink(method.shrink, photograph)
        made = make(method, photograph, summary.codec, shrunk=shrunk.get(method.shrink))
        parts = ("psnr_y", "ssim_y") if made.detailed is None else ("detail_psnr_y", "detail_ssim_y")
        ratio, likeness = (row[key] for key in parts)
        restored = made.restored if made.detailed is None else made.detailed
        plain = summary.codec == Codec() and not method.travel
        label = method.name if plain else f"{method.name}, {summary.stored}"
        pictures[label] = part(restored)
        notes[label] = f"{ratio:.2f} dB, {likeness:.4f}; {made.size} bytes"
        if method.weights and method.task == "rescaling" and plain and method.draws == 1:
            pictures[f"{method.name}: small"] = part(made.small, scale)
            notes[f"{method.name}: small"] = f"{made.small.shape[3]} x {made.small.shape[2]}, each pixel enlarged"
    return Crop(f"{set_name(folder)} x{scale}, {name}", pictures, notes, side)
