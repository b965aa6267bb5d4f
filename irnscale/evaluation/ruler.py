"""What is measured on one photograph, by which protocol."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from irnscale.errors import InputError
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.methods import Made, Method, Rescale
from irnscale.evaluation.pictures import Photograph, files_of, load
from irnscale.images.bicubic import bicubic_down
from irnscale.metrics import as_8bit, psnr, ssim
from irnscale.metrics.scores import LARGEST_PSNR, Score, Seen

Row = dict[str, float]
"""One photograph, one method, one codec: the fields of `FIELDS`, and the keys of the scores that were asked for."""
FIELDS = (
    "psnr_y",
    "ssim_y",
    "psnr_rgb",
    "ssim_rgb",
    "lr_psnr_y",
    "lr_ssim_y",
    "lr_psnr_rgb",
    "lr_ssim_rgb",
    "bytes",
    "bpp",
    "seconds",
    "detail_psnr_y",
    "detail_ssim_y",
)
"""What every row has: HR against the original, LR against the rounded bicubic one.

PSNR in dB; `bytes` of the stored small picture, `bpp` its bits per pixel of the original; `seconds` for both ways.
NaN where a picture is too small for the window of SSIM. `detail_*`: HR with the coded layer that the small picture
carries, which the other scores leave out; NaN where it carries none.
"""


@dataclass(frozen=True)
class Ruler:
    """A protocol: how luma is made, and where and how exactly it is computed.

    rounded_luma: luma in whole numbers and gray pictures compared as they are, as the published rows of
    bicubic were made; else the paper's protocol, in which luma is not rounded and gray counts as colour.
    device: where to compute, in float32; None: on the CPU, in float64. crop: pixels cut off every side of HR;
    None: as many as the scale. scores: what is measured besides, on the CPU.
    """

    rounded_luma: bool = False
    device: torch.device | None = None
    crop: int | None = None
    scores: tuple[Score, ...] = ()

    @property
    def name(self) -> str:
        """How JSON says it: "rounded" or "unrounded" luma."""
        return "rounded" if self.rounded_luma else "unrounded"

    def compare(self, a: Tensor, b: Tensor, *, crop: int, y_channel: bool, gray: bool) -> tuple[float, float]:
        """(PSNR, SSIM) of two pictures (1, 3, H, W) in [0, 1]; `gray` says that the original is."""
        if self.device is not None:
            a, b = a.to(self.device), b.to(self.device)
        if gray and y_channel and self.rounded_luma:
            a, b = (x.mean(dim=1, keepdim=True) for x in (a, b))
            y_channel = False
        kind = torch.float64 if self.device is None else torch.float32
        values = []
        for score in (psnr, ssim):
            try:
                value = score(a, b, crop=crop, y_channel=y_channel, rounded=self.rounded_luma, dtype=kind).item()
            except ValueError:  # nothing is left of it, or less than a window
                value = math.nan
            values.append(value)
        return min(values[0], LARGEST_PSNR), values[1]

    def fields(
        self, a: Tensor | None, b: Tensor, prefix: str = "", *, crop: int = 0, rgb: bool = False, gray: bool = False
    ) -> Row:
        """`compare` by the names of scores, such as "lr_psnr_y" and "lr_ssim_y" for the prefix "lr_".

        a: NaN for both where it is None. rgb: of RGB rather than of luma. gray: as in `compare`.
        """
        kind, pair = "rgb" if rgb else "y", (math.nan, math.nan)
        if a is not None:
            pair = self.compare(a, b, crop=crop, y_channel=not rgb, gray=gray)
        return {f"{prefix}psnr_{kind}": pair[0], f"{prefix}ssim_{kind}": pair[1]}

    def row(self, photograph: Photograph, made: Made) -> Row:
        """The scores of a photograph and what was made of it, by the names in `FIELDS`."""
        hr, gray = photograph.pixels, photograph.gray
        scale = hr.shape[2] // made.small.shape[2]
        reference = as_8bit(bicubic_down(hr, scale)).float() / 255
        crop = scale if self.crop is None else self.crop
        row = self.fields(made.restored, hr, crop=crop, gray=gray)
        row |= self.fields(made.restored, hr, crop=crop, rgb=True)
        row |= self.fields(made.small, reference, "lr_", gray=gray)
        row |= self.fields(made.small, reference, "lr_", rgb=True)
        row |= {"bytes": made.size, "bpp": 8 * made.size / (hr.shape[2] * hr.shape[3]), "seconds": made.seconds}
        row |= self.fields(made.detailed, hr, "detail_", crop=crop, gray=gray)
        return {field: row[field] for field in FIELDS}


@dataclass
class Shrunk:
    """A small picture before it is stored, and the seconds that it took; shared by the codecs."""

    pixels: Tensor
    seconds: float


def shrink(shrink_it: Rescale, photograph: Photograph) -> Shrunk:
    """The small picture of a photograph, unrounded, and the seconds that it took."""
    started = time.perf_counter()
    pixels = shrink_it(photograph.pixels)
    return Shrunk(pixels, time.perf_counter() - started)


def make(method: Method, photograph: Photograph, codec: Codec, *, shrunk: Shrunk | None = None, draw: int = 0) -> Made:
    """Shrink, store, read back and restore one photograph; `shrunk` where the first was done already."""
    if method.travel is not None:
        return method.travel(photograph.pixels)
    shrunk = shrunk or shrink(method.shrink, photograph)
    started = time.perf_counter()
    small, size = codec.store(shrunk.pixels)
    restored = method.restore(shrunk.pixels if method.unrounded else small, draw)
    return Made(small, restored, size, shrunk.seconds + time.perf_counter() - started)


def score(one: Score, photograph: Photograph, made: Made) -> float:
    """A score that is about one draw."""
    if one.of is None:
        return math.nan
    hr = photograph.pixels
    small, restored = (as_8bit(x.cpu()) / 255 for x in (made.small, made.restored))
    return one.of(Seen(hr, small, restored, hr.shape[2] // small.shape[2]))


def compare_rulers(
    folders: Sequence[Path], methods: Sequence[Method], fast: Ruler, multiple: int | None = None
) -> tuple[float, float, int]:
    """How far `fast` is from float64 on the CPU: (dB, SSIM, photographs), the largest over the first of each set."""
    exact, ratio, likeness, number = Ruler(fast.rounded_luma), 0.0, 0.0, 0
    for folder in folders:
        for path in files_of(folder):
            try:
                photographs = {m.scale: load(path, math.lcm(m.scale, multiple or 1)) for m in methods}
            except InputError:
                continue
            for method in methods:
                photograph = photographs[method.scale]
                made = make(method, photograph, Codec())
                one, other = (ruler.row(photograph, made) for ruler in (exact, fast))
                ratio = max(ratio, *(abs(one[key] - other[key]) for key in FIELDS if "psnr" in key))
                likeness = max(likeness, *(abs(one[key] - other[key]) for key in FIELDS if "ssim" in key))
            number += 1
            break
    return ratio, likeness, number
