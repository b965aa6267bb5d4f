"""Decides how an image is run: tile, order, and where the window of the trunk lives, within a limit of memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from irnscale.errors import DeviceError
from irnscale.networks.step import Program
from irnscale.sizes import format_memory

SMALLEST_TILE = 16
CPU_TILE, GPU_TILE = 128, 512
"""Positions per side. On a CPU the dense block's 140 channels should stay in the last-level cache."""
PLAIN_STATE = 2**28
"""Up to so many bytes of state an image is held whole: one half-step after the other, without a moving window."""
TEMPORARIES = 3 * 2**24
"""What resampling, reading and writing a few rows takes, and the allocator's slack."""


@dataclass(frozen=True)
class Plan:
    """How one network runs over one image.

    width, height: of the large image, padded to the scale. tile: positions per side at the level being computed.
    band: rows (with order "columns", columns) of the small image read at once; with order "plain" all of them.
    at_once: tiles that are computed at the same time, each on one thread. trunk: "device memory", "host memory" or
    "mapped file". Sizes are in bytes, of one image, `tile_bytes` that of all tiles at once; `limit` is what was asked
    for (None: no limit).
    """

    model: str
    direction: str
    width: int
    height: int
    scale: int
    device: str
    precision: str
    tile: int
    at_once: int
    order: str
    band: int
    couplings_per_sweep: int
    trunk: str
    state_bytes: int
    window_bytes: int
    tile_bytes: int
    picture_bytes: int
    limit: int | None

    @property
    def total_bytes(self) -> int:
        """The peak, without the interpreter, torch and the weights; a mapped file does not count."""
        window = 0 if self.trunk == "mapped file" else self.window_bytes
        return self.picture_bytes + window + self.tile_bytes + TEMPORARIES

    def to_dict(self) -> dict[str, Any]:
        """The fields and `total_bytes` as an object for JSON; sizes are in bytes."""
        return asdict(self) | {"total_bytes": self.total_bytes}

    def __str__(self) -> str:
        return self.describe()

    def describe(self) -> str:
        """One line for people: model, size, device, precision, tiles, order, where the trunk lives, bytes."""
        order = {
            "plain": "one half-step after the other on the whole image",
            "rows": f"one sweep from top to bottom in bands of {self.band * self.scale} rows",
            "columns": f"one sweep from left to right in bands of {self.band * self.scale} columns",
        }[self.order]
        tiles = f"{self.tile}" + (f", {self.at_once} at once" if self.at_once > 1 else "")
        limit = "" if self.limit is None else f" of {format_memory(self.limit)} allowed"
        return (
            f"{self.model} {self.direction} {self.width}x{self.height} on {self.device} in {self.precision}: tiles of "
            f"{tiles}, {order}; trunk {format_memory(self.window_bytes)} in {self.trunk}"
            f" (whole: {format_memory(self.state_bytes)}), {self.couplings_per_sweep} couplings per sweep, "
            f"tile {format_memory(self.tile_bytes)}, pictures {format_memory(self.picture_bytes)}; "
            f"{format_memory(self.total_bytes)}{limit}"
        )


def window_bytes(program: Program, length: int, across: int, band: int, itemsize: int = 4) -> int:
    """Memory of the windows of all levels. length, across: of the *small* image, along and across the sweep."""
    total = 0
    for level in program.levels:
        rows = min(length * level.ratio, level.rows(band * level.ratio))
        total += rows * across * level.ratio * level.channels * itemsize
    return total


def tile_bytes(program: Program, width: int, height: int, dtype: torch.dtype) -> int:
    """Memory of the subnets on one tile of so many positions."""
    beyond = 2 * program.halo
    return (width + beyond) * (height + beyond) * (program.channels_alive * dtype.itemsize + 200 * 4)


def make_plan(
    program: Program,
    width: int,
    height: int,
    *,
    device: torch.device,
    dtype: torch.dtype,
    model: str = "",
    tile: int | None = None,
    max_memory: int | None = None,
    pictures: int | None = None,
    threads: int = 1,
) -> Plan:
    """The fastest way that keeps within `max_memory` bytes; `tile`, where given, is kept as it is.

    width, height: of the large image, multiples of the scale. pictures: bytes that the caller's images take in the
    memory that `max_memory` is about; None: this image and its small one, 8 bits deep, in the host's memory. threads:
    tiles are computed on so many at the same time, where there are as many tiles. Raises DeviceError where nothing
    fits, naming what would.
    """
    scale, rev = program.scale, program.rev
    length, across = height // scale, width // scale
    sideways = width > height
    state = 12 * width * height
    on_device = device.type != "cpu"
    if pictures is None:
        pictures = 0 if on_device else round(3 * width * height * (1 + 1 / scale**2))
    couplings = sum(level.layers for level in program.levels)

    def plan(tile: int, order: str, band: int, trunk: str) -> Plan:
        along, over = (across, length) if order == "columns" else (length, across)
        band = min(band, along)
        return Plan(
            model=model,
            direction="up" if rev else "down",
            width=width,
            height=height,
            scale=scale,
            device=str(device),
            precision=str(dtype).removeprefix("torch."),
            tile=tile,
            at_once=1,
            order=order,
            band=band,
            couplings_per_sweep=1 if order == "plain" else couplings,
            trunk=trunk,
            state_bytes=state,
            window_bytes=window_bytes(program, along, over, band),
            tile_bytes=tile_bytes(program, min(tile, width // 2), min(tile, height // 2), dtype),
            picture_bytes=pictures,
            limit=max_memory,
        )

    def side_by_side(found: Plan) -> Plan:
        """The same with a tile for each thread, where the largest level has as many tiles."""
        over = length if found.order == "columns" else across
        largest = max(level.ratio for level in program.levels)
        count = -(-found.band * largest // found.tile) * -(-over * largest // found.tile)
        if count < threads:
            return found
        return replace(found, at_once=threads, tile_bytes=threads * found.tile_bytes)

    place = "device memory" if on_device else "host memory"
    whole = max(length, across)
    usual = tile or (GPU_TILE if on_device else CPU_TILE)
    sweep = "columns" if sideways else "rows"
    tiles = [usual]
    while tile is None and tiles[-1] > SMALLEST_TILE:
        tiles.append(tiles[-1] // 2)
    plans = [plan(usual, "plain", whole, place)] if state <= (2**32 if on_device else PLAIN_STATE) else []
    for size in tiles:
        bands = [b for b in (usual, size, size // 2, size // 4) if b >= 8] or [8]
        plans.extend(plan(size, sweep, band, place) for band in dict.fromkeys(bands))
    if max_memory is None:
        return side_by_side(plans[0])
    if not on_device:
        plans.extend(plan(size, sweep, usual, "mapped file") for size in tiles)
    plans = [either for found in plans for either in (side_by_side(found), found)]
    for candidate in plans:
        if candidate.total_bytes <= max_memory:
            return candidate
    least = min(candidate.total_bytes for candidate in plans)
    what = f"{width}x{height} does not fit into max_memory={format_memory(max_memory)}"
    remedy = f"it takes at least {format_memory(least, up=True)}" + (f" at tile={tile}" if tile else "")
    raise DeviceError(what, remedy, parameters=("max_memory", "tile"))
