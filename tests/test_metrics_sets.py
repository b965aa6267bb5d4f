"""Distances between sets of features, against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from irnscale.metrics import sets
from irnscale.metrics.sets import BLOCKS, frechet_distance, kernel_distance


def gaussian(number: int, *, seed: int, dimensions: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(number, dimensions, generator=generator, dtype=torch.float64)


def test_the_frechet_distance_is_its_definition():
    one, other = gaussian(300, seed=0), gaussian(200, seed=1) @ gaussian(8, seed=2) + 0.5
    s1, s2 = (np.cov(x.numpy().T) for x in (one, other))
    wanted = ((one.mean(0) - other.mean(0)) ** 2).sum().item() + np.trace(s1 + s2 - 2 * sqrtm(s1 @ s2).real)
    assert frechet_distance(one, other) == pytest.approx(wanted, rel=1e-9)
    assert frechet_distance(other, one) == pytest.approx(wanted, rel=1e-9)
    assert frechet_distance(one, one + 2) == pytest.approx(8 * 4, rel=1e-9)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert math.isfinite(frechet_distance(one[:4], other[:3])), "singular covariances"


def test_the_kernel_distance_is_its_definition(monkeypatch):
    one, other = gaussian(23, seed=0), gaussian(31, seed=1) * 1.5 + 0.3

    def kernel(x, y):
        return (float(x @ y) / 8 + 1) ** 3

    def mean(pairs):
        values = [kernel(x, y) for x, y in pairs]
        return sum(values) / len(values)

    within = [mean((a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) for x in (one, other)]
    wanted = sum(within) - 2 * mean((a, b) for a in one for b in other)
    assert kernel_distance(one, other).value == pytest.approx(wanted, rel=1e-12)
    monkeypatch.setattr(sets, "_ROWS", 7)
    assert kernel_distance(one, other).value == pytest.approx(wanted, rel=1e-12)


def test_the_kernel_distance_is_unbiased_and_its_deviation_is_that_of_parts():
    """Of two samples of one distribution: 0 on average, where the Frechet distance is far above it."""
    values = [kernel_distance(gaussian(40, seed=2 * k), gaussian(40, seed=2 * k + 1)).value for k in range(60)]
    error = np.std(values) / math.sqrt(60)
    assert abs(np.mean(values)) < 3 * error
    assert frechet_distance(gaussian(40, seed=0), gaussian(40, seed=1)) > 0.3
    large = kernel_distance(gaussian(40 * BLOCKS, seed=0), gaussian(40 * BLOCKS, seed=1))
    assert large.deviation == pytest.approx(np.std(values), rel=0.6)
    assert kernel_distance(gaussian(400, seed=0), gaussian(400, seed=0) + 0.4).value > 5 * large.deviation


def test_what_is_too_small_has_no_distance():
    assert math.isnan(frechet_distance(gaussian(1, seed=0), gaussian(9, seed=1)))
    assert math.isnan(kernel_distance(gaussian(1, seed=0), gaussian(9, seed=1)).value)
    few = kernel_distance(gaussian(9, seed=0), gaussian(9, seed=1))
    assert not math.isnan(few.value)
    assert math.isnan(few.deviation)
