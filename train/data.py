"""Random aligned crops of 8-bit photographs, deterministic from seed and step.

All photographs are one flat array of bytes: in memory, on the device, or a packed file that is mapped into
memory (`pack`). The crops of a batch are gathered from it in one operation, flipped and transposed by the
order of the indices; the bicubic LR is made from the same bytes and equals that of the full image.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from irnscale.errors import InputError, UsageError
from irnscale.train.pack import collect, load_pack
from irnscale.train.photos import PACK_SUFFIX

MARGIN = 2
"""LR pixels around a crop that its bicubic reduction looks at."""
WORKERS = 4
AHEAD = 8
"""Batches that the workers prepare before they are asked for."""


@dataclass(frozen=True)
class Places:
    """Where the crops of a batch are: photograph, upper left corner on the LR grid, orientation; all (N,)."""

    photo: NDArray[np.int64]
    top: NDArray[np.int64]
    left: NDArray[np.int64]
    flip_rows: NDArray[np.bool_]
    flip_columns: NDArray[np.bool_]
    transpose: NDArray[np.bool_]

    def part(self, rows: slice) -> Places:
        """Those of some of the crops, in their order."""
        return Places(**{name: value[rows] for name, value in vars(self).items()})


class Photographs:
    """The photographs of folders, archives and packs; `batch` cuts training crops of them.

    Those smaller than the crop are skipped and counted (`too_small`), unreadable ones listed
    (`unreadable`). What fits half of the free memory is kept on `device`; else packs stay on the disk and
    are read as needed, by workers in `batches`. Raises InputError where nothing is left, UsageError where folders
    of photographs fit no memory and must be packed first. turns: see `groups.Crops`.
    """

    def __init__(
        self, sources: list[Path], *, scale: int, crop: int, device: torch.device | str = "cpu", turns: str = "all"
    ) -> None:
        self.scale, self.crop, self.device = scale, crop, torch.device(device)
        self._turns = turns
        self.unreadable: list[str] = []
        packed = any(source.suffix == PACK_SUFFIX for source in sources)
        if packed and len(sources) > 1:
            raise UsageError("`data`: a pack is given alone", "pack all photographs into one", parameters=("data",))
        if packed:
            self._bytes, index = load_pack(sources[0])
        else:
            self._bytes, index = collect(sources, self.unreadable, minimum=crop, limit=_free_memory() // 2)
        height, width = (index.height // scale * scale, index.width // scale * scale)
        keep = np.minimum(height, width) >= crop
        self.too_small = index.skipped + int((~keep).sum())
        self.names = [name for name, kept in zip(index.names, keep, strict=True) if kept]
        self._offset, self._stride, self._plane = (
            index.offset[keep],
            index.width[keep],
            (index.height * index.width)[keep],
        )
        self.height, self.width = height[keep], width[keep]
        if not self.names:
            raise InputError(
                f"no photographs of at least {crop} x {crop} pixels in {', '.join(map(str, sources))}",
                f"{self.too_small} too small, {len(self.unreadable)} unreadable",
            )
        self.resident = not packed
        if self.device.type == "cuda":
            self.resident = self._bytes.numel() < torch.cuda.mem_get_info(self.device)[0] // 2
            if self.resident:
                self._bytes = self._bytes.to(self.device)

    def __len__(self) -> int:
        return len(self.names)

    def introduction(self) -> list[str]:
        """See `Dataset`: how many there are, and which cannot be read."""
        bad = self.unreadable
        first = f"{len(self)} photographs, {self.too_small} too small, {len(bad)} unreadable"
        return [first, *(f"unreadable: {line}" for line in bad)]

    def place(self, size: int, *, seed: int, step: int, example: int) -> dict[str, Any]:
        """See `Dataset`: the photograph, and where the crop is in it."""
        places = self.places(size, seed=seed, step=step)
        left, top = (int(side[example]) * self.scale for side in (places.left, places.top))
        return {"photograph": self.names[places.photo[example]], "left": left, "top": top, "size": self.crop}

    def photograph(self, index: int) -> Tensor:
        """One of them, cut to multiples of the scale, (3, H, W) uint8."""
        start, width, plane = (int(v[index]) for v in (self._offset, self._stride, self._plane))
        whole = self._bytes[start : start + 3 * plane].view(3, -1, width)
        return whole[:, : self.height[index], : self.width[index]]

    def places(self, size: int, *, seed: int, step: int) -> Places:
        """The crops of a batch, from (seed, step) alone: random places of random photographs, randomly turned."""
        rng = np.random.default_rng((seed, step))
        photo = rng.integers(len(self), size=size)
        side = self.crop // self.scale
        top = rng.integers(self.height[photo] // self.scale - side + 1)
        left = rng.integers(self.width[photo] // self.scale - side + 1)
        rows, columns, transpose = rng.integers(2, size=(3, size)).astype(bool)
        if self._turns == "mirror":
            rows, transpose = np.zeros_like(rows), np.zeros_like(transpose)
        return Places(photo, top, left, rows, columns, transpose)

    def gather(self, places: Places) -> Tensor:
        """The crops with the margin that the bicubic needs, (N, 3, crop + 2 margin, same) uint8.

        Outside a photograph its border is mirrored, as in `bicubic_down`.
        """
        margin = MARGIN * self.scale
        window = np.arange(-margin, self.crop + margin)
        rows = _mirror(places.top[:, None] * self.scale + window, self.height[places.photo])
        columns = _mirror(places.left[:, None] * self.scale + window, self.width[places.photo])
        rows *= self._stride[places.photo, None]
        rows = np.where(places.flip_rows[:, None], rows[:, ::-1], rows)
        columns = np.where(places.flip_columns[:, None], columns[:, ::-1], columns)
        # y and x of the result walk along rows and columns of the photograph, or the other way round.
        turned = places.transpose[:, None]
        y, x = np.where(turned, columns, rows), np.where(turned, rows, columns)
        y += self._offset[places.photo, None]
        planes = self._plane[places.photo, None] * np.arange(3)
        source = self._bytes.device
        p, i, j = (torch.from_numpy(v).to(source, non_blocking=True) for v in (planes, y, x))
        return self._bytes.take(p[:, :, None, None] + i[:, None, :, None] + j[:, None, None, :])

    def finish(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """`gather`'s bytes -> HR (N, 3, crop, crop) and LR (N, 3, crop/s, crop/s), float32, HR in [0, 1]."""
        margin = MARGIN * self.scale
        x = windows.to(self.device, non_blocking=True).float() / 255
        # In the middle of the window nothing is cut off: the same sums as in the full image's bicubic.
        side = self.crop // self.scale + 2 * MARGIN
        small = F.interpolate(x, size=(side, side), mode="bicubic", antialias=True)
        hr = x[..., margin:-margin, margin:-margin]
        return hr.contiguous(), small[..., MARGIN:-MARGIN, MARGIN:-MARGIN].contiguous()

    def batch(self, size: int, *, seed: int, step: int, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """HR and LR, see `finish`, of the crops `rows` of the batch of `size` that belongs to (seed, step)."""
        return self.finish(self.gather(self.places(size, seed=seed, step=step).part(rows)))

    def batches(
        self, size: int, *, seed: int, first: int, rows: slice = slice(None)
    ) -> Generator[tuple[Tensor, Tensor]]:
        """`batch` of step `first`, `first` + 1 and so on; read ahead by workers where the bytes are on the disk."""
        if self.resident:
            for step in count(first):
                yield self.batch(size, seed=seed, step=step, rows=rows)

        def read(step: int) -> Tensor:
            windows = self.gather(self.places(size, seed=seed, step=step).part(rows))
            return windows.pin_memory() if self.device.type == "cuda" else windows

        pool = ThreadPoolExecutor(WORKERS)  # indexing lets go of the interpreter while it waits for the disk
        try:
            ahead: deque[Future[Tensor]] = deque(pool.submit(read, step) for step in range(first, first + AHEAD))
            for step in count(first + AHEAD):
                windows = ahead.popleft().result()
                ahead.append(pool.submit(read, step))
                yield self.finish(windows)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _mirror(positions: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions (N, K) outside 0 .. size - 1, (N,), reflected with the edge repeated."""
    wrapped = positions % (2 * size[:, None])
    mirrored: NDArray[np.int64] = np.minimum(wrapped, 2 * size[:, None] - 1 - wrapped)
    return mirrored


def _free_memory() -> int:
    """Bytes of memory that are not in use; where the system does not tell, any number of them."""
    names: Any = getattr(os, "sysconf_names", {})
    if "SC_AVPHYS_PAGES" not in names:
        return 2**62
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
