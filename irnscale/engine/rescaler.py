"""The public way to run a model: `Rescaler`, and `load` that makes one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from irnscale.engine.device import choose_device
from irnscale.engine.executor import Progress, run
from irnscale.engine.precision import choose_precision
from irnscale.errors import DeviceError, InputError, ModelError, UsageError
from irnscale.images.padding import reflected_indices
from irnscale.kernels import quantize
from irnscale.networks import IRN, AssistantFlow
from irnscale.networks.irn import IMAGE_CHANNELS
from irnscale.zoo import Model, combined_digest, compose, find_all, load_assistant, load_network
from irnscale.zoo import assistant as find_assistant

AnyImage = TypeVar("AnyImage", Image.Image, "np.ndarray[Any, Any]", Tensor)

DEFAULT_TILE = 128
"""Positions per side: small enough that a dense block's 140 channels stay in a CPU's last-level cache."""
SMALLEST_TILE = 16


class Rescaler:
    """Shrinks images and restores them, with one network or several composed without rounding in between.

    Images are PIL images (8-bit RGB or L), numpy arrays (H, W, 3) or (N, H, W, 3) uint8 or uint16, or float tensors
    (3, H, W) or (N, 3, H, W) in [0, 1]; the result is of the same kind, rounded to the grid of `depth` bits
    per channel, 8 or 16: by default 8, so that a uint16 array gives a uint8 one unless 16 is asked for.
    Gray images are replicated to three channels and the result is the rounded mean of the channels, which
    costs 4 to 5 dB against passing the same image as RGB. Any H and W: sizes that are not multiples of the
    scale are padded by reflection, and `up(..., size=...)` crops back.
    Nothing is random: z = 0.
    With an `assistant`, which belongs to the one model given, `up` prepares the small image first: for small images
    that `down` did not make.
    Safe to call from several threads.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        assistant: Model | None = None,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
    ) -> None:
        self.models = tuple(models)
        self.assistant = assistant
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        used = [*models, assistant] if assistant else models
        allowed = set.intersection(*(set(m.card.precisions) for m in used))
        if precision == "auto" and str(self.dtype).removeprefix("torch.") not in allowed:
            self.dtype = torch.float32
        self.tile = tile
        self.networks: list[IRN] = []
        for model in models:
            net = load_network(model).to(self.device)
            _narrow(net, self.dtype)
            self.networks.append(net)
        self.flow: AssistantFlow | None = None
        if assistant:
            if [m.card.digest for m in models] != [assistant.card.base_digest]:
                raise ModelError(
                    f"{assistant.card.name}: was trained for {assistant.card.base} ({assistant.card.base_digest}), "
                    f"not for {self.models[0].card.name} ({combined_digest(models)})",
                    "leave the model out",
                )
            self.flow = load_assistant(assistant).to(self.device)
            _narrow(self.flow, self.dtype)
        self.scale = int(np.prod([net.scale for net in self.networks]))

    @property
    def name(self) -> str:
        """Name of the model, or of those composed joined by "+", or of the assistant, as provenance records it."""
        return self.assistant.card.name if self.assistant else "+".join(m.card.name for m in self.models)

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that identify the weights."""
        return combined_digest([self.assistant, *self.models] if self.assistant else self.models)

    @property
    def batches(self) -> bool:
        """Whether several images at once are faster than one after the other: on a GPU."""
        return self.device.type == "cuda"

    @property
    def jpeg_resistant(self) -> bool:
        """Whether LR may go through JPEG."""
        return all(m.card.jpeg_resistant for m in self.models)

    def down(self, image: AnyImage, *, depth: int = 8, progress: Progress | None = None) -> AnyImage:
        """HR -> LR, ceil(H / scale) x ceil(W / scale), rounded to the grid of `depth` bits.

        Raises InputError for a kind, shape or dtype that is not an image, or that cannot hold 16 bits (a PIL
        image), DeviceError when memory runs out.
        """
        _check_depth(image, depth)
        x = _pad(_as_tensor(image), self.scale)
        for net in self.networks:
            x = self._run(net, x, rev=False, progress=progress)[:, :IMAGE_CHANNELS]
        return _like(image, x, depth)

    def up(
        self,
        image: AnyImage,
        *,
        size: tuple[int, int] | None = None,
        depth: int = 8,
        progress: Progress | None = None,
    ) -> AnyImage:
        """LR -> HR, scale times the size, or cropped at the right and bottom to `size` = (width, height).

        Raises InputError as `down` does, and where `size` is not one that `down` makes this LR from.
        """
        _check_depth(image, depth)
        x = _as_tensor(image)
        height, width = x.shape[2:]
        if size is not None:
            for want, have in zip(size, (width, height), strict=True):
                if not 0 <= have * self.scale - want < self.scale:
                    raise InputError(
                        f"a picture of {width} x {height} cannot come from {size[0]} x {size[1]} at x{self.scale}",
                        f"at most {width * self.scale} x {height * self.scale}, and less than {self.scale} below",
                    )
        x = x.to(self.device)
        x = x / 255 if x.dtype == torch.uint8 else x
        if self.flow is not None:
            x = self._run(self.flow, x, rev=False, progress=progress)
        for net in reversed(self.networks):
            z = x.new_zeros(x.shape[0], IMAGE_CHANNELS * (net.scale**2 - 1), *x.shape[2:])
            to_uint8 = net is self.networks[0] and depth == 8 and not isinstance(image, Tensor)
            x = self._run(net, torch.cat((x, z), dim=1), rev=True, to_uint8=to_uint8, progress=progress)
        if size is not None:
            x = x[:, :, : size[1], : size[0]]
        return _like(image, x, depth)

    def _run(
        self,
        net: IRN | AssistantFlow,
        x: Tensor,
        *,
        rev: bool,
        to_uint8: bool = False,
        progress: Progress | None = None,
    ) -> Tensor:
        x = x.to(self.device)
        x = x.contiguous() if x.dtype == torch.uint8 else x.to(torch.float32).contiguous()
        tile = self.tile or DEFAULT_TILE
        while True:
            try:
                y = run(net, x, rev=rev, tile=tile, to_uint8=to_uint8, progress=progress)
                finite = y.dtype == torch.uint8 or bool(torch.isfinite(y).all())
                break
            except FloatingPointError:
                finite = False
                break
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                if self.tile or tile <= SMALLEST_TILE:
                    raise DeviceError(
                        f"out of memory on {self.device} at tiles of {tile}",
                        "use a smaller --tile, or --device cpu",
                    ) from error
                tile //= 2
        if not finite:
            raise InputError(
                "the network's result is not finite, nothing is written",
                "use --precision float32"
                if self.dtype != torch.float32
                else "the model is damaged or the input extreme",
            )
        return y


def _narrow(net: IRN | AssistantFlow, dtype: torch.dtype) -> None:
    """Give the dense blocks their number format; the trunk, with the few weights it may have, stays float32."""
    block: Any
    for block in net.dense_blocks():
        block.to(dtype, memory_format=torch.channels_last)


def _is_out_of_memory(error: Exception) -> bool:
    # torch has no class of its own for the CPU's allocator
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def load(
    model: int | str = 4,
    *,
    jpeg_resistant: bool = False,
    sr: bool = False,
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
) -> Rescaler:
    """A `Rescaler` for a scale (2, 4, "x4"; 8 and 16 compose two models) or for a model by name or file.

    `sr` is for small images that `down` did not make: a scale, whose super-resolution assistant `up` then uses.
    Raises ModelError, DeviceError or UsageError.
    """
    if isinstance(model, str) and model.removeprefix("x").isdigit():
        model = int(model.removeprefix("x"))
    if sr:
        if not isinstance(model, int) or jpeg_resistant:
            raise UsageError("sr goes with a scale alone, such as load(4, sr=True)")
        assistant, base = find_assistant(model)
        return Rescaler([base], assistant=assistant, device=device, precision=precision, tile=tile)
    chosen = compose(model, jpeg_resistant=jpeg_resistant) if isinstance(model, int) else find_all(model)
    return Rescaler(chosen, device=device, precision=precision, tile=tile)


def _as_tensor(image: Any) -> Tensor:
    """Any accepted kind of image as (N, 3, H, W), floating point in [0, 1] or uint8. Raises InputError."""
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
        planes = (image if image.ndim == 4 else image[None]).transpose(0, 3, 1, 2)
        if image.dtype == np.uint8:  # the first Haar level converts while reading
            return torch.from_numpy(np.array(planes, order="C"))  # a copy: the image may not be writable
        return torch.from_numpy(np.ascontiguousarray(planes, dtype=np.float32)).div_(65535)
    raise InputError(f"a {type(image).__name__} is not an image", "give a PIL image, a numpy array or a tensor")


def _pad(x: Tensor, multiple: int) -> Tensor:
    """Reflect (N, C, H, W) at the right and the bottom up to multiples, as `images.padding` defines it."""
    for dim in (2, 3):
        size = x.shape[dim]
        if missing := -size % multiple:
            index = torch.from_numpy(reflected_indices(size, size + missing)).to(x.device)
            x = x.index_select(dim, index)
    return x


def _check_depth(image: Any, depth: int) -> None:
    if depth not in (8, 16):
        raise InputError(f"depth {depth} is neither 8 nor 16")
    if depth == 16 and isinstance(image, Image.Image):
        raise InputError("a PIL image holds 8 bits per channel", "give a uint8 or uint16 array, or a tensor")


def _like(image: AnyImage, x: Tensor, depth: int) -> AnyImage:
    """`x` (N, 3, H, W) on the grid of `depth` bits, or already uint8, as the kind of thing that `image` is."""
    if isinstance(image, Tensor):
        result = quantize(x, depth=depth).to(image.device, image.dtype)
        return result[0] if image.dim() == 3 else result
    whole = x if x.dtype == torch.uint8 else quantize(x, depth=depth, to_integer=True)
    array = np.ascontiguousarray(whole.cpu().permute(0, 2, 3, 1).numpy())
    array = array if isinstance(image, np.ndarray) and image.ndim == 4 else array[0]
    if isinstance(image, Image.Image):
        picture = Image.fromarray(array)
        if image.mode == "L":  # the rounded mean of the channels, as for gray files
            return Image.fromarray(gray_of(array))
        return picture
    return array


def gray_of(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(..., H, W, 3) uint8 or uint16 -> (..., H, W), the rounded mean of the channels."""
    total = pixels.sum(axis=-1, dtype=np.uint32)
    mean: np.ndarray[Any, Any] = ((2 * total + 3) // 6).astype(pixels.dtype)
    return mean
