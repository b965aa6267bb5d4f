"""Lipschitz bounds: exact on linear maps, above what power iteration finds, affine coupling on a grid."""

from __future__ import annotations

import json
import math

import pytest
import torch
import torch.nn.functional as F
from commandline import Run, runner
from torch import nn
from training import train

from irnscale.evaluation.lipschitz import Measured, bounds_of, measure
from irnscale.kernels import ACTIVATIONS, LogScale
from irnscale.networks import IRN, IRNConfig
from irnscale.networks.coupling import EnhancedAffineCoupling
from irnscale.networks.dense_block import DenseBlock
from irnscale.networks.lipschitz import (
    affine_bound,
    affine_inverse_bound,
    block_bound,
    convolution_bound,
    convolution_norm,
    dense_bound,
    jacobian_norm,
    power_iteration,
    scale_bounds,
)
from irnscale.networks.network import through

DOUBLE = torch.float64


@pytest.fixture
def run(capfdbinary, monkeypatch) -> Run:
    return runner(capfdbinary, monkeypatch)


def randomise(net: nn.Module, spread: float = 0.3) -> nn.Module:
    """All weights random, the last convolutions too, which start at zero."""
    for p in net.parameters():
        nn.init.normal_(p, std=spread)
    return net.to(DOUBLE)


def jacobian(f, x: torch.Tensor) -> torch.Tensor:
    """The whole matrix, by brute force."""
    rows = torch.autograd.functional.jacobian(f, x)
    return rows.reshape(-1, x.numel())


def test_power_iteration_on_a_matrix():
    matrix = torch.randn(7, 12, dtype=DOUBLE)
    start = torch.randn(12, dtype=DOUBLE)
    norm = power_iteration(lambda v: matrix @ v, lambda u: matrix.T @ u, start, iterations=500, tolerance=1e-12)
    assert norm.value == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-6)
    zero = power_iteration(lambda v: 0 * v, lambda u: 0 * u, start)
    assert (zero.value, zero.iterations) == (0.0, 1)


@pytest.mark.parametrize(("out", "channels", "size"), [(3, 5, (6, 7)), (8, 2, (5, 5)), (1, 1, (9, 4))])
def test_norms_of_convolutions(out, channels, size):
    weight = torch.randn(out, channels, 3, 3, dtype=DOUBLE)
    x = torch.zeros(1, channels, *size, dtype=DOUBLE)
    exact = float(torch.linalg.matrix_norm(jacobian(lambda v: F.conv2d(v, weight, padding=1), x), 2))
    norm = convolution_norm(weight, *size, iterations=2000)
    assert norm.value <= exact * (1 + 1e-9)
    assert norm.value == pytest.approx(exact, rel=0.01)
    assert convolution_bound(weight) >= exact
    large = convolution_norm(weight, 40, 40, iterations=2000).value
    assert large <= convolution_bound(weight) <= 1.13 * large, "not far above what a large map has"


def test_the_bound_of_a_convolution_is_exact_where_the_supremum_is_at_a_frequency_looked_at():
    box = torch.ones(1, 1, 3, 3, dtype=DOUBLE)  # its supremum, 9, is at frequency 0
    assert convolution_bound(box) == pytest.approx(9 / math.cos(math.pi * 2 / 16))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("clamp", "tightness"), [(1.0, 1.0), (1.0, 2.0), (0.4, 5.0), (2.0, 0.5)])
@pytest.mark.parametrize(("low", "high"), [(-8.0, 9.0), (0.1, 0.3), (-2.0, -0.5), (1.5, 4.0)])
def test_suprema_of_the_scale_on_a_grid(activation, clamp, tightness, low, high):
    found = scale_bounds(LogScale(clamp, tightness, activation), low, high)
    s = torch.linspace(low, high, 20001, dtype=DOUBLE)
    e = LogScale(clamp, tightness, activation)(s).exp()
    assert found.up == pytest.approx(float(e.max()), rel=1e-9)
    assert found.down == pytest.approx(float((1 / e).max()), rel=1e-9)
    if activation == "proposal1" and low < 0 < high:
        assert found.up_slope == found.down_slope == math.inf
        assert float(e.diff().abs().max()) > 0.05 * min(1.0, clamp * tightness), "it jumps"
        return
    step = float(s[1] - s[0])
    assert found.up_slope == pytest.approx(float(e.diff().abs().max()) / step, rel=2e-3)
    assert found.down_slope == pytest.approx(float((1 / e).diff().abs().max()) / step, rel=2e-3)


def test_a_tighter_clamp_raises_the_slopes_and_leaves_the_range():
    """IRN-2T: what D.2 says of Glow, whose scale is g itself, is not so of IRN, whose scale is exp(g)."""
    plain, tight = (scale_bounds(LogScale(1.0, k)) for k in (1.0, 2.0))
    assert plain.up == tight.up == pytest.approx(math.e)
    assert plain.down == tight.down == pytest.approx(math.e)
    assert tight.up_slope == pytest.approx(2 * plain.up_slope)
    assert tight.down_slope == pytest.approx(2 * plain.down_slope)


class Pointwise(nn.Module):
    """A subnet that is one number times a smooth function: its Lipschitz constant is `slope`."""

    def __init__(self, slope: float, bend: float = 0.0) -> None:
        super().__init__()
        self.slope, self.bend = slope, bend

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.slope * (torch.sin(self.bend * x) / self.bend if self.bend else x)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
@pytest.mark.parametrize(("slope_s", "slope_t", "bend"), [(1.5, 0.7, 0.0), (0.8, 2.0, 3.0), (-4.0, 0.0, 1.0)])
def test_affine_coupling_on_a_grid(activation, slope_s, slope_t, bend):
    """One number in x1 and one in x2: all Jacobians of a box against D.9 and D.10."""
    subnets = iter([Pointwise(slope_s, bend), Pointwise(slope_t, bend)])
    coupling = EnhancedAffineCoupling(
        [(2, 1, 1)],
        subnet_constructor=lambda *_: next(subnets),
        split_len=1,
        log_scale=LogScale(0.9, 1.7, activation),
        additive=False,
    )
    axis = torch.linspace(-1.5, 1.5, 41, dtype=DOUBLE)
    points = torch.cartesian_prod(axis, axis)[:, :, None, None]
    s, t = coupling.s(points[:, :1]), coupling.t(points[:, :1])
    scale = scale_bounds(LogScale(0.9, 1.7, activation), float(s.min()), float(s.max()))
    lips = {"lip_s": abs(slope_s), "lip_t": abs(slope_t)}
    for rev in (False, True):

        def f(x: torch.Tensor, rev: bool = rev) -> torch.Tensor:
            return coupling((x,), rev=rev)[0][0]

        norms = [float(torch.linalg.matrix_norm(jacobian(f, point[None]), 2)) for point in points[::31]]
        if rev:
            bound = affine_inverse_bound(scale, largest=float((points[:, 1:] - t).abs().max()), **lips)
        else:
            bound = affine_bound(scale, largest=1.5, **lips)
        assert max(norms) <= bound
        assert bound < 6 * max(norms), "and the bound is of that order"


def test_the_printed_inverse_bound_fails_where_t_is_zero():
    """D.10 multiplies max|y2| by a bound of t; with t = 0 its M* is 0, but the inverse's slope is not."""
    x, slope = 1.0, 3.0
    scale = scale_bounds(LogScale(), -0.1, 0.1)
    printed = max(1.0, scale.down) + x * scale.down_slope * slope * 0.0
    column = torch.tensor([1.0, -x * 0.5 * slope])  # of the Jacobian at s = 0, y2 = x: 1/e has the slope -1/2
    assert float(column.norm()) > printed
    assert float(column.norm()) <= affine_inverse_bound(scale, largest=x, lip_s=slope, lip_t=0.0)


def test_dense_blocks_stay_below_their_bound():
    block = randomise(DenseBlock(3, 4, growth=5))
    x = torch.randn(1, 3, 6, 6, dtype=DOUBLE)
    exact = float(torch.linalg.matrix_norm(jacobian(block, x), 2))
    found = jacobian_norm(block.requires_grad_(False), x, iterations=500, tolerance=1e-10)
    assert found.value == pytest.approx(exact, rel=1e-4)
    assert block_bound(block) >= exact
    assert dense_bound([1.0, 1.0, 1.0, 1.0, 3.0]) == pytest.approx(12)
    assert block_bound(DenseBlock(3, 4, growth=5)) == 0, "an untrained block is constant"


@pytest.mark.parametrize(
    "config",
    [
        IRNConfig(scale=4, inv_per_ds=[0, 2], growth=3),
        IRNConfig(scale=2, inv_per_ds=1, growth=3, clamp_tightness=2.0, actnorm=True),
        IRNConfig(scale=3, inv_per_ds=1, growth=3, clamp_activation="tanh"),
    ],
    ids=lambda c: f"x{c.scale}",
)
def test_networks_stay_below_their_bounds(config):
    net = randomise(IRN(config), 0.15)
    size = 6 if config.scale == 3 else 8
    pictures = {name: torch.rand(1, 3, size, size, dtype=DOUBLE) for name in ("one", "two")}
    result = measure(net, pictures, iterations=20)
    modules = net.down_modules
    exact = float(torch.linalg.matrix_norm(jacobian(lambda x: through(modules, x), pictures["one"]), 2))
    assert 0.8 * exact < result.forward_observed["one"] <= exact * (1 + 1e-9)
    assert max(exact, *result.forward_observed.values()) <= result.forward
    assert max(result.inverse_observed.values()) <= result.inverse
    assert len(result.couplings) == len(config.couplings)
    for coupling in result.couplings:
        assert 0 < coupling.forward_observed <= coupling.forward
        assert 0 < coupling.inverse_observed <= coupling.inverse
        for norms, lip in ((coupling.conv_norms_p, coupling.lip_p), (coupling.conv_norms_s, coupling.lip_s)):
            assert 0 < dense_bound(norms) <= lip
    assert result.round_trip < 1e-10
    text = json.dumps(result.to_dict())
    assert "Infinity" not in text


def test_an_untrained_network_is_the_haar_transform_and_its_bounds_are_exact():
    result = measure(
        IRN(IRNConfig(scale=4, inv_per_ds=1, growth=4)).double(), {"": torch.rand(1, 3, 8, 8, dtype=DOUBLE)}
    )
    assert result.forward_observed[""] == pytest.approx(1 / 4, rel=1e-6)
    assert result.inverse_observed[""] == pytest.approx(4, rel=1e-6)
    assert (result.forward, result.inverse) == (1 / 4, 4)


def test_proposal_1_has_no_bound_where_its_jump_is_crossed():
    net = randomise(IRN(IRNConfig(scale=2, inv_per_ds=1, growth=4, clamp_activation="proposal1")))
    result = measure(net, {"": torch.rand(1, 3, 8, 8, dtype=DOUBLE)}, iterations=5)
    (coupling,) = result.couplings
    assert coupling.s.low < 0 < coupling.s.high
    assert result.forward == result.inverse == math.inf
    assert result.to_dict()["forward"] is None
    seen = Measured(1, 12, 1.0, 1.0, 1.0, [], [], [])
    for values in (seen.x2, seen.s, seen.residue, seen.s_inverse):
        values.see(torch.tensor([0.5, 1.0]))
    module = net.down_modules[1]
    assert isinstance(module, EnhancedAffineCoupling)
    assert all(map(math.isfinite, bounds_of(module, seen))), "on one side of it there is"


def test_on_the_command_line(run, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    train(tmp_path / "run", photos)
    assert run("models", "export", tmp_path / "run", "--name", "mine").code == 0
    command = ("evaluate", "lipschitz", "--data", photos, "-m", "mine", "--iterations", "2", "--limit", "1")
    result = run(*command, "--crop", "16")
    assert result.code == 0, result.lines
    assert "mine: sigmoid, c = 1, k = 1; 1 photographs, 16 x 16 pixels" in result.text
    assert json.loads(run(*command, "--crop", "16", "--json").text)["size"] == 16
    assert run(*command, "--crop", "17").code == 2
    assert run(*command, "--crop", "64").code == 1
    assert run("evaluate", "lipschitz", "--data", photos, "-m", "sr-x4").code == 3
    assert "lipschitz" in run("evaluate", "--help").text
