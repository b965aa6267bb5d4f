"""Lipschitz bounds of couplings from their weights and ranges, and spectral norms by power iteration.

Sources: the dissertation's appendix D.2 (bounds D.7 to D.10); Behrmann et al. 2020, "Understanding and mitigating
exploding inverses in invertible neural networks" (arXiv 2006.09347). The derivation for IRN's coupling, whose scale is
exp(c g) where Glow's is g itself, is in docs/lipschitz.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from irnscale.kernels import LogScale
from irnscale.networks.dense_block import DenseBlock

FREQUENCIES = 16
"""Per axis, at which the transfer function of a convolution is looked at."""


@dataclass(frozen=True)
class Norm:
    """A spectral norm by power iteration: `value`, from below, after `iterations`; `change`, relative, of the last."""

    value: float
    iterations: int
    change: float


def power_iteration(
    apply: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    start: Tensor,
    *,
    iterations: int = 100,
    tolerance: float = 1e-4,
) -> Norm:
    """The largest singular value of the linear map `apply` with the transpose `adjoint`, from the vector `start`.

    Each iteration is one step of the power method on the map's square; stops where the value changes by less than
    `tolerance`, relative. The value never exceeds the norm but for rounding.
    """
    v, value, change = start / start.norm(), 0.0, math.inf
    for number in range(1, iterations + 1):
        u = apply(v)
        now = float(u.norm())
        change = abs(now - value) / max(now, 1e-30)
        value = now
        if change < tolerance or now == 0:
            return Norm(value, number, change)
        w = adjoint(u)
        v = w / w.norm().clamp(min=1e-30)
    return Norm(value, iterations, change)


def convolution_norm(weight: Tensor, height: int, width: int, *, iterations: int = 100) -> Norm:
    """Of a 3 x 3 convolution with zero padding on maps of height x width, by power iteration.

    weight: (out, in, 3, 3). Bias does not matter.
    """
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(1, weight.shape[1], height, width, generator=generator).to(weight)
    return power_iteration(
        lambda v: F.conv2d(v, weight, padding=1),
        lambda u: F.conv_transpose2d(u, weight, padding=1),
        start,
        iterations=iterations,
    )


def convolution_bound(weight: Tensor) -> float:
    """An upper bound of the same on maps of any size, at most 1.09 times the least one.

    On an unbounded map a convolution is, frequency by frequency, the matrix K(w) of its transfer function; zero padding
    is a part of that map, so its norm is at most the supremum of K's over all w. v* K* K v is a trigonometric
    polynomial of degree 2 per axis, whose supremum is at most 1 / cos(2 pi / n) per axis times its largest value at n
    frequencies (Ehlich and Zeller 1964).
    """
    n, degree = FREQUENCIES, weight.shape[-1] - 1
    # conv2d correlates; the conjugate transfer function has the same norm. Weights are real: half of it is enough.
    transfer = torch.fft.rfft2(weight.double(), s=(n, n)).permute(2, 3, 0, 1)
    tall = transfer.shape[2] > transfer.shape[3]
    gram = transfer.mH @ transfer if tall else transfer @ transfer.mH
    largest = float(torch.linalg.eigvalsh(gram)[..., -1].max())
    return math.sqrt(max(0.0, largest)) / math.cos(math.pi * degree / n)


def dense_bound(norms: Sequence[float]) -> float:
    """Of a dense block from its five convolutions' norms: the last times the product of sqrt(1 + n^2) of the others.

    Each convolution reads everything before it and its result, through LeakyReLU (Lipschitz 1), is appended: the map
    from the input to all features so far has L_(k+1)^2 <= L_k^2 (1 + n_k^2).
    """
    *inner, last = norms
    return last * math.prod(math.sqrt(1 + n * n) for n in inner)


def block_bound(block: DenseBlock) -> float:
    """`dense_bound` of a block's own weights, for maps of any size."""
    if block.is_constant:
        return 0.0
    return dense_bound([convolution_bound(conv.weight.detach()) for conv in block.convolutions])


@dataclass(frozen=True)
class ScaleBounds:
    """Of e(s), the exponential of a `LogScale`, over a range of s: suprema of e, 1/e and both slopes, absolute."""

    up: float
    down: float
    up_slope: float
    down_slope: float


def scale_bounds(
    scale: LogScale,
    low: float = -math.inf,
    high: float = math.inf,
) -> ScaleBounds:
    """Exact, for s from `low` to `high`. "proposal1" jumps at s = 0: where that is inside, its slopes are infinite.

    With c = clamp and a = tanh(u), e = exp(c a) and its slope by u is c (1 - a^2) exp(c a), which has one maximum, at
    a = (sqrt(1 + c^2) - 1) / c; 1/e is the same with -a.
    """
    clamp, tightness, activation = scale.clamp, scale.tightness, scale.activation
    jumps = activation == "proposal1" and low <= 0 <= high and low < high

    def bounded(s: float) -> float:
        u = tightness * s
        if activation == "proposal1":
            u += 1.0 if s > 0 else 0.0 if s < 0 else 0.5
        return math.tanh(u if activation == "tanh" else u / 2)

    a, b = bounded(low), bounded(high)
    inner = tightness * (1.0 if activation == "tanh" else 0.5)
    peak = (math.sqrt(1 + clamp * clamp) - 1) / clamp

    def slope(low: float, high: float) -> float:
        best = min(max(peak, low), high)
        return inner * clamp * (1 - best * best) * math.exp(clamp * best)

    slopes = (math.inf, math.inf) if jumps else (slope(a, b), slope(-b, -a))
    return ScaleBounds(math.exp(clamp * b), math.exp(-clamp * a), *slopes)


def additive_bound(lip_p: float) -> float:
    """D.7 and D.8: of y1 = x1 + p(x2), y2 = x2, and of its inverse."""
    return 1 + lip_p


def affine_bound(scale: ScaleBounds, *, largest: float, lip_s: float, lip_t: float) -> float:
    """D.9 for IRN's scale: of y2 = x2 e(s(y1)) + t(y1), y1 kept, where |x2| <= `largest`."""
    return max(1.0, scale.up) + _times(largest, scale.up_slope, lip_s) + lip_t


def affine_inverse_bound(scale: ScaleBounds, *, largest: float, lip_s: float, lip_t: float) -> float:
    """D.10, corrected: of x2 = (y2 - t(y1)) / e(s(y1)), y1 kept, where |y2 - t(y1)| <= `largest`.

    As printed, D.10 has max|y2| times a bound of t where the derivation gives max|y2 - t|.
    """
    return max(1.0, scale.down) + _times(largest, scale.down_slope, lip_s) + scale.down * lip_t


def _times(*factors: float) -> float:
    """Their product; 0 times an infinite slope is 0, as what does not vary does not cross the jump."""
    return 0.0 if 0 in factors else math.prod(factors)


def jacobian_norm(
    f: Callable[[Tensor], Tensor], x: Tensor, *, iterations: int = 30, tolerance: float = 1e-3, seed: int = 0
) -> Norm:
    """The largest singular value of the Jacobian of `f` at `x`, by power iteration with jvp and vjp; from below.

    Reverse mode alone: J^T u is linear in u, and its own reverse mode by u, at any u, is J v. (Forward mode would
    import seconds of torch's compiler.) On the CPU, where the couplings' operations allow it. Source: D.3 and D.4.
    """
    point = x.detach().clone().requires_grad_()
    # Products instead of `grad_outputs`, for whose check torch imports sympy.
    with torch.enable_grad():
        y = f(point)
        zero = torch.zeros_like(y, requires_grad=True)
        (pulled,) = torch.autograd.grad((y * zero).sum(), point, create_graph=True)

    @torch.enable_grad()
    def jvp(v: Tensor) -> Tensor:
        (pushed,) = torch.autograd.grad((pulled * v).sum(), zero, retain_graph=True)
        return pushed

    @torch.enable_grad()
    def vjp(u: Tensor) -> Tensor:
        (grad,) = torch.autograd.grad((y * u).sum(), point, retain_graph=True)
        return grad

    start = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).to(x)
    return power_iteration(jvp, vjp, start, iterations=iterations, tolerance=tolerance)
