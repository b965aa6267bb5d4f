"""Pictures to the latents of a network that draws samples, and back, tile by tile.

A place of a latent depends on `support` small pixels around it, and so does a pixel on latents: tiles that are read
with so many more on each side, clipped at the picture's border, give what the whole picture gives at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from irnscale.engine.cuda import full_float32
from irnscale.engine.executor import Progress, Region
from irnscale.engine.memory import is_out_of_memory
from irnscale.networks.network import SamplingNetwork


@dataclass
class LatentSpace:
    """`net` over pictures of any size. Pictures and latents are on the host, tiles on the device of the network.

    tile: small pixels per side. fail: makes the error of memory that runs out. progress: told of small pixels done, of
    all for which `expect` was called.
    """

    net: SamplingNetwork
    tile: int
    fail: Callable[[BaseException, str], Exception]
    progress: Progress | None = None
    _done: int = 0
    _total: int = 0

    def expect(self, *pictures: Tensor) -> None:
        """Announce the small pictures (1, 3, h, w) that will be passed through, each as often as it is."""
        self._total += sum(lr.shape[2] * lr.shape[3] for lr in pictures)

    @torch.no_grad()
    def encode(self, hr: Tensor, lr: Tensor) -> list[Tensor]:
        """HR (1, 3, scale h, scale w) and LR (1, 3, h, w), h and w multiples of the network's -> its latents."""
        found: list[Tensor] = []
        for target, around in self._tiles(lr):
            made = self._made(lambda lr_, hr_: self.net.encode(hr_, self.net.encoded(lr_)), around, lr, [hr])
            if not found:
                whole = lr.shape[2], lr.shape[3]
                area = around.bottom - around.top, around.right - around.left
                found = [
                    hr.new_empty(1, z.shape[1], z.shape[2] * whole[0] // area[0], z.shape[3] * whole[1] // area[1])
                    for z in made
                ]
            for z, part in zip(found, made, strict=True):
                _place(z, part, lr, target, around)
        return found

    @torch.no_grad()
    def decode(self, latents: Sequence[Tensor], lr: Tensor) -> Tensor:
        """The inverse of `encode`: latents, given LR -> HR (1, 3, scale h, scale w), unclamped."""
        hr = lr.new_empty(1, lr.shape[1], lr.shape[2] * self.net.scale, lr.shape[3] * self.net.scale)
        for target, around in self._tiles(lr):
            part = self._made(lambda lr_, *z: [self.net.decode(z, self.net.encoded(lr_))], around, lr, latents)
            _place(hr, part[0], lr, target, around)
        return hr

    def _tiles(self, lr: Tensor) -> Iterator[tuple[Region, Region]]:
        """(target, around): regions that cover a small picture, and each with what it depends on.

        Both begin where the network's coarsest cells do.
        """
        step = self.net.multiple
        halo, side = -(-self.net.support // step) * step, max(step, self.tile // step * step)
        height, width = lr.shape[2:]
        for top in range(0, height, side):
            for left in range(0, width, side):
                target = Region(top, min(height, top + side), left, min(width, left + side))
                yield target, target.with_halo(halo, height, width)
                self._done += target.positions
                if self.progress is not None:
                    self.progress(min(self._done, self._total), self._total)

    def _made(
        self, run: Callable[..., list[Tensor]], around: Region, lr: Tensor, others: Sequence[Tensor]
    ) -> list[Tensor]:
        """What the network makes of a region of LR and of what lies on other grids over it."""
        weight = next(self.net.parameters())
        parts = [_part(x, lr, around).to(weight.device, weight.dtype) for x in (lr, *others)]
        try:
            with full_float32(weight.device):
                return run(*parts)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self.fail(error, f" at tiles of {self.tile}") from error


def _part(x: Tensor, lr: Tensor, region: Region) -> Tensor:
    """What of x, on a grid of its own over LR, lies over a region of LR."""
    top, bottom = (y * x.shape[2] // lr.shape[2] for y in (region.top, region.bottom))
    left, right = (y * x.shape[3] // lr.shape[3] for y in (region.left, region.right))
    return x[..., top:bottom, left:right]


def _place(x: Tensor, part: Tensor, lr: Tensor, target: Region, around: Region) -> None:
    """Put that of `part`, made for the region `around`, which lies over `target`, at its place in x."""
    place = _part(x, lr, target)
    top = (target.top - around.top) * x.shape[2] // lr.shape[2]
    left = (target.left - around.left) * x.shape[3] // lr.shape[3]
    place.copy_(part[..., top : top + place.shape[2], left : left + place.shape[3]])
