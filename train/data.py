"""Photographs in memory and random aligned crops of them, deterministic from seed and step."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from irnscale.errors import InputError
from irnscale.images.bicubic import bicubic_down

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
# What Pillow raises on damaged files.
UNREADABLE = (OSError, ValueError, SyntaxError, IndexError, struct.error, Image.DecompressionBombError)


def image_files(sources: list[Path]) -> Iterator[tuple[str, bytes | Path]]:
    """(name, file) of every image in folders (recursively), .tar archives and single files, sorted.

    Raises InputError for what does not exist or is no archive.
    """
    for source in sources:
        if source.suffix.lower() == ".tar" and source.is_file():
            try:
                with tarfile.open(source) as archive:
                    for member in sorted(archive.getmembers(), key=lambda m: m.name):
                        if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES:
                            stream = archive.extractfile(member)
                            assert stream is not None
                            yield f"{source.name}/{member.name}", stream.read()
            except (OSError, tarfile.TarError) as error:
                raise InputError(f"{source}: cannot be read as a .tar archive: {error}") from error
        elif source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.suffix.lower() == ".tar" and path.is_file():
                    yield from image_files([path])
                elif path.suffix.lower() in SUFFIXES and path.is_file():
                    yield str(path), path
        elif source.is_file():
            yield str(source), source
        else:
            raise InputError(f"{source}: no such file or folder")


def decode(item: tuple[str, bytes | Path]) -> Tensor | str:
    """(3, H, W) uint8, or one line that says why the image cannot be read."""
    name, file = item
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            if image.mode.startswith(("I", "F")):  # Pillow would clip them at 255
                return f"{name}: more than 8 bits per channel"
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
    except UnidentifiedImageError:
        return f"{name}: not an image"
    except (
        OSError,
        ValueError,
        SyntaxError,
        IndexError,
        struct.error,
        Image.DecompressionBombError,
    ) as error:
        return f"{name}: {error}"


class Photographs:
    """8-bit photographs and their bicubic LR, kept on `device`; `batch` cuts the training crops.

    The LR reference is the bicubic of the *full* image in float, cropped on the same grid, so that it
    has no border effects. Images smaller than the crop are skipped and counted (`too_small`), unreadable
    ones listed (`unreadable`). Raises InputError where nothing is left.
    """

    def __init__(self, sources: list[Path], *, scale: int, crop: int, device: torch.device | str = "cpu") -> None:
        self.scale, self.crop = scale, crop
        self.hr: list[Tensor] = []
        self.lr: list[Tensor] = []
        self.too_small = 0
        self.unreadable: list[str] = []
        with ThreadPoolExecutor(4) as pool:
            for image in pool.map(decode, list(image_files(sources))):
                if isinstance(image, str):
                    self.unreadable.append(image)
                    continue
                height, width = (n - n % scale for n in image.shape[1:])
                if min(height, width) < crop:
                    self.too_small += 1
                    continue
                hr = image[:, :height, :width].contiguous().to(device)
                self.hr.append(hr)
                self.lr.append(bicubic_down(hr[None].float() / 255, scale)[0])
        if not self.hr:
            raise InputError(
                f"no photographs of at least {crop} x {crop} pixels in {', '.join(map(str, sources))}",
                f"{self.too_small} too small, {len(self.unreadable)} unreadable",
            )

    def __len__(self) -> int:
        return len(self.hr)

    def batch(self, size: int, *, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """HR (size, 3, crop, crop) and LR (size, 3, crop/s, crop/s) in [0, 1], from (seed, step) alone.

        Each is a random crop on the LR grid of a random photograph, flipped and transposed at random.
        """
        rng = np.random.default_rng((seed, step))
        hr: list[Tensor] = []
        lr: list[Tensor] = []
        small = self.crop // self.scale
        for index in rng.integers(len(self.hr), size=size):
            image, reference = self.hr[index], self.lr[index]
            top = int(rng.integers(reference.shape[1] - small + 1))
            left = int(rng.integers(reference.shape[2] - small + 1))
            flips = [axis for axis, flip in zip((1, 2), rng.integers(2, size=2), strict=True) if flip]
            transpose = bool(rng.integers(2))
            for source, target, unit, side in (
                (image, hr, self.scale, self.crop),
                (reference, lr, 1, small),
            ):
                y, x = top * unit, left * unit
                patch = source[:, y : y + side, x : x + side].flip(flips)
                target.append(patch.transpose(1, 2) if transpose else patch)
        return torch.stack(hr).float() / 255, torch.stack(lr)
