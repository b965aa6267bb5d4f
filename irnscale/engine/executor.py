"""Runs an IRN tile by tile inside each half-step, so that tiling changes nothing but memory.

An invertible network's whole state between two steps is as large as the image, so it is kept whole, and
only the dense blocks, whose activations are forty times larger, run in tiles. One dense block sees 5
pixels, so a halo of 5 is exact; a tile's halo is clipped at the image border, where the network's own zero
padding applies. Overlapping whole tiles of the image would need 480 pixels of halo at x4 for the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from irnscale.kernels import additive_forward, additive_inverse, haar_forward, haar_inverse
from irnscale.networks import IRN, AssistantFlow, DenseBlock, EnhancedAffineCoupling, HaarTransform

Progress = Callable[[int, int], None]
Window = tuple[slice, slice]


def spans(length: int, tile: int) -> list[tuple[int, int]]:
    """Cut [0, length) into pieces of `tile`; the last is shifted inwards to end at `length`, not ragged.

    Pieces of one size let the device reuse its plans; an overlap is computed twice, to the same values.
    """
    if length <= tile:
        return [(0, length)]
    starts = [*range(0, length - tile, tile), length - tile]
    return [(a, a + tile) for a in starts]


def windows(height: int, width: int, tile: int) -> Iterator[tuple[Window, Window, Window]]:
    """(target, source, inner) per tile: what is written, what is read with its halo, target within source.

    The targets cover the image once: where a shifted tile overlaps its neighbour, only what no earlier
    tile has written is its target, since a step in place must not be applied twice.
    """
    halo = DenseBlock.support
    done_y = 0
    for top, bottom in spans(height, tile):
        done_x = 0
        for left, right in spans(width, tile):
            y, x = max(top, done_y), max(left, done_x)
            y0, x0 = max(0, top - halo), max(0, left - halo)
            yield (
                (slice(y, bottom), slice(x, right)),
                (slice(y0, min(height, bottom + halo)), slice(x0, min(width, right + halo))),
                (slice(y - y0, bottom - y0), slice(x - x0, right - x0)),
            )
            done_x = right
        done_y = bottom


def _additive_step(coupling: EnhancedAffineCoupling, x1: Tensor, x2: Tensor, tile: int, rev: bool) -> None:
    """x1 += p(x2) in place (-= in reverse); nothing where there is no p."""
    if coupling.p is None:
        return
    step = additive_inverse if rev else additive_forward
    for (ty, tx), (sy, sx), (iy, ix) in windows(x1.shape[2], x1.shape[3], tile):
        step(x1[:, :, ty, tx], coupling.p(x2[:, :, sy, sx])[:, :, iy, ix], inplace=True)


def _affine_step(coupling: EnhancedAffineCoupling, x1: Tensor, x2: Tensor, tile: int, rev: bool) -> None:
    """x2 = x2 exp(s(x1)) + t(x1) in place, or its inverse."""
    for (ty, tx), (sy, sx), (iy, ix) in windows(x2.shape[2], x2.shape[3], tile):
        source = x1[:, :, sy, sx]
        s, t = coupling.s(source)[:, :, iy, ix], coupling.t(source)[:, :, iy, ix]
        coupling.affine(x2[:, :, ty, tx], s, t, rev=rev, inplace=True)


@torch.inference_mode()
def run(
    net: IRN | AssistantFlow,
    x: Tensor,
    *,
    rev: bool,
    tile: int,
    to_uint8: bool = False,
    progress: Progress | None = None,
) -> Tensor:
    """The network's forward (image -> LR and z) or inverse on a whole image, tile by tile.

    x: (N, 3, H, W) float or uint8, H and W multiples of the scale; in reverse (N, 3 s^2, h, w) float. tile:
    positions per side at the level being computed. Equals `net(x, rev)` up to floating-point order. `x` itself
    is not changed. With `to_uint8`, in reverse, a last Haar level rounds to 8-bit pixels; FloatingPointError
    where its coefficients are not finite. `progress(done, total)` counts couplings.
    """
    if tile < 1:
        raise ValueError(f"tile must be at least 1, got {tile}")
    modules = list(net.module_list) if rev else net.down_modules
    total = sum(isinstance(m, EnhancedAffineCoupling) for m in modules)
    done = 0
    state = x.clone() if rev or isinstance(net, AssistantFlow) else x
    for module in reversed(modules) if rev else modules:
        if isinstance(module, HaarTransform):  # reads 8-bit pixels; the last one writes them
            last = to_uint8 and module is modules[0]
            if last and not torch.isfinite(state).all():
                raise FloatingPointError("the coefficients of the last Haar level are not finite")
            state = haar_inverse(state, to_uint8=last) if rev else haar_forward(state)
            continue
        if not isinstance(module, EnhancedAffineCoupling):  # no spatial context
            state = state / 255 if state.dtype == torch.uint8 else state
            (state,), _ = module((state,), rev=rev, jac=False)
            continue
        x1, x2 = state[:, : module.split_len1], state[:, module.split_len1 :]
        for half_step in (_affine_step, _additive_step) if rev else (_additive_step, _affine_step):
            half_step(module, x1, x2, tile, rev)
        done += 1
        if progress:
            progress(done, total)
    return state
