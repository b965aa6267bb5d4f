"""What a photograph loses on the way down and up again, through the file that `down` would write."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irnscale.engine.pictures import restore, shrink
from irnscale.engine.rescaler import Rescaler
from irnscale.evaluation.crops import SIDE, Crop, data_uri, worst_window
from irnscale.evaluation.ruler import LARGEST_PSNR, Ruler
from irnscale.evaluation.sheet import Column, difference_map, sheet
from irnscale.images.bicubic import bicubic_down, bicubic_up
from irnscale.images.padding import pad_to_multiple
from irnscale.images.picture import Picture
from irnscale.images.read import read_picture
from irnscale.images.write import encode_picture
from irnscale.metrics import as_8bit

GAIN = 8
"""How much brighter than the difference itself the difference map is."""


@dataclass(frozen=True)
class Checked:
    """One photograph. PSNR in dB and SSIM of luma and RGB, the scale's pixels cut off every side.

    bicubic_*: the same of a bicubic small picture, stored losslessly, enlarged by bicubic. lr_*: the small picture as
    read back against the bicubic one. small_bytes: of the small file with its record; original_bytes: of the input.
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
    notes: tuple[str, ...]
    pixels: dict[str, Tensor] = field(repr=False, compare=False)

    def record(self) -> dict[str, Any]:
        """The object of `--json`."""
        values = {key: value for key, value in vars(self).items() if key not in ("pixels", "label", "notes")}
        numbers = {k: None if isinstance(v, float) and v != v else v for k, v in values.items()}
        return {"input": self.label, **numbers, "warnings": list(self.notes)}

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
            Column(f"restored by {self.model}", f"{self.psnr_y:.2f} dB, SSIM {self.ssim_y:.4f}", arrays["restored"]),
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
            self.model: f"{self.psnr_y:.2f} dB, {self.ssim_y:.4f}",
            "bicubic": f"{self.bicubic_psnr_y:.2f} dB, {self.bicubic_ssim_y:.4f}",
            f"{self.model}: small": f"{self.small_bytes} bytes, each pixel enlarged",
        }
        return Crop(self.label, pictures, notes, side)


def check(
    rescaler: Rescaler, data: bytes, label: str, *, format: str, quality: int | None, subsampling: str | None
) -> Checked:
    """Shrink, write, read and restore a picture in memory, and compare. Raises InputError or UsageError."""
    picture = read_picture(data, label)
    started = time.perf_counter()
    small, record = shrink(rescaler, picture, settings="check")
    stored = encode_picture(small, format, quality=quality, subsampling=subsampling, record=record)
    back = read_picture(stored, label)
    restored, _ = restore(rescaler, back, size=(picture.width, picture.height), settings="check")
    seconds = time.perf_counter() - started
    original, scale = _visible(picture), rescaler.scale
    padded, _ = pad_to_multiple(original[0].permute(1, 2, 0).numpy(), scale)
    bicubic_small = as_8bit(bicubic_down(torch.from_numpy(padded).permute(2, 0, 1)[None], scale)).float() / 255
    bicubic = bicubic_up(bicubic_small, scale)[:, :, : picture.height, : picture.width]
    pixels = {"original": original, "small": _visible(back), "restored": _visible(restored), "bicubic": bicubic}
    crop = scale if min(picture.width, picture.height) > 2 * scale else 0

    def scores(a: Tensor, b: Tensor, cut: int, y: bool = True) -> tuple[float, float]:
        return Ruler().compare(a, b, crop=cut, y_channel=y, gray=picture.gray)

    return Checked(
        label,
        picture.width,
        picture.height,
        scale,
        rescaler.name,
        format if quality is None else f"{format} q{quality}",
        *scores(pixels["restored"], original, crop),
        *scores(pixels["restored"], original, crop, False),
        *scores(bicubic, original, crop),
        *scores(pixels["small"], bicubic_small, 0),
        len(data),
        len(stored),
        seconds,
        tuple(picture.notes),
        pixels,
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


def exact(value: float) -> str:
    """A PSNR for people: what is without loss reads so."""
    return "equal" if value >= LARGEST_PSNR else f"{value:.2f}"
