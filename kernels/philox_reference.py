"""The plain-torch definition of the Philox noise in `philox.py` (whose docstring has the equations)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from irnscale.kernels.checks import check_philox

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


def philox4x32(counter: Sequence[Tensor], key: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 of four counter words (int64 tensors of values below 2^32) and two key words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # int64 products wrap around modulo 2^64, which leaves every bit in place.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        high0, high1 = (p0 >> 32) & _MASK, (p1 >> 32) & _MASK
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, p1 & _MASK, high0 ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def philox_normal(
    shape: Sequence[int],
    *,
    seed: int,
    origin: Sequence[int] = (0, 0, 0, 0),
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Normal noise of `shape` (N, C, H, W), cut at `origin` out of an endless field keyed by `seed`.

    `origin` is the absolute (sample, channel, y, x) of the first element, so that
    philox_normal((1, 3, 8, 8), seed=7, origin=(0, 0, 2, 5)) is the part [..., 2:10, 5:13] of
    philox_normal((1, 3, 99, 99), seed=7), on any device.
    """
    sizes = check_philox(shape, seed, origin, dtype)
    n, c, y, x = (
        torch.arange(start, start + size, device=device).view([-1 if k == d else 1 for k in range(4)])
        for d, (start, size) in enumerate(zip(origin, sizes, strict=True))
    )
    words = philox4x32([d.expand(sizes) for d in (x // 4, y, c, n)], (seed & _MASK, seed >> 32))
    # The pair of words for columns 0 and 1 of a group of four, and that for columns 2 and 3.
    second = x % 4 >= 2
    u, v = torch.where(second, words[2], words[0]), torch.where(second, words[3], words[1])
    radius = torch.sqrt(-2 * torch.log((u.double() + 1) * 2.0**-32))
    angle = v.double() * (2 * math.pi * 2.0**-32)
    z = radius * torch.where(x % 2 == 1, torch.sin(angle), torch.cos(angle))
    return z.to(dtype=dtype, memory_format=memory_format)
