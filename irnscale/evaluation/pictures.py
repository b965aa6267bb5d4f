"""The photographs of a test set, as the field crops them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from irnscale.errors import InputError
from irnscale.images.picture import Picture
from irnscale.images.read import read_picture

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".ppm"))


@dataclass(frozen=True)
class Photograph:
    """A test picture: (1, 3, H, W) float32 in [0, 1], H and W multiples of what was asked for."""

    name: str
    digest: str  # sha256 of the file
    pixels: Tensor
    gray: bool
    multiple: int


def as_tensor(picture: Picture) -> Tensor:
    """The colours of a picture of 8 bits: (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(picture.pixels).permute(2, 0, 1)[None].float() / 255


def set_name(folder: Path) -> str:
    """What tables call a set: its folder's own name, also where that is given as "." or ends in ".."."""
    return Path(os.path.abspath(folder)).name or str(folder)  # noqa: PTH100 - a link keeps its name


def files_of(folder: Path) -> list[Path]:
    """The picture files directly in `folder`, sorted by name. Raises InputError where there is none."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder", "give a folder of test photographs")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    if not found:
        raise InputError(f"{folder}: holds no pictures", "give a folder of test photographs")
    return found


def load(path: Path, multiple: int) -> Photograph:
    """Read a photograph; the right and the bottom are cropped to multiples of `multiple`.

    Gray pictures are repeated to three channels, as the field's loaders do. Raises InputError for what cannot
    be read, has transparency or is smaller than the multiple.
    """
    picture = read_picture(path)
    if picture.alpha is not None:
        raise InputError(f"{path}: has transparency, which no test protocol knows", "flatten it first")
    height, width = (side - side % multiple for side in (picture.height, picture.width))
    if not height or not width:
        raise InputError(f"{path}: is smaller than {multiple} pixels on a side", "leave it out")
    top = 255.0 if picture.depth == 8 else 65535.0
    pixels = torch.from_numpy(picture.pixels[:height, :width].astype("float32") / top)
    whole = pixels.permute(2, 0, 1)[None].contiguous()
    return Photograph(path.name, picture.source_digest, whole, picture.gray, multiple)
