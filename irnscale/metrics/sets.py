"""How far two sets of pictures are apart, by the features of their members. Lower is better.

What these distances are worth, and what they compare with, depends on the features: with those of Inception v3, and
with no others, they are called FID and KID.
"""

from __future__ import annotations

import math
from statistics import stdev
from typing import NamedTuple

import torch
from torch import Tensor

BLOCKS = 10
"""Parts of a set, between which a kernel distance's deviation is measured."""
_ROWS = 1024
"""Rows of a matrix of kernels that are in memory at once."""


class Estimate(NamedTuple):
    """A score of a set; `deviation` is that between estimates of its parts, NaN where there is none."""

    value: float
    deviation: float = math.nan


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Between Gaussians with the means and covariances of (N, D) and (M, D) features; in float64, 0 or more.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). Source: Heusel et al. 2017, equation 6. It is biased: two samples of
    one distribution are apart, the more so the smaller they are. NaN where a set has fewer than two members.
    """
    if min(len(one), len(other)) < 2:
        return math.nan
    one, other = one.double(), other.double()
    s1, s2 = torch.cov(one.T), torch.cov(other.T)
    # S1 S2 has the eigenvalues of the symmetric S1^(1/2) S2 S1^(1/2), which are real and not negative.
    values, vectors = torch.linalg.eigh(s1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ s2 @ root).clamp(min=0).sqrt().sum()
    distance = (one.mean(0) - other.mean(0)).square().sum() + s1.trace() + s2.trace() - 2 * cross
    return max(0.0, float(distance))


def kernel_distance(one: Tensor, other: Tensor) -> Estimate:
    """The squared maximum mean discrepancy of (N, D) and (M, D) features, kernel (x y / D + 1)^3, in float64.

    The unbiased estimate, which is 0 on average for two samples of one distribution and may thus be below 0. Source:
    Binkowski et al. 2018, sections 2.1 and 4. The value is over all pairs; the deviation is between `BLOCKS` parts,
    each with members of the same places of both sets. NaN where there are too few members.
    """
    one, other = one.double(), other.double()
    first, second = (x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))] for x in (one, other))
    parts = [_unbiased(a, b) for a, b in zip(first.chunk(BLOCKS), second.chunk(BLOCKS), strict=False)]
    known = len(parts) == BLOCKS and not any(map(math.isnan, parts))
    return Estimate(_unbiased(one, other), stdev(parts) if known else math.nan)


def _unbiased(one: Tensor, other: Tensor) -> float:
    n, m = len(one), len(other)
    if min(n, m) < 2:
        return math.nan
    within = _within(one) / (n * (n - 1)) + _within(other) / (m * (m - 1))
    return within - 2 * _kernels(one, other) / (n * m)


def _within(x: Tensor) -> float:
    """The sum over all pairs of different members."""
    return _kernels(x, x) - float((x.square().sum(1) / x.shape[1] + 1).pow(3).sum())


def _kernels(one: Tensor, other: Tensor) -> float:
    """The sum over all pairs."""
    rows = torch.split(one, _ROWS)
    return math.fsum(float((part @ other.T / one.shape[1] + 1).pow(3).sum()) for part in rows)
