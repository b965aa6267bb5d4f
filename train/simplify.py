"""Which scale networks of a model can be replaced by a constant per channel, within a loss on given photographs.

Many a trained s hardly varies: the paper's coupling needs a scale, but seldom one that depends on the picture. What
is constant costs no convolutions, and the checkpoint keeps its format: conv5 of that s has zero weights and the
constant as its bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from irnscale.images.bicubic import bicubic_down
from irnscale.kernels import quantize
from irnscale.metrics import psnr
from irnscale.networks import IRN, DenseBlock, EnhancedAffineCoupling
from irnscale.train.jpeg import jpeg

SIDE = 128
"""Of the middle of each photograph that is looked at."""
STEEPEST = 16.0
"""Largest argument of a clamp: beyond it the log-scale is its bound, to the rounding of float32."""
QUALITY = 90
"""Of the JPEG between the two directions, for models that are made for one."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """Means over the photographs: luma PSNR of the restored picture, and of the small one against bicubic.

    constants: by place of the coupling, the raw outputs of s, (C,), whose log-scale is the mean that was seen.
    """

    hr: float
    lr: float
    constants: dict[int, Tensor]

    def lost(self, less: Measured) -> float:
        """By how much `less` is worse, in dB, where it is worse by more."""
        return max(self.hr - less.hr, self.lr - less.lr)


def middle(image: Tensor, scale: int) -> Tensor:
    """(3, H, W) uint8 -> (1, 3, H', W') in [0, 1]: at most `SIDE` squared, multiples of the scale."""
    height, width = (min(n, SIDE) // scale * scale for n in image.shape[1:])
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return image[None, :, top : top + height, left : left + width].float() / 255


@torch.inference_mode()
def measure(net: IRN, pictures: Sequence[Tensor], *, compressed: bool = False) -> Measured:
    """Round trips of pictures (1, 3, H, W), the small ones in 8 bits; `compressed`: and through JPEG."""
    hr, lr = [], []
    with _watched(net) as seen:
        for x in pictures:
            small = quantize(net.downscale(x)[0])
            stored = jpeg(small, torch.tensor([QUALITY], device=x.device), "4:2:0") if compressed else small
            hr.append(psnr(net.upscale(stored), x, crop=net.scale).item())
            lr.append(psnr(small, bicubic_down(x, net.scale)).item())
    constants = {place: _raw(net, total / count).to(torch.float16).float() for place, (total, count) in seen.items()}
    return Measured(fmean(hr), fmean(lr), constants)


@contextmanager
def _watched(net: IRN) -> Iterator[dict[int, tuple[Tensor, int]]]:
    """Sums of the log-scales, (C,) in float64, and how many there were, by place of the coupling."""
    seen: dict[int, tuple[Tensor, int]] = {}

    def look(place: int, coupling: EnhancedAffineCoupling, module: nn.Module, args: Any, s: Tensor) -> None:
        scales = coupling.log_scale(s)
        total, count = seen.get(place, (torch.zeros((), dtype=torch.float64, device=s.device), 0))
        seen[place] = total + scales.double().sum(dim=(0, 2, 3)), count + s[:, 0].numel()

    handles = []
    for place in net.config.couplings:
        coupling = net.module_list[place]
        assert isinstance(coupling, EnhancedAffineCoupling)
        handles.append(coupling.s.register_forward_hook(partial(look, place, coupling)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _raw(net: IRN, wanted: Tensor) -> Tensor:
    """What s has to be for a log-scale, by bisection: every clamp rises."""
    config = net.config
    high = torch.full_like(wanted, STEEPEST / config.clamp_tightness)
    low = -high
    for _ in range(60):
        half = (low + high) / 2
        below = config.log_scale(half) < wanted
        low, high = torch.where(below, half, low), torch.where(below, high, half)
    return high


def simplify(
    net: IRN, pictures: Sequence[Tensor], *, loss: float, compressed: bool = False, say: Say = lambda line: None
) -> tuple[Measured, Measured, list[int]]:
    """Make constant, in `net`, as many scale networks as lose at most `loss` dB together.

    Each is tried by itself first; then they are taken in the order of what they lost, the constants measured anew
    after each, and those that would cost too much are left as they are. Returns the scores before and after, and
    the places of the couplings that are constant now, those that were before included.
    """
    before = now = measure(net, pictures, compressed=compressed)
    constant = [place for place in net.config.couplings if net.scale_block(place).is_constant]
    alone: dict[int, float] = {}
    for place in net.config.couplings:
        if place not in constant:
            undo = _replace(net.scale_block(place), before.constants[place])
            alone[place] = before.lost(measure(net, pictures, compressed=compressed))
            undo()
            say(f"coupling {place} alone: {-alone[place]:+.3f} dB")
    for place in sorted(alone, key=lambda place: alone[place]):
        undo = _replace(net.scale_block(place), now.constants[place])
        then = measure(net, pictures, compressed=compressed)
        if not before.lost(then) <= loss:
            undo()
            say(f"coupling {place} is kept: {-before.lost(then):+.3f} dB with those before")
            continue
        now = then
        constant.append(place)
        say(f"coupling {place} is constant: {-before.lost(then):+.3f} dB with those before")
    return before, now, sorted(constant)


def _replace(block: DenseBlock, constant: Tensor) -> Callable[[], None]:
    """Make `block` give `constant`, (C,), everywhere; returns what undoes it."""
    conv = block.conv5
    assert conv.bias is not None
    weight, bias = conv.weight.detach().clone(), conv.bias.detach().clone()
    trained = [parameter.requires_grad for parameter in block.parameters()]
    block.fix()
    conv.bias.data.copy_(constant)

    def undo() -> None:
        assert conv.bias is not None
        conv.weight.data.copy_(weight)
        conv.bias.data.copy_(bias)
        block.fixed = False
        for parameter, needed in zip(block.parameters(), trained, strict=True):
            parameter.requires_grad_(needed)

    return undo
