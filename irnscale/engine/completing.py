"""What a completing network makes of a small picture of any size, band by band as the inverse of IRN asks for it.

A value of z depends on `support` small pixels around it, so tiles that are read with so many more on each side, clipped
at the picture's border, give what the whole picture gives at once; noise is that of each place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from irnscale.engine.executor import EXTREME, Region, are_finite, spans
from irnscale.errors import InputError
from irnscale.kernels import philox_normal
from irnscale.networks.network import IMAGE_CHANNELS, CompletingNetwork

TILE = 256
"""Small pixels per side where nothing is said; smaller ones overlap by more than they are wide."""


class Reader(Protocol):
    """Rows [first, last), or columns, of an image, on the device, (N, 3, rows, W)."""

    def __call__(self, first: int, last: int, *, columns: bool) -> Tensor: ...


@dataclass
class Completing:
    """z of a small picture beside it: reads rows of LR by `reader`, gives rows of (LR, z).

    sides: height and width of LR. tile: small pixels per side. temperature, seed: of the noise; 0: none.
    """

    net: CompletingNetwork
    reader: Reader
    sides: tuple[int, int]
    tile: int = TILE
    temperature: float = 0.0
    seed: int = 0
    _band: tuple[int, int] = (0, 0)
    _z: Tensor | None = None

    def __call__(self, first: int, last: int, *, columns: bool) -> Tensor:
        """Rows (or columns) [first, last): (N, 3 + C, rows, W)."""
        lr = self.reader(first, last, columns=columns)
        axis = 3 if columns else 2
        parts, place = [], first
        while place < last:  # a band is kept until the rows after it are asked for
            start, end = self._band
            if self._z is None or not start <= place < end:
                self._z = None  # before there is another
                self._z = self._made(place, columns)
                start, end = self._band
            until = min(last, end)
            parts.append(self._z.narrow(axis, place - start, until - place))
            place = until
        z = parts[0] if len(parts) == 1 else torch.cat(parts, dim=axis)
        return torch.cat((lr, z.to(lr.dtype)), dim=1)

    @torch.inference_mode()
    def _made(self, place: int, columns: bool) -> Tensor:
        """z of the band from `place` on."""
        length, across = self.sides[::-1] if columns else self.sides
        self._band = place, min(length, place + self.tile)
        halo = self.net.support
        top, bottom = max(0, place - halo), min(length, self._band[1] + halo)
        rows = self.reader(top, bottom, columns=columns)
        weight = next(self.net.parameters())
        tiles = []
        for _, right, new in spans(across, self.tile):
            target = Region(*self._band, new, right)
            around = target.with_halo(halo, length, across)
            part = rows.narrow(2 if columns else 3, around.left, around.right - around.left).to(weight.dtype)
            z = self.net.complete(part, self._noise(part, around, columns))
            inner = z.narrow(3 if columns else 2, place - top, self._band[1] - place)
            tiles.append(inner.narrow(2 if columns else 3, target.left - around.left, target.right - target.left))
        found = torch.cat(tiles, dim=2 if columns else 3)
        if not are_finite((found,)):
            raise InputError("what completes the picture is not finite, nothing is written", EXTREME)
        return found

    def _noise(self, lr: Tensor, region: Region, columns: bool) -> Tensor | None:
        """The same in all pictures of a batch."""
        if not self.temperature:
            return None
        y, x = (region.left, region.top) if columns else (region.top, region.left)
        n, _, height, width = lr.shape
        shape = (1, IMAGE_CHANNELS * (self.net.scale**2 - 1), height, width)
        noise = philox_normal(shape, seed=self.seed, origin=(0, 0, y, x), dtype=lr.dtype, device=lr.device)
        return (self.temperature * noise).expand(n, -1, -1, -1)


def memory(net: CompletingNetwork, height: int, width: int, tile: int) -> int:
    """Bytes that it takes beside a small picture of this size, at most."""
    around, itemsize = tile + 2 * net.support, next(net.parameters()).element_size()
    channels = IMAGE_CHANNELS * net.scale**2
    features = net.channels_alive * min(height, around) * min(width, around)
    bands = channels * max(min(height, tile) * width, min(width, tile) * height)
    return itemsize * (features + 2 * bands)
