"""Counter-based normal noise: the same coefficient gets the same number in every tile and on every device.

Philox4x32-10 (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, SC 2011) of the counter
(x // 4, y, channel, sample) and the key (seed mod 2^32, seed // 2^32) gives four 32-bit words; each pair
(u, v) gives two normal numbers by Box and Muller, r cos(2 pi b) and r sin(2 pi b) with
r = sqrt(-2 ln a), a = (u + 1) 2^-32, b = v 2^-32; the four belong to x % 4 = 0, 1, 2, 3.
The definition in plain torch is `philox_reference.py`.
"""

# ruff: noqa: N803  (compile-time arguments and sizes in capitals, as everywhere in Triton)
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from irnscale.kernels.checks import check_philox
from irnscale.kernels.compiling import launch
from irnscale.kernels.dispatch import count
from irnscale.kernels.tiling import is_channels_last, jit, on_device, step, strides, tile_index, tile_plan


@jit
def _philox(c0: tl.tensor, c1: tl.tensor, c2: tl.tensor, c3: tl.tensor, k0: tl.tensor, k1: tl.tensor) -> Any:
    """Philox4x32-10, all uint32."""
    # Not tl.constexpr globals: a uint32 literal has to be made from an expression of that type.
    m0 = tl.full([], 0xD2511F53, tl.uint32)
    m1 = tl.full([], 0xCD9E8D57, tl.uint32)
    w0 = tl.full([], 0x9E3779B9, tl.uint32)
    w1 = tl.full([], 0xBB67AE85, tl.uint32)
    for _ in tl.static_range(10):
        high0, low0 = tl.umulhi(c0, m0), c0 * m0
        high1, low1 = tl.umulhi(c2, m1), c2 * m1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += w0
        k1 += w1
    return c0, c1, c2, c3


@jit
def _box_muller(u: tl.tensor, v: tl.tensor, kind: tl.constexpr) -> Any:
    """Two independent normal numbers of type `kind` from two random words."""
    # In float64: the fast float32 logarithm of GPUs loses its relative accuracy near one.
    radius = tl.sqrt(-2.0 * tl.log((u.to(tl.float64) + 1.0) * 2.3283064365386963e-10))
    angle = v.to(tl.float64) * (6.283185307179586 * 2.3283064365386963e-10)
    cosine, sine = radius * tl.cos(angle), radius * tl.sin(angle)
    if kind == tl.float64:
        return cosine, sine
    else:
        # Through float32, which every 16-bit type can be rounded from.
        return cosine.to(tl.float32).to(kind), sine.to(tl.float32).to(kind)


@jit
def _normal(
    out: tl.tensor,
    n0: tl.tensor,
    c0: tl.tensor,
    y0: tl.tensor,
    x0: tl.tensor,
    key0: tl.tensor,
    key1: tl.tensor,
    WIDTH: tl.tensor,
    C: tl.constexpr,
    H: tl.tensor,
    W: tl.tensor,
    tiles: tl.tensor,
    os: tl.tuple,
    CHANNELS_LAST: tl.constexpr,
    UNIT: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
) -> None:
    """One Philox call per group of four columns; W counts the groups that touch the WIDTH columns."""
    place, inside, _ = tile_index(C, H, W, tiles, CHANNELS_LAST, GROUP, ROWS, COLS)
    n, c, y = place[0], place[2].to(tl.int64), place[3]
    group = place[1] + place[4]
    first = x0.to(tl.int64) // 4
    zero = (c + y + group) * 0
    words = _philox(
        (zero + group + first).to(tl.uint32),
        (zero + y + y0).to(tl.uint32),
        (zero + c + c0).to(tl.uint32),
        (zero + n + n0).to(tl.uint32),
        key0.to(tl.uint32),
        key1.to(tl.uint32),
    )
    z0, z1 = _box_muller(words[0], words[1], out.dtype.element_ty)
    z2, z3 = _box_muller(words[2], words[3], out.dtype.element_ty)
    # The column of the group's first number, negative where the tile starts inside a group.
    x = (group + first) * 4 - x0
    right = step(os, 3)
    target = out + n * step(os, 0) + c * step(os, 1) + y * step(os, 2) + x * right
    tl.store(target, z0, mask=inside & (x >= 0) & (x < WIDTH))
    tl.store(target + right, z1, mask=inside & (x >= -1) & (x < WIDTH - 1))
    tl.store(target + 2 * right, z2, mask=inside & (x >= -2) & (x < WIDTH - 2))
    tl.store(target + 3 * right, z3, mask=inside & (x >= -3) & (x < WIDTH - 3))


def philox_normal(
    shape: Sequence[int],
    *,
    seed: int,
    origin: Sequence[int] = (0, 0, 0, 0),
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Normal noise of `shape` (N, C, H, W), cut at `origin` out of an endless field keyed by `seed`."""
    n, c, h, w = check_philox(shape, seed, origin, dtype)
    n0, c0, y0, x0 = origin
    out = torch.empty((n, c, h, w), dtype=dtype, device=device, memory_format=memory_format)
    if out.numel():
        groups = (x0 + w - 1) // 4 - x0 // 4 + 1
        p = tile_plan(n, c, h, groups, is_channels_last(out), out)
        count("philox_normal")
        with on_device(out):
            launch(
                _normal, p.grid, out, n0, c0, y0, x0, seed & 0xFFFFFFFF, seed >> 32, w, *p.index, strides(out), **p.meta
            )
    return out
