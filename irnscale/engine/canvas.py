"""Images in and out of the network a few rows at a time, so that no second copy of the picture is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from irnscale.engine.cuda import Upload
from irnscale.errors import InputError
from irnscale.images.padding import reflected_indices
from irnscale.kernels import quantize

Array = npt.NDArray[Any]


class Source:
    """An image of any accepted kind as (N, 3, H, W) in [0, 1], padded at the right and the bottom by reflection."""

    def __init__(self, image: Any, multiple: int = 1) -> None:
        """Raises InputError for what is not an image."""
        self._pixels = _checked(image)
        self._upload: Upload | None = None
        if isinstance(self._pixels, Tensor):
            n, _, height, width = self._pixels.shape
        else:
            n, height, width, _ = self._pixels.shape
        self.samples, self._sides = n, (height, width)
        self.height, self.width = (-(-side // multiple) * multiple for side in (height, width))

    @property
    def bytes_per_pixel(self) -> float:
        """Bytes that a pixel of the image takes in memory."""
        return 3.0 * self._pixels.itemsize

    def read(self, first: int, last: int, *, columns: bool, device: torch.device, levels: bool = False) -> Tensor:
        """Rows (or columns) [first, last) on the device: (N, 3, rows, W), float32, or the dtype of a tensor image.

        levels: 8-bit pixels stay grey levels, uint8, for a Haar transform that reads them itself.
        """
        pixels = self._pixels
        axis = (3 if columns else 2) if isinstance(pixels, Tensor) else (2 if columns else 1)
        pixels = _padded(pixels, axis, first, last, self._sides[columns])
        across = self._sides[not columns]
        total = self.height if columns else self.width
        if total > across:
            pixels = _padded(pixels, (5 if isinstance(pixels, Tensor) else 3) - axis, 0, total, across)
        if isinstance(pixels, Tensor):
            return self._to(pixels, device)
        top = float(np.iinfo(pixels.dtype).max)
        if pixels.dtype == np.uint8:
            part = self._to(torch.from_numpy(np.array(pixels)), device).permute(0, 3, 1, 2)
            return part if levels else part.to(torch.float32).div_(top)
        # torch has little arithmetic for uint16
        return self._to(torch.from_numpy(pixels.astype(np.float32)), device).permute(0, 3, 1, 2).div_(top)

    def _to(self, x: Tensor, device: torch.device) -> Tensor:
        if device.type != "cuda" or x.device.type != "cpu":
            return x.to(device)
        if self._upload is None:
            self._upload = Upload(device)
        return self._upload(x)


class Sink:
    """The result, of the kind that the given image is, on the grid of `depth` bits, written a few rows at a time."""

    def __init__(self, image: Any, samples: int, height: int, width: int, depth: int) -> None:
        """Raises InputError for a depth that is neither 8 nor 16, or that a PIL image cannot hold."""
        if depth not in (8, 16):
            raise InputError(f"depth {depth} is neither 8 nor 16")
        if depth == 16 and isinstance(image, Image.Image):
            raise InputError("a PIL image holds 8 bits per channel", "give a uint8 or uint16 array, or a tensor")
        self._image, self._depth = image, depth
        self._sides = height, width
        self._result: Tensor | Array
        if isinstance(image, Tensor):
            self._result = torch.empty((samples, 3, height, width), dtype=image.dtype, device=image.device)
        else:
            self._result = np.empty((samples, height, width, 3), np.uint8 if depth == 8 else np.uint16)

    @property
    def bytes_per_pixel(self) -> float:
        """Bytes that a pixel of the result takes in memory."""
        return 3.0 * self._result.itemsize

    @property
    def takes_levels(self) -> bool:
        """Whether `write` may be given grey levels, uint8, rather than values in [0, 1]."""
        return self._depth == 8 and not isinstance(self._result, Tensor)

    def write(self, first: int, rows: Tensor, *, columns: bool, across: int = 0) -> None:
        """Rows (or columns) from `first` on, (N, 3, rows, W); what is beyond the size of the result is left out.

        across: where they begin in the other direction.
        """
        height, width = self._sides
        height, width = (height - across, width) if columns else (height, width - across)
        rows = rows[:, :, : height - first, :width] if not columns else rows[:, :, :height, : width - first]
        if not rows.numel():
            return
        if isinstance(self._result, Tensor):
            axis = 3 if columns else 2
            place = self._result.narrow(axis, first, rows.shape[axis])
            place.narrow(5 - axis, across, rows.shape[5 - axis]).copy_(quantize(rows, depth=self._depth))
            return
        levels = rows if rows.dtype == torch.uint8 else quantize(rows, depth=self._depth, to_integer=True)
        whole = levels.permute(0, 2, 3, 1).cpu().numpy()
        y, x = (across, first) if columns else (first, across)
        self._result[:, y : y + whole.shape[1], x : x + whole.shape[2]] = whole

    def finish(self) -> Any:
        """What was written, as the kind of image that was given: PIL image, array or tensor, batch or single."""
        result = self._result
        if isinstance(result, Tensor):
            return result[0] if self._image.dim() == 3 else result
        if isinstance(self._image, np.ndarray) and self._image.ndim == 4:
            return result
        if isinstance(self._image, Image.Image):
            # gray as for gray files: the rounded mean of the channels
            return Image.fromarray(gray_of(result[0]) if self._image.mode == "L" else result[0])
        return result[0]


def _padded(pixels: Any, axis: int, first: int, last: int, size: int) -> Any:
    """[first, last) along an axis of `size`, reflected beyond its end."""
    if last <= size:
        if isinstance(pixels, Tensor):
            return pixels.narrow(axis, first, last - first)
        return pixels[(slice(None),) * axis + (slice(first, last),)]
    index = reflected_indices(size, last)[first:]
    if isinstance(pixels, Tensor):
        return pixels.index_select(axis, torch.from_numpy(index).to(pixels.device))
    return np.take(pixels, index, axis=axis)


def _checked(image: Any) -> Tensor | Array:
    """A floating (N, 3, H, W) tensor, or a (N, H, W, 3) array of uint8 or uint16. Raises InputError."""
    if isinstance(image, Image.Image):
        if image.mode not in ("RGB", "L"):
            raise InputError(f"a PIL image of mode {image.mode} is not supported", 'convert it with .convert("RGB")')
        image = np.asarray(image.convert("RGB"))
    if isinstance(image, Tensor):
        x = image.unsqueeze(0) if image.dim() == 3 else image
        if x.dim() != 4 or x.shape[1] != 3 or not x.is_floating_point() or 0 in x.shape:
            raise InputError(
                f"a tensor must be (3, H, W) or (N, 3, H, W) floating point in [0, 1], got "
                f"{tuple(image.shape)} {image.dtype}"
            )
        return x
    if isinstance(image, np.ndarray):
        sound = image.ndim in (3, 4) and image.shape[-1] == 3 and 0 not in image.shape
        if not sound or image.dtype not in (np.uint8, np.uint16):
            raise InputError(
                f"an array must be (H, W, 3) or (N, H, W, 3) uint8 or uint16, got {image.shape} {image.dtype}"
            )
        return image if image.ndim == 4 else image[None]
    raise InputError(f"a {type(image).__name__} is not an image", "give a PIL image, a numpy array or a tensor")


def gray_of(pixels: Array) -> Array:
    """(..., H, W, 3) uint8 or uint16 -> (..., H, W), the rounded mean of the channels."""
    total = pixels.sum(axis=-1, dtype=np.uint32)
    mean: Array = ((2 * total + 3) // 6).astype(pixels.dtype)
    return mean
