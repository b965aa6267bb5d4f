"""Runs a network for super-resolution over an image of any size, tile by tile.

Its output depends on `support` small pixels around each place and no others, so tiles that are read with so many more
on each side, clipped at the image's border where the network's own zero padding applies, give the same result as the
whole image at once: there are no seams.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from irnscale.engine.canvas import Sink, Source
from irnscale.engine.executor import EXTREME, Progress, Region, Warn, are_finite
from irnscale.engine.memory import is_out_of_memory
from irnscale.engine.plan import SMALLEST_TILE, Plan
from irnscale.errors import DeviceError, InputError
from irnscale.networks.network import IMAGE_CHANNELS, SuperResolutionNetwork
from irnscale.sizes import format_memory

CPU_TILE, GPU_TILE = 192, 512
"""Small pixels per side."""

OutOfMemory = Callable[[BaseException, str], DeviceError]


@dataclass(frozen=True)
class TilePlan(Plan):
    """How a network for super-resolution runs over one image."""

    def describe(self) -> str:
        """One line for people."""
        limit = "" if self.limit is None else f" of {format_memory(self.limit)} allowed"
        return (
            f"{self.model} {self.direction} {self.width}x{self.height} on {self.device} in {self.precision}: tiles of "
            f"{self.tile}, each {format_memory(self.tile_bytes)}, pictures {format_memory(self.picture_bytes)}; "
            f"{format_memory(self.total_bytes)}{limit}"
        )


class Enlarging:
    """A network for super-resolution on its device, its convolutions in `dtype`.

    Where a tile comes out not finite in a lower precision, it is computed again in that of the weights.
    """

    def __init__(self, net: SuperResolutionNetwork, dtype: torch.dtype, warn: Warn) -> None:
        self.net: SuperResolutionNetwork = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dtype = dtype
        weight = next(net.parameters())
        self.device, self._own = weight.device, weight.dtype
        self._lowered = None if dtype == self._own else copy.deepcopy(self.net).to(dtype)
        self._warn = warn

    def plan(
        self, width: int, height: int, *, model: str, tile: int | None, max_memory: int | None, pictures: int
    ) -> TilePlan:
        """The largest tiles that keep within `max_memory` bytes; `tile`, where given, is kept as it is.

        width, height: of the large image. pictures: bytes that the images take in the memory that `max_memory` is
        about. Raises DeviceError where nothing fits, naming what would.
        """
        scale = self.net.scale
        usual = tile or (CPU_TILE if self.device.type == "cpu" else GPU_TILE)
        first = TilePlan(
            model=model,
            direction="up",
            width=width,
            height=height,
            scale=scale,
            device=str(self.device),
            precision=str(self.dtype).removeprefix("torch."),
            tile=usual,
            order="tiles",
            band=usual,
            couplings_per_sweep=0,
            trunk="none",
            state_bytes=0,
            window_bytes=0,
            tile_bytes=self._tile_bytes(width // scale, height // scale, usual),
            picture_bytes=pictures,
            limit=max_memory,
        )
        found = first
        while max_memory is not None and found.total_bytes > max_memory:
            smaller = found.tile // 2
            if tile is not None or smaller < SMALLEST_TILE:
                what = f"{width}x{height} does not fit into max_memory={format_memory(max_memory)}"
                remedy = f"it takes at least {format_memory(found.total_bytes, up=True)}"
                raise DeviceError(
                    what, remedy + (f" at tile={tile}" if tile else ""), parameters=("max_memory", "tile")
                )
            size = self._tile_bytes(width // scale, height // scale, smaller)
            found = replace(found, tile=smaller, band=smaller, tile_bytes=size)
        return found

    def _tile_bytes(self, width: int, height: int, tile: int) -> int:
        """Memory of one tile of a small image of this size."""
        halo = 2 * self.net.support
        area = min(width, tile + halo) * min(height, tile + halo)
        features = self.net.channels_alive * self.dtype.itemsize
        results = IMAGE_CHANNELS * self.net.scale**2 * (self.dtype.itemsize + 3 * 4)
        # the rows that tiles are cut from
        return area * (features + results) + 4 * IMAGE_CHANNELS * width * min(height, tile + halo)

    @torch.inference_mode()
    def run(
        self, source: Source, sink: Sink, *, tile: int, fixed: bool, fail: OutOfMemory, progress: Progress | None
    ) -> None:
        """The whole image; fixed: no smaller tiles where memory runs out. fail: makes the error of that."""
        said: set[str] = set()

        def once(text: str) -> None:
            if text not in said:
                said.add(text)
                self._warn(text)

        height, width = source.height, source.width
        whole = Region(0, height, 0, width)
        done = 0
        top = 0
        while top < height:
            bottom = min(height, top + tile)
            try:
                for _, target in Region(top, bottom, 0, width).tiles(tile):
                    self._tile(source, sink, target, whole, once)
                    done += target.positions
                    if progress is not None:
                        progress(min(done, height * width), height * width)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if fixed or tile <= SMALLEST_TILE:
                    raise fail(error, f" at tiles of {tile}") from error
                once(f"out of memory at tiles of {tile}: going on with tiles of {tile // 2}")
                tile //= 2
                continue
            top = bottom

    def _tile(self, source: Source, sink: Sink, target: Region, whole: Region, warn: Warn) -> None:
        halo, scale = self.net.support, self.net.scale
        top, bottom = max(0, target.top - halo), min(whole.bottom, target.bottom + halo)
        left, right = max(0, target.left - halo), min(whole.right, target.right + halo)
        rows = source.read(top, bottom, columns=False, device=self.device)
        x = rows[..., left:right].to(self._own).contiguous(memory_format=torch.channels_last)
        y = self._enlarged(x, warn)
        high, wide = target.bottom - target.top, target.right - target.left
        y = y.narrow(2, (target.top - top) * scale, high * scale).narrow(3, (target.left - left) * scale, wide * scale)
        sink.write(target.top * scale, y, columns=False, across=target.left * scale)

    def _enlarged(self, x: Tensor, warn: Warn) -> Tensor:
        if self._lowered is not None:
            y: Tensor = self._lowered(x)
            if are_finite((y,)):
                return y
            warn("a tile came out not finite and is computed again in float32")
        y = self.net(x)
        if not are_finite((y,)):  # before it is rounded, which makes NaN black
            raise InputError("the network's result is not finite, nothing is written", EXTREME)
        return y
