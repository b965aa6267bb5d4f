"""How scores can be cheated: pictures that they take for good and that nobody would (the dissertation's sections 4.2.2
and 4.2.3, tables 4.4 and 4.5)."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from irnscale.errors import InputError
from irnscale.evaluation.pictures import files_of, load
from irnscale.images.bicubic import bicubic_down
from irnscale.metrics import LUMA_WEIGHTS, as_8bit, psnr, ssim
from irnscale.metrics.niqe import house
from irnscale.metrics.piqe import piqe
from irnscale.metrics.scores import LARGEST_PSNR

SAME_LUMA = (15, -9, 7)
"""A change of R, G and B in whole levels that leaves luma as it is: 65.481 R + 128.553 G + 24.966 B is 0."""
Scores = dict[str, float]


@dataclass(frozen=True)
class Cheat:
    """A way to make a picture, and the means of its scores over the photographs."""

    name: str
    scores: Scores


def other_colours(rgb255: Tensor) -> Tensor:
    """(1, 3, H, W) whole levels in 0..255 -> a picture of the same luma, exactly, and colours as far off as fit.

    Every pixel is moved by the largest multiple of SAME_LUMA, or of its negative, that stays in 0..255: the sign that
    goes farther over the whole picture.
    """
    step = torch.tensor(SAME_LUMA, dtype=rgb255.dtype).view(1, 3, 1, 1)
    moved = []
    for sign in (1, -1):
        change = sign * step
        room = torch.where(change > 0, 255 - rgb255, rgb255)
        count = torch.div(room, change.abs(), rounding_mode="floor").amin(dim=1, keepdim=True)
        moved.append((count.sum(), rgb255 + count * change))
    return max(moved, key=lambda pair: float(pair[0]))[1]


def gray(rgb255: Tensor) -> Tensor:
    """The picture without its colours, of the same luma to within half a level."""
    weights = torch.tensor(LUMA_WEIGHTS, dtype=rgb255.dtype).view(1, 3, 1, 1)
    return ((rgb255 * weights).sum(1, keepdim=True) / 219).round().expand_as(rgb255)


def luma_cheats(photographs: Sequence[Tensor]) -> list[Cheat]:
    """PSNR and SSIM, of luma and of RGB, of the two pictures above against the photographs, (1, 3, H, W) in [0, 1]."""
    makers: dict[str, Callable[[Tensor], Tensor]] = {"equal luma, other colours": other_colours, "gray": gray}
    found = []
    for name, make in makers.items():
        rows = []
        for photograph in photographs:
            made, truth = make(as_8bit(photograph)) / 255, photograph.double()
            row = {}
            for suffix, y in (("y", True), ("rgb", False)):
                row[f"psnr_{suffix}"] = min(float(psnr(made, truth, y_channel=y)), LARGEST_PSNR)
                row[f"ssim_{suffix}"] = float(ssim(made, truth, y_channel=y))
            rows.append(row)
        found.append(Cheat(name, _means(rows)))
    return found


def small_cheats(
    photographs: Sequence[Tensor], scale: int, shrink: dict[str, Callable[[Tensor], Tensor]] | None = None
) -> list[Cheat]:
    """Scores of small pictures without a reference, NIQE (house) and PIQE, beside PSNR against bicubic.

    Rows: bicubic; each of `shrink`, (1, 3, H, W) -> (1, 3, H/s, W/s); every s-th pixel; and, for every photograph, the
    bicubic small picture of *another* one, of those the one with the best NIQE. Photographs of one size, in [0, 1].
    """
    bicubics = [as_8bit(bicubic_down(x, scale)) / 255 for x in photographs]
    rated = [(house().distance(_levels(x)), k) for k, x in enumerate(bicubics)]
    best = sorted(pair for pair in rated if not math.isnan(pair[0]))
    if len(best) < 2:
        what = "NIQE needs small pictures of at least 96 pixels a side, two of them"
        raise InputError(what, "take a smaller `scale`", parameters=("scale",))
    made: dict[str, list[Tensor]] = {"bicubic": bicubics}
    for name, reduce in (shrink or {}).items():
        made[name] = [as_8bit(reduce(x)) / 255 for x in photographs]
    made["every pixel of a grid"] = [x[:, :, ::scale, ::scale] for x in photographs]
    made["another photograph"] = [
        bicubics[next(other for _, other in best if other != own)] for own in range(len(photographs))
    ]
    found = []
    for name, pictures in made.items():
        rows = [
            {
                "lr_psnr_y": min(float(psnr(x, truth)), LARGEST_PSNR),
                "niqe_house": house().distance(_levels(x)),
                "piqe": piqe(_levels(x)),
            }
            for x, truth in zip(pictures, bicubics, strict=True)
        ]
        found.append(Cheat(name, _means(rows)))
    return found


def _means(rows: Sequence[Scores]) -> Scores:
    """NaN, where a score has no value, does not count."""
    found = {}
    for key in rows[0]:
        values = [row[key] for row in rows if not math.isnan(row[key])]
        found[key] = statistics.fmean(values) if values else math.nan
    return found


def _levels(x: Tensor) -> np.ndarray:
    return np.asarray(as_8bit(x)[0].permute(1, 2, 0).numpy())


def of_one_size(folder: Path, limit: int | None, scale: int, say: Callable[[str], None]) -> list[Tensor]:
    """The photographs of a folder, cut to the middle of the largest size that all have, a multiple of `scale`.

    Raises InputError where fewer than two can be read.
    """
    found = []
    for path in files_of(folder)[:limit]:
        try:
            found.append(load(path, scale).pixels)
        except InputError as error:
            say(f"left out: {error.line}")
    if len(found) < 2:
        raise InputError(f"{folder}: fewer than two photographs", "give a folder of more")
    sides = [min(x.shape[axis] for x in found) for axis in (2, 3)]
    sides = [side - side % scale for side in sides]
    cut = []
    for x in found:
        top, left = ((x.shape[axis] - side) // 2 for axis, side in zip((2, 3), sides, strict=True))
        cut.append(x[:, :, top : top + sides[0], left : left + sides[1]].contiguous())
    return cut


def table(cheats: Sequence[Cheat], titles: dict[str, str]) -> list[list[str]]:
    """A head and a line per cheat, for `columns.aligned`."""
    lines = [["", *titles.values()]]
    for cheat in cheats:
        cells = []
        for key in titles:
            value = cheat.scores[key]
            least = "≥ " if "psnr" in key and value >= LARGEST_PSNR else ""
            cells.append("-" if math.isnan(value) else f"{least}{value:.{4 if 'ssim' in key else 2}f}")
        lines.append([cheat.name, *cells])
    return lines


LUMA_TITLES = {"psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y", "psnr_rgb": "PSNR-RGB", "ssim_rgb": "SSIM-RGB"}
SMALL_TITLES = {"lr_psnr_y": "LR PSNR-Y", "niqe_house": "LR NIQE (house)", "piqe": "LR PIQE"}
