"""Runs a network for super-resolution over an image of any size, tile by tile.

Its output depends on `support` small pixels around each place and no others, so tiles that are read with so many more
on each side, clipped at the image's border where the network's own zero padding applies, give the same result as the
whole image at once: there are no seams. One that draws samples gets the noise of each tile's place, so it draws the
same in any tiles, and all samples of a tile share a pass of its encoder.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from irnscale.engine.canvas import Sink, Source
from irnscale.engine.executor import EXTREME, Progress, Region, Warn, are_finite
from irnscale.engine.memory import is_out_of_memory
from irnscale.engine.plan import SMALLEST_TILE, Plan
from irnscale.errors import DeviceError, InputError
from irnscale.networks.network import IMAGE_CHANNELS, SamplingNetwork, SuperResolutionNetwork
from irnscale.sizes import format_memory

CPU_TILE, GPU_TILE = 192, 512
"""Small pixels per side."""
CPU_BYTES, GPU_BYTES = 3 * 2**30, 12 * 2**30
"""What a tile may take where nothing is said, of a network whose tiles overlap by more than they are wide otherwise."""

OutOfMemory = Callable[[BaseException, str], DeviceError]


@dataclass(frozen=True)
class Sampling:
    """What is drawn: one picture for each seed, from noise of standard deviation `temperature`."""

    temperature: float
    seeds: Sequence[int]


@dataclass(frozen=True)
class TilePlan(Plan):
    """How a network for super-resolution runs over one image."""

    def describe(self) -> str:
        """One line for people: model, size, device, precision, tiles and bytes."""
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
        self._lowered = None if dtype == self._own else _lowered(self.net, dtype)
        self._warn = warn

    @property
    def samples(self) -> bool:
        """Whether it draws a picture for each seed."""
        return isinstance(self.net, SamplingNetwork)

    def plan(
        self,
        width: int,
        height: int,
        *,
        model: str,
        tile: int | None,
        max_memory: int | None,
        pictures: int,
        draws: int = 1,
    ) -> TilePlan:
        """The largest tiles that keep within `max_memory` bytes; `tile`, where given, is kept as it is.

        width, height: of the large image. pictures: bytes that the images take in the memory that `max_memory` is
        about. draws: how many samples there are. Raises DeviceError where nothing fits, naming what would.
        """
        scale = self.net.scale
        usual = tile or self._usual_tile(width // scale, height // scale, draws)
        first = TilePlan(
            model=model,
            direction="up",
            width=width,
            height=height,
            scale=scale,
            device=str(self.device),
            precision=str(self.dtype).removeprefix("torch."),
            tile=usual,
            at_once=1,
            order="tiles",
            band=usual,
            couplings_per_sweep=0,
            trunk="none",
            state_bytes=0,
            window_bytes=0,
            tile_bytes=self._tile_bytes(width // scale, height // scale, usual, draws),
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
            size = self._tile_bytes(width // scale, height // scale, smaller, draws)
            found = replace(found, tile=smaller, band=smaller, tile_bytes=size)
        return found

    def _usual_tile(self, width: int, height: int, draws: int) -> int:
        """A side of tiles for a small image of this size where nothing is said.

        Where the overlap is wider than a usual tile, larger ones save most of the work: the whole image, or as much of
        it as a limit of memory allows.
        """
        cpu = self.device.type == "cpu"
        usual, limit = (CPU_TILE, CPU_BYTES) if cpu else (GPU_TILE, GPU_BYTES)
        if 2 * self.net.support < usual:
            return usual
        tile = max(width, height)
        while tile > usual and self._tile_bytes(width, height, tile, draws) > limit:
            tile = max(usual, -(-tile // 2))
        return max(tile, 1)

    def _tile_bytes(self, width: int, height: int, tile: int, draws: int = 1) -> int:
        """Memory of one tile of a small image of this size."""
        halo = 2 * self.net.support
        area = min(width, tile + halo) * min(height, tile + halo)
        itemsize, channels = self.dtype.itemsize, self.net.channels_alive
        if isinstance(self.net, SamplingNetwork):
            itemsize, channels = self._own.itemsize, channels + (draws - 1) * self.net.channels_per_sample
        features = channels * itemsize
        results = draws * IMAGE_CHANNELS * self.net.scale**2 * (itemsize + 3 * 4)
        # the rows that tiles are cut from
        return area * (features + results) + 4 * IMAGE_CHANNELS * width * min(height, tile + halo)

    def run(
        self, source: Source, sink: Sink, *, tile: int, fixed: bool, fail: OutOfMemory, progress: Progress | None
    ) -> None:
        """The whole image; see `draw`. Raises InputError where the result is not finite."""
        self.draw(source, [sink], tile=tile, fixed=fixed, fail=fail, progress=progress)

    @torch.inference_mode()
    def draw(
        self,
        source: Source,
        sinks: Sequence[Sink],
        *,
        tile: int,
        fixed: bool,
        fail: OutOfMemory,
        progress: Progress | None,
        sampling: Sampling | None = None,
    ) -> set[int]:
        """The whole image, into one sink, or with `sampling` into one for each seed.

        fixed: no smaller tiles where memory runs out. fail: makes the error of that. Returns the samples that are not
        finite, by number, and so not to be used; without `sampling` that is InputError.
        """
        said: set[str] = set()
        broken: set[int] = set()

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
                    broken |= self._tile(source, sinks, target, whole, once, sampling)
                    if len(broken) == len(sinks):
                        return broken
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
        return broken

    def _tile(
        self,
        source: Source,
        sinks: Sequence[Sink],
        target: Region,
        whole: Region,
        warn: Warn,
        sampling: Sampling | None,
    ) -> set[int]:
        """One tile into all sinks. Returns the numbers of the samples that are not finite there."""
        halo, scale = self.net.support, self.net.scale
        step = self.net.multiple if isinstance(self.net, SamplingNetwork) else 1
        # tiles begin and end where the cells of the coarsest grid do; the image's end is padded there as in the whole
        top, left = (max(0, place - halo) // step * step for place in (target.top, target.left))
        bottom = min(whole.bottom, -(-(target.bottom + halo) // step) * step)
        right = min(whole.right, -(-(target.right + halo) // step) * step)
        rows = source.read(top, bottom, columns=False, device=self.device)
        x = rows[..., left:right].to(self._own).contiguous(memory_format=torch.channels_last)
        results = self._enlarged(x, warn, sampling, (top, left))
        high, wide = target.bottom - target.top, target.right - target.left
        broken: set[int] = set()
        for number, (y, sink) in enumerate(zip(results, sinks, strict=True)):
            y = y.narrow(2, (target.top - top) * scale, high * scale)
            y = y.narrow(3, (target.left - left) * scale, wide * scale)
            if not are_finite((y,)):  # before it is rounded, which makes NaN black
                if sampling is None:
                    raise InputError("the network's result is not finite, nothing is written", EXTREME)
                broken.add(number)
            else:
                sink.write(target.top * scale, y, columns=False, across=target.left * scale)
        return broken

    def _enlarged(self, x: Tensor, warn: Warn, sampling: Sampling | None, origin: tuple[int, int]) -> list[Tensor]:
        """Of each sample, or the one result, (N, 3, scale h, scale w)."""
        if self._lowered is not None:
            results = _results(self._lowered, x, sampling, origin)
            if are_finite(results):
                return results
            warn("a tile came out not finite and is computed again in float32")
        return _results(self.net, x, sampling, origin)


def _results(
    net: SuperResolutionNetwork, x: Tensor, sampling: Sampling | None, origin: tuple[int, int]
) -> list[Tensor]:
    if sampling is None or not isinstance(net, SamplingNetwork):
        return [net(x)]
    temperature, seeds = sampling.temperature, sampling.seeds
    each = [net.enlarge(part, temperature=temperature, seeds=seeds, origin=origin) for part in torch.split(x, 1)]
    return list(torch.stack(each, dim=1).unbind())


def _lowered(net: SuperResolutionNetwork, dtype: torch.dtype) -> SuperResolutionNetwork:
    """A copy whose convolutions are in `dtype`; a flow keeps the precision of its weights, see `SRFlow`."""
    lowered = copy.deepcopy(net)
    if isinstance(net, SamplingNetwork):
        lowered.set_compute_dtype(dtype)
        return lowered
    return lowered.to(dtype)
