"""What a photograph loses on the way down and up again, through the file that `down` would write."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irnscale.engine.rescaler import Rescaler
from irnscale.evaluation.contact_sheet import Column, difference_map, sheet
from irnscale.evaluation.crops import SIDE, Crop, data_uri, worst_window
from irnscale.evaluation.ruler import Ruler
from irnscale.evaluation.tables import shown
from irnscale.evaluation.trip import Storage, travel
from irnscale.images.bicubic import bicubic_down, bicubic_up
from irnscale.images.padding import pad_to_multiple
from irnscale.images.picture import Picture
from irnscale.images.read import read_picture
from irnscale.metrics import as_8bit
from irnscale.metrics.scores import LARGEST_PSNR, Chosen, Score, Seen

GAIN = 8
"""How much brighter than the difference itself the difference map is."""


@dataclass(frozen=True, kw_only=True)
class Checked:
    """One photograph. PSNR in dB and SSIM of luma and RGB, the scale's pixels cut off every side.

    Those of the network alone, as of `up --detail none`; detail_*: luma with the coded layer that the small file
    carries, NaN where it carries none. bicubic_*: luma of a bicubic small picture, stored losslessly, enlarged by
    bicubic. lr_*: the small picture as read back against the bicubic one. more: further scores by key, of what `up`
    makes of the file. small_bytes: of the small file with its record; original_bytes: of the input.
    """

    label: str
    width: int
    height: int
    scale: int
    model: str
    stored: str
    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    ssim_rgb: float
    bicubic_psnr_y: float
    bicubic_ssim_y: float
    lr_psnr_y: float
    lr_ssim_y: float
    original_bytes: int
    small_bytes: int
    seconds: float
    detail_psnr_y: float
    detail_ssim_y: float
    more: dict[str, float]
    notes: tuple[str, ...]
    pixels: dict[str, Tensor] = field(repr=False, compare=False)

    def record(self) -> dict[str, Any]:
        """The object of `--json`: the input, its scores (PSNR in dB) and the warnings."""
        values = {key: value for key, value in vars(self).items() if key not in ("pixels", "label", "notes", "more")}
        values |= self.more
        numbers = {k: None if isinstance(v, float) and v != v else v for k, v in values.items()}
        return {"input": self.label, **numbers, "warnings": list(self.notes)}

    def value(self, key: str) -> float:
        """A field or a further score by its key."""
        return self.more[key] if key in self.more else float(getattr(self, key))

    @property
    def best(self) -> tuple[float, float]:
        """Luma PSNR and SSIM of what `up` makes of the file when it is asked for nothing."""
        return (
            (self.psnr_y, self.ssim_y) if math.isnan(self.detail_psnr_y) else (self.detail_psnr_y, self.detail_ssim_y)
        )

    def window(self) -> tuple[int, int, int]:
        """(left, top, side) of the part where the restored picture is farthest from the original."""
        original, restored = self.pixels["original"], self.pixels["restored"]
        side = max(self.scale, min(SIDE // 2, *original.shape[2:]) // self.scale * self.scale)
        if side > min(original.shape[2:]):
            return 0, 0, min(original.shape[2:])
        left, top = worst_window(restored, original, side, self.scale)
        return left, top, side

    def sheet(self) -> bytes:
        """PNG: original, small, restored, bicubic and the difference, with the worst part enlarged."""
        arrays = {name: _array(x) for name, x in self.pixels.items()}
        difference = difference_map(arrays["original"], arrays["restored"], GAIN)
        small = arrays["small"]
        saved = f"{small.shape[1]} x {small.shape[0]}, {self.stored}, {self.small_bytes} bytes"
        columns = [
            Column("original", f"{self.width} x {self.height}, {self.original_bytes} bytes", arrays["original"]),
            Column("small", saved, small, self.scale),
            Column(f"restored by {self.model}", "{:.2f} dB, SSIM {:.4f}".format(*self.best), arrays["restored"]),
            Column("bicubic", f"{self.bicubic_psnr_y:.2f} dB, SSIM {self.bicubic_ssim_y:.4f}", arrays["bicubic"]),
            Column("difference, restored", f"{GAIN} times as bright", difference),
        ]
        return sheet(columns, self.window(), (self.width, self.height))

    def crop(self) -> Crop:
        """The worst part, for the slider of a report."""
        left, top, side = self.window()

        def part(x: Tensor, factor: int = 1) -> str:
            x = x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
            return data_uri(x[:, :, top : top + side, left : left + side])

        names = {"original": "original", self.model: "restored", "bicubic": "bicubic"}
        pictures = {label: part(self.pixels[name]) for label, name in names.items()}
        pictures[f"{self.model}: small"] = part(self.pixels["small"], self.scale)
        notes = {
            "original": f"{self.width} x {self.height}",
            self.model: "{:.2f} dB, {:.4f}".format(*self.best),
            "bicubic": f"{self.bicubic_psnr_y:.2f} dB, {self.bicubic_ssim_y:.4f}",
            f"{self.model}: small": f"{self.small_bytes} bytes, each pixel enlarged",
        }
        return Crop(self.label, pictures, notes, side)


def check(rescaler: Rescaler, data: bytes, label: str, storage: Storage, further: Sequence[Score] = ()) -> Checked:
    """Shrink, write, read and restore a picture in memory, and compare. Raises what `travel` does."""
    picture = read_picture(data, label)
    trip = travel(rescaler, picture, storage)
    original, scale = _visible(picture), rescaler.scale
    padded, _ = pad_to_multiple(original[0].permute(1, 2, 0).numpy(), scale)
    bicubic_small = as_8bit(bicubic_down(torch.from_numpy(padded).permute(2, 0, 1)[None], scale)).float() / 255
    bicubic = bicubic_up(bicubic_small, scale)[:, :, : picture.height, : picture.width]
    pixels = {"original": original, "bicubic": bicubic}
    pixels |= {"small": _visible(trip.small), "restored": _visible(trip.restored)}
    plain = pixels["restored"] if trip.plain is None else _visible(trip.plain)
    crop = scale if min(picture.width, picture.height) > 2 * scale else 0

    ruler, gray = Ruler(), picture.gray
    measured = ruler.fields(plain, original, crop=crop, gray=gray) | ruler.fields(plain, original, crop=crop, rgb=True)
    measured |= ruler.fields(bicubic, original, "bicubic_", crop=crop, gray=gray)
    measured |= ruler.fields(pixels["small"], bicubic_small, "lr_", gray=gray)
    detailed = None if trip.plain is None else pixels["restored"]
    measured |= ruler.fields(detailed, original, "detail_", crop=crop, gray=gray)
    seen = Seen(original, pixels["small"], pixels["restored"], scale)
    return Checked(
        label=label,
        width=picture.width,
        height=picture.height,
        scale=scale,
        model=rescaler.name,
        stored=storage.format if storage.quality is None else f"{storage.format} q{storage.quality}",
        original_bytes=len(data),
        small_bytes=len(trip.stored),
        seconds=trip.seconds,
        more={score.key: score.of(seen) for score in further if score.of is not None},
        notes=tuple(picture.notes),
        pixels=pixels,
        **measured,
    )


def _visible(picture: Picture) -> Tensor:
    """(1, 3, H, W) in [0, 1]; what is transparent is shown on white, as what it hides is nobody's loss."""
    top = float(np.iinfo(picture.pixels.dtype).max)
    pixels = torch.from_numpy(picture.pixels.astype(np.float32) / top)
    if picture.alpha is not None:
        alpha = torch.from_numpy(picture.alpha.astype(np.float32) / top)[..., None]
        pixels = pixels * alpha + (1 - alpha)
    return pixels.permute(2, 0, 1)[None].contiguous()


def _array(x: Tensor) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(as_8bit(x)[0].permute(1, 2, 0).to(torch.uint8).numpy())


COLUMNS = {
    "psnr_y": "PSNR-Y",
    "ssim_y": "SSIM-Y",
    "detail_psnr_y": "with detail",
    "detail_ssim_y": "SSIM-Y",
    "bicubic_psnr_y": "bicubic",
    "lr_psnr_y": "LR PSNR-Y",
}
"""Keys and titles of what a table shows of the protocol."""


def columns_of(chosen: Chosen) -> dict[str, str]:
    """Keys and titles of what a table shows."""
    fields = {key: title for key, title in COLUMNS.items() if chosen.shows(key)}
    return fields | {score.key: score.title for score in chosen.more if score.of is not None}


def exact(value: float) -> str:
    """A PSNR for people: what is without loss reads so."""
    return "equal" if value >= LARGEST_PSNR else shown("psnr", value)
