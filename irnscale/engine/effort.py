"""Small pictures made better by some steps of optimisation through the inverse of the network, which stays as it is.

Down and up are exact inverses, but what is stored is rounded, cut to cells or sent through a codec, and z is thrown
away; the small picture that restores best is near the network's and not the same (HCD, Xu et al. 2022, optimise it so).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from irnscale.detail import cells as digital
from irnscale.engine.executor import Progress
from irnscale.engine.rescaler import Rescaler
from irnscale.images.depth import eight_bits, sixteen_bits
from irnscale.networks.network import RescalingNetwork

Array = npt.NDArray[Any]
Stored = Callable[[Array], Array]
"""What `up` starts from, of a small picture on the grid of 16 bits; both (h, w, C) uint16, C 1 or 3."""

_SIDE, _MARGIN = 64, 16
"""Pixels of the small picture that are optimised at once, and that the network sees around them. Multiples of 16, so
that a codec's blocks lie in a part as they lie in the whole picture."""
_RATE = 1.5 / 255
"""Of Adam at the first step; it falls to zero as a cosine."""


def refine(
    rescaler: Rescaler,
    fine: Array,
    original: Array,
    steps: int,
    stored: Stored,
    progress: Progress | None = None,
) -> Array:
    """A small picture that restores better than `fine`, which the network made.

    fine: (h, w, C) uint16 on the grid of 16 bits, C 3 or, of a gray picture, 1. original: (H, W, 3) uint8 or uint16, at
    most the scale times as large. Part after part takes `steps` steps of Adam on the mean squared error of what is
    restored from `stored`, which counts as the identity in gradients; the best of all steps is kept, so that none gets
    worse by it. The same input gives the same picture on one machine.
    """
    networks = [copy.deepcopy(net).eval().requires_grad_(requires_grad=False) for net in rescaler.networks]
    for net in networks:
        net.set_compute_dtype(None if rescaler.dtype == torch.float32 else rescaler.dtype)
    scale = rescaler.scale
    result = fine.copy()
    parts = list(_parts(*fine.shape[:2]))
    for index, (inner, outer) in enumerate(parts):
        place = tuple(slice(s.start * scale, s.stop * scale) for s in outer)
        target = original[place].astype(np.float32) / float(np.iinfo(original.dtype).max)
        weights = _weights(inner, outer, scale)[: target.shape[0], : target.shape[1]]
        part = _Part(networks, result[outer], target, weights, inner, outer, stored, rescaler.device)
        result[inner] = part.best(steps)
        if progress is not None:
            progress(index + 1, len(parts))
    return result


def on_grid(depth: int, through: Callable[[Array], Array] | None = None) -> Stored:
    """What `up` reads of samples of `depth` bits that carry nothing.

    through: what a lossy format makes of (h, w, C) samples.
    """

    def stored(fine: Array) -> Array:
        samples = eight_bits(fine) if depth == 8 else fine
        return sixteen_bits(samples if through is None else through(samples))

    return stored


def in_cells(bits: int, depth: int) -> Stored:
    """What the base is made of where samples of `depth` bits carry `bits` bits each."""
    return lambda fine: digital.centres(digital.cells_of(fine, bits, depth), bits, depth)


def _parts(height: int, width: int) -> Iterator[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """(what is optimised, that with its surroundings) of each part."""
    for top in range(0, height, _SIDE):
        for left in range(0, width, _SIDE):
            inner = slice(top, min(top + _SIDE, height)), slice(left, min(left + _SIDE, width))
            outer = (
                slice(max(0, top - _MARGIN), min(inner[0].stop + _MARGIN, height)),
                slice(max(0, left - _MARGIN), min(inner[1].stop + _MARGIN, width)),
            )
            yield inner, outer


def _weights(inner: tuple[slice, slice], outer: tuple[slice, slice], scale: int) -> Array:
    """(H, W, 1): 1 on what the part is answerable for, and half a margin around it, which it changes too."""
    weights = np.zeros([*((s.stop - s.start) * scale for s in outer), 1], np.float32)
    near = tuple(
        slice(max(0, i.start - _MARGIN // 2 - o.start) * scale, (min(i.stop + _MARGIN // 2, o.stop) - o.start) * scale)
        for i, o in zip(inner, outer, strict=True)
    )
    weights[near] = 1
    return weights


class _Part:
    """One part of a small picture; the pixels around it stay."""

    def __init__(
        self,
        networks: list[RescalingNetwork],
        around: Array,
        target: Array,
        weights: Array,
        inner: tuple[slice, slice],
        outer: tuple[slice, slice],
        stored: Stored,
        device: torch.device,
    ) -> None:
        self._networks, self._stored, self._around = networks, stored, around
        self._place = tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
        self._target, self._weights = (_tensor(x).to(device) for x in (target, weights))
        self._device = device

    def best(self, steps: int) -> Array:
        """The inner pixels on the grid of 16 bits, of the least error that any step had."""
        start = _tensor(self._around[self._place].astype(np.float32) / 65535).to(self._device)
        variable = start.clone().requires_grad_()
        optimiser = torch.optim.Adam([variable], lr=_RATE, betas=(0.9, 0.99))
        best, found = math.inf, start
        for step in range(steps + 1):
            loss = self._loss(variable)
            if loss.item() < best:
                best, found = loss.item(), variable.detach().clone()
            if step == steps:
                break
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.param_groups[0]["lr"] = _RATE * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            optimiser.step()
            with torch.no_grad():
                variable.clamp_(0, 1)
        return self._pixels(found)

    def _loss(self, variable: Tensor) -> Tensor:
        whole = self._around.copy()
        whole[self._place] = self._pixels(variable)
        read = _tensor(self._stored(whole).astype(np.float32) / 65535).to(self._device)
        # straight through: what is stored has the gradient of what was to be stored
        passed = variable - variable.detach()
        rows, columns = self._place
        pad = columns.start, read.shape[3] - columns.stop, rows.start, read.shape[2] - rows.stop
        x = read + torch.nn.functional.pad(passed, pad)
        if x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        for net in reversed(self._networks):
            x = net.upscale(x)
        height, width = self._target.shape[2:]
        x = x[:, :, :height, :width]
        if variable.shape[1] == 1:
            x = x.mean(dim=1, keepdim=True)
        error = (x.clamp(0, 1) - self._target[:, : x.shape[1]]).square() * self._weights
        return error.sum() / (self._weights.sum() * x.shape[1])

    @staticmethod
    def _pixels(variable: Tensor) -> Array:
        pixels: Array = (variable.detach()[0].permute(1, 2, 0).cpu().numpy() * 65535).round().astype(np.uint16)
        return pixels


def _tensor(x: Array) -> Tensor:
    """(H, W, C) -> (1, C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None]
