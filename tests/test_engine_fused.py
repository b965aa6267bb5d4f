"""Dense blocks in the kernels' own layout, in the engine and in training: the same as the modules."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import DEVICES, force_triton, random_image
from torch import nn

from irnscale.engine.fused import FusedSubnets, fuses
from irnscale.engine.subnets import Border, ModuleSubnets
from irnscale.kernels import launches
from irnscale.networks import DenseBlock, EnhancedAffineCoupling
from irnscale.networks.dense_block import on_kernels, run_together

pytestmark = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def _forced(monkeypatch):
    force_triton(monkeypatch)


def coupling(device, constant=""):
    """A coupling of narrow trained-looking dense blocks, of which one may be constant."""
    found = EnhancedAffineCoupling([(12, 4, 4)], subnet_constructor=lambda i, o: DenseBlock(i, o, growth=16)).to(device)
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.1)
    if constant:
        nn.init.zeros_(getattr(found, constant).conv5.weight)
    return found


@pytest.mark.parametrize("constant", ["", "s", "t"])
def test_the_engines_subnets_are_the_modules(device, constant, monkeypatch):
    net = coupling(device, constant)
    steps = [net.s, net.t], [net.p]
    fused, plain = [FusedSubnets(step, torch.float32) for step in steps], [ModuleSubnets(step) for step in steps]
    border = Border(1, 0, 2, 0)
    small, large = (random_image((1, c, 4, 6), torch.float32, device, requires_grad=False) for c in (3, 9))
    with torch.no_grad():
        launches(reset=True)
        got = (*fused[0](small, border), *fused[1](large, border))
        assert launches(reset=True)["dense_block"] == 10, "s and t in one launch per layer"
        monkeypatch.setenv("IRNSCALE_KERNELS", "torch")
        wanted = (*plain[0](small, border), *plain[1](large, border))
    for mine, theirs in zip(got, wanted, strict=True):
        assert mine.shape == theirs.shape
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_which_couplings_are_run_so(device):
    net = coupling(device)
    assert fuses([net.s, net.t], torch.bfloat16) == (device == "cuda"), "the CPU has a way of its own"
    assert not fuses([net.s, net.t], torch.float32)
    odd = EnhancedAffineCoupling([(12, 4, 4)], subnet_constructor=lambda i, o: DenseBlock(i, o, growth=4)).to(device)
    assert not fuses([odd.p], torch.bfloat16)


def test_a_coupling_trains_the_same(device, monkeypatch):
    net = coupling(device)
    x = random_image((1, 12, 4, 5), torch.float32, device)
    results = []
    for implementation in ("triton", "torch"):
        monkeypatch.setenv("IRNSCALE_KERNELS", implementation)
        launches(reset=True)
        (y,), _ = net([x], jac=False)
        grads = torch.autograd.grad(y.square().sum(), [x, *net.parameters()])
        assert launches(reset=True).get("dense_block", 0) == (20 if implementation == "triton" else 0)
        results.append((y, *grads))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * theirs.detach().abs().max().item())


def test_what_is_watched_or_fixed_is_run_by_itself(device):
    net = coupling(device)
    x = random_image((1, 3, 3, 3), torch.float32, device)
    assert on_kernels([net.s, net.t], x)
    seen = []
    handle = net.s.register_forward_hook(lambda *_: seen.append(1))
    assert not on_kernels([net.s, net.t], x)
    run_together((net.s, net.t), x)
    handle.remove()
    assert seen == [1]
    net.s.fix()
    assert not on_kernels([net.s, net.t], x)
    assert on_kernels([net.t], x)
    assert not on_kernels([nn.Identity()], x)
    assert not on_kernels([DenseBlock(3, 3, growth=4).to(device)], x)
