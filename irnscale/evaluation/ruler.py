"""What is measured on one photograph, by which protocol."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from irnscale.errors import InputError
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.methods import Method, Rescale
from irnscale.evaluation.pictures import Photograph, as_tensor, files_of, load
from irnscale.images.bicubic import bicubic_down
from irnscale.metrics import as_8bit, psnr, ssim

if TYPE_CHECKING:
    from irnscale.evaluation.trip import Trip

LARGEST_PSNR = 100.0
"""What equal pictures read, in dB, as in the field's tables: a mean cannot hold infinity."""


@dataclass(frozen=True)
class Row:
    """One photograph, one method, one codec. HR against the original, LR against the rounded bicubic one.

    PSNR in dB; `bytes` of the stored small picture, `bpp` its bits per pixel of the original; `seconds` for
    both directions. NaN where a picture is too small for the window of SSIM. `detail_*`: HR with the coded layer that
    the small picture carries, which the other scores leave out; NaN where it carries none.
    """

    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    ssim_rgb: float
    lr_psnr_y: float
    lr_ssim_y: float
    lr_psnr_rgb: float
    lr_ssim_rgb: float
    bytes: float
    bpp: float
    seconds: float
    detail_psnr_y: float = math.nan
    detail_ssim_y: float = math.nan


FIELDS = tuple(field.name for field in fields(Row))


@dataclass(frozen=True)
class Ruler:
    """A protocol: how luma is made, and where and how exactly it is computed.

    rounded_luma: luma in whole numbers and gray pictures compared as they are, as the published rows of
    bicubic were made; else the paper's protocol, in which luma is not rounded and gray counts as colour.
    device: where to compute, in float32; None: on the CPU, in float64. crop: pixels cut off every side of HR;
    None: as many as the scale.
    """

    rounded_luma: bool = False
    device: torch.device | None = None
    crop: int | None = None

    @property
    def name(self) -> str:
        """As JSON has it."""
        return "rounded" if self.rounded_luma else "unrounded"

    def compare(self, a: Tensor, b: Tensor, *, crop: int, y_channel: bool, gray: bool) -> tuple[float, float]:
        """(PSNR, SSIM) of two pictures (1, 3, H, W) in [0, 1]; `gray` says that the original is."""
        if self.device is not None:
            a, b = a.to(self.device), b.to(self.device)
        if gray and y_channel and self.rounded_luma:
            a, b = (x.mean(dim=1, keepdim=True) for x in (a, b))
            y_channel = False
        kind = torch.float64 if self.device is None else torch.float32
        ratio = psnr(a, b, crop=crop, y_channel=y_channel, rounded=self.rounded_luma, dtype=kind).item()
        try:
            likeness = ssim(a, b, crop=crop, y_channel=y_channel, rounded=self.rounded_luma, dtype=kind).item()
        except ValueError:  # too small for its window
            likeness = math.nan
        return min(ratio, LARGEST_PSNR), likeness

    def row(self, photograph: Photograph, small: Tensor, restored: Tensor, size: int, seconds: float) -> Row:
        """All scores of a small picture, as it was read back from `size` bytes, and of what was restored from it."""
        hr, gray = photograph.pixels, photograph.gray
        scale = hr.shape[2] // small.shape[2]
        reference = as_8bit(bicubic_down(hr, scale)).float() / 255
        crop = scale if self.crop is None else self.crop
        hr_y = self.compare(restored, hr, crop=crop, y_channel=True, gray=gray)
        hr_rgb = self.compare(restored, hr, crop=crop, y_channel=False, gray=gray)
        lr_y = self.compare(small, reference, crop=0, y_channel=True, gray=gray)
        lr_rgb = self.compare(small, reference, crop=0, y_channel=False, gray=gray)
        bpp = 8 * size / (hr.shape[2] * hr.shape[3])
        return Row(*hr_y, *hr_rgb, *lr_y, *lr_rgb, bytes=size, bpp=bpp, seconds=seconds)

    def trip_row(self, photograph: Photograph, trip: Trip) -> Row:
        """All scores of a file that carries detail; `trip` is of the photograph."""
        small, restored = as_tensor(trip.small), as_tensor(trip.restored)
        plain = restored if trip.plain is None else as_tensor(trip.plain)
        row = self.row(photograph, small, plain, len(trip.stored), trip.seconds)
        scale = photograph.pixels.shape[2] // small.shape[2]
        crop = scale if self.crop is None else self.crop
        options: dict[str, Any] = {"crop": crop, "y_channel": True, "gray": photograph.gray}
        ratio, likeness = self.compare(restored, photograph.pixels, **options)
        return replace(row, detail_psnr_y=ratio, detail_ssim_y=likeness)


@dataclass
class Shrunk:
    """A small picture before it is stored, and the seconds that it took; shared by the codecs."""

    pixels: Tensor
    seconds: float


def shrink(shrink_it: Rescale, photograph: Photograph) -> Shrunk:
    """Run the first direction."""
    started = time.perf_counter()
    pixels = shrink_it(photograph.pixels)
    return Shrunk(pixels, time.perf_counter() - started)


def restore(method: Method, shrunk: Shrunk, codec: Codec, draw: int) -> tuple[Tensor, Tensor, int, float]:
    """Store, read back and run the second direction: (small as read, restored, bytes, seconds of both)."""
    started = time.perf_counter()
    small, size = codec.store(shrunk.pixels)
    restored = method.restore(shrunk.pixels if method.unrounded else small, draw)
    return small, restored, size, shrunk.seconds + time.perf_counter() - started


def measure(
    method: Method,
    photograph: Photograph,
    codec: Codec,
    ruler: Ruler | None = None,
    *,
    shrunk: Shrunk | None = None,
    draw: int = 0,
) -> Row:
    """Shrink, store, restore and compare one photograph; `shrunk` where the first was done already."""
    if method.travel is not None:
        return (ruler or Ruler()).trip_row(photograph, method.travel(photograph.pixels))
    shrunk = shrunk or shrink(method.shrink, photograph)
    return (ruler or Ruler()).row(photograph, *restore(method, shrunk, codec, draw))


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
                made = restore(method, shrink(method.shrink, photograph), Codec(), 0)
                one, other = (asdict(ruler.row(photograph, *made)) for ruler in (exact, fast))
                ratio = max(ratio, *(abs(one[key] - other[key]) for key in FIELDS if "psnr" in key))
                likeness = max(likeness, *(abs(one[key] - other[key]) for key in FIELDS if "ssim" in key))
            number += 1
            break
    return ratio, likeness, number
