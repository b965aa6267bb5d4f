"""What a picture is stored as, by the real encoders and decoders."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from irnscale.errors import UsageError
from irnscale.images.write import SUBSAMPLINGS, encoder_options
from irnscale.metrics import as_8bit


@dataclass(frozen=True)
class Codec:
    """PNG without a quality, JPEG with one, or what `format` names: png, jpg, webp or avif.

    Written as `irnscale down` writes them, but for AVIF, which is tuned for PSNR. `subsampling` is for jpg and avif
    alone; webp without a quality is lossless. Raises UsageError for what cannot be written.
    """

    quality: int | None = None
    subsampling: str = "4:2:0"
    format: str = ""

    def __post_init__(self) -> None:
        if not self.format:
            object.__setattr__(self, "format", "png" if self.quality is None else "jpg")
        if self.format not in ("png", "jpg", "webp", "avif"):
            raise UsageError(f"unknown format {self.format}", "choose png, jpg, webp or avif")
        if (self.quality is None) != (self.format == "png") and (self.quality is not None or self.format != "webp"):
            raise UsageError(f"{self.format} {'needs a' if self.quality is None else 'knows no'} quality")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"{self.format} quality {self.quality} is not from 1 to 100")
        if self.subsampling not in SUBSAMPLINGS:
            raise UsageError(f"unknown subsampling {self.subsampling}", f"choose one of {', '.join(SUBSAMPLINGS)}")
        if self.format == "avif" and not features.check("avif"):
            raise UsageError("this Pillow cannot write AVIF", "install one that can")

    @property
    def lossless(self) -> bool:
        """Whether what is read back is what was stored."""
        return self.quality is None

    @property
    def name(self) -> str:
        """What tables call it, such as "png" or "jpg q90 4:2:0"."""
        if self.quality is None:
            return "png" if self.format == "png" else "webp lossless"
        chroma = "" if self.format == "webp" else f" {self.subsampling}"
        return f"{self.format} q{self.quality}{chroma}"

    def store(self, picture: Tensor) -> tuple[Tensor, int]:
        """(what is read back, bytes of the file) of (1, 3, H, W) in [0, 1], rounded to 8 bits first."""
        array = as_8bit(picture)[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy()
        options = encoder_options(self.format, self.quality, self.subsampling)
        if self.format == "avif":
            # libavif's own measure is one of looks, which costs 0.7 dB of what is compared here
            options["advanced"] = {"tune": "psnr"}
        file = io.BytesIO()
        kind = "JPEG" if self.format == "jpg" else self.format.upper()
        Image.fromarray(np.ascontiguousarray(array)).save(file, kind, **options)
        size = len(file.getvalue())
        with Image.open(file) as back:
            pixels = torch.from_numpy(np.array(back.convert("RGB")))
        return pixels.permute(2, 0, 1)[None].float() / 255, size
