"""What a format makes of samples."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from irnscale.images.picture import Picture
from irnscale.images.pixels import Pixels
from irnscale.images.write import encode_picture


def through_format(samples: Pixels, format: str, *, quality: int | None, subsampling: str | None) -> Pixels:
    """What is read back of (h, w, C) uint8 samples that were written so; C 1 or 3."""
    pixels = samples if samples.shape[2] == 3 else np.repeat(samples, 3, axis=2)
    gray = samples.shape[2] == 1
    picture = Picture(pixels, None, gray, False, 8, None, None, None, format, "")
    data = encode_picture(picture, format, quality=quality, subsampling=subsampling)
    with Image.open(io.BytesIO(data)) as image:
        back: Pixels = np.asarray(image.convert("RGB"))
    return back[..., :1] if gray else back
