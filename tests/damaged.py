"""The packaged photograph, and the same noisy, blurred or through JPEG."""

from __future__ import annotations

import io
from functools import cache
from importlib import resources

import numpy as np
import torch
from PIL import Image, ImageFilter


@cache
def astronaut() -> np.ndarray:
    data = (resources.files("irnscale") / "assets" / "astronaut.png").read_bytes()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.float64)


def noisy(deviation: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, deviation, astronaut().shape)
    return (astronaut() + noise).clip(0, 255).round()


def blurred(radius: float) -> np.ndarray:
    image = Image.fromarray(astronaut().astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(image).astype(np.float64)


def as_jpeg(quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(astronaut().astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).astype(np.float64)


def tensor(rgb255: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rgb255).permute(2, 0, 1)[None].float() / 255


WORSE = {
    "noise": lambda k: noisy((10.0, 15.0, 25.0, 40.0)[k]),  # PIQE takes less for texture
    "blur": lambda k: blurred((0.0, 0.8, 1.6, 3.2)[k]),
    "JPEG": lambda k: as_jpeg((95, 60, 25, 8)[k]),
}
