"""How an affine layer turns its subnet's output into a shift and a positive scale, and applies them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

LogScale = Callable[[Tensor], Tensor]


def log_glow(u: Tensor) -> Tensor:
    """log(sigmoid(u + 2) + 1e-4). Source: SRFlow's code; Glow's, which has no 1e-4."""
    return (torch.sigmoid(u + 2) + 1e-4).log()


def log_squish(u: Tensor) -> Tensor:
    """log(1/2 + sigmoid(u + 2) / 2), between log(1/2) and 0: the inverse at most doubles a value.

    Source: a thesis on cascades of SRFlow, equation 3.15 with alpha = 1/2; Behrmann et al. 2021, section 4.
    """
    return torch.log1p(torch.sigmoid(u + 2)) - math.log(2)


def log_atan(u: Tensor) -> Tensor:
    """0.318 atan(2u), within 1/2 of 0. Source: HCFlow's code. (FrEIA's "ATAN" with clamp 1/2 is 0.318 atan(u).)"""
    return 0.318 * torch.atan(2 * u)


LOG_SCALES: dict[str, LogScale] = {"glow": log_glow, "squish": log_squish, "atan": log_atan}
"""log g(u) by name."""


def cross(raw: Tensor) -> tuple[Tensor, Tensor]:
    """The even and the odd channels of (N, 2C, H, W): shift and u, or mean and log deviation, (N, C, H, W) each."""
    return raw[:, 0::2], raw[:, 1::2]


def affine(x: Tensor, raw: Tensor, log_scale: LogScale, *, rev: bool, jac: bool) -> tuple[Tensor, Tensor | float]:
    """y = (x + shift) g(u), or its inverse y / g(u) - shift; and the log-determinant (N,), or 0.0 without `jac`.

    raw: (N, 2C, H, W), or one sample that all share, of shifts and u in turn (`cross`). Shift first, then scale, as
    Glow's and SRFlow's code; the papers write it the other way.
    """
    shift, u = cross(raw.to(x.dtype))
    log_g = log_scale(u)
    y = x * (-log_g).exp() - shift if rev else (x + shift) * log_g.exp()
    if not jac:
        return y, 0.0
    log_det = log_g.flatten(1).sum(1).expand(x.shape[0])
    return y, -log_det if rev else log_det
