"""The engine runs what a network says: steps of any halo over any planes, exactly, which it has never seen before."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from irnscale.engine.executor import run
from irnscale.engine.plan import make_plan
from irnscale.networks import ActNorm, HaarTransform
from irnscale.networks.network import RescalingNetwork
from irnscale.networks.step import Layer, Level, Plane, Step, program_of, step_of_subnets

CPU = torch.device("cpu")


class Seen(nn.Conv2d):
    """A convolution that pads with zeros and says how far it sees."""

    def __init__(self, channels: int, out: int, support: int) -> None:
        super().__init__(channels, out, 2 * support + 1, padding=support)
        self.support = support


class Ring(Layer):
    """Three planes, each changed by others: b by a and c, 3 around; then a by b, 1 around; then c by b, 2 around."""

    def __init__(self, dims_in, dims_c=()):
        super().__init__(dims_in, dims_c)
        channels = dims_in[0][0]
        self.sizes = [channels // 6, channels // 3, channels // 2]
        a, b, c = self.sizes
        self.f = Seen(a + c, b, 3)
        self.g, self.h = Seen(b, a, 1), Seen(b, a, 1)
        self.k = Seen(b, c, 2)

    def forward(self, x, c=(), rev=False, jac=True):
        one, two, three = x[0].split(self.sizes, dim=1)
        sign = -1 if rev else 1
        if rev:
            three = three - self.k(two)
            one = (one - self.h(two)) * (-self.g(two).tanh()).exp()
        two = two + sign * self.f(torch.cat((one, three), 1))
        if not rev:
            one = one * self.g(two).tanh().exp() + self.h(two)
            three = three + self.k(two)
        return (torch.cat((one, two, three), 1),), x[0].new_zeros(x[0].shape[0])

    def output_dims(self, input_dims):
        return input_dims

    def steps(self, rev):
        sign = -1 if rev else 1

        def add(changing, results):
            changing[0].add_(results[0], alpha=sign)

        def affine(changing, results):
            (x,), (s, t) = changing, results
            x.copy_((x - t) * (-s.tanh()).exp() if rev else x * s.tanh().exp() + t)

        cut = [Plane(name, size) for name, size in zip("abc", self.sizes, strict=True)]
        found = [
            step_of_subnets(add, [self.f], planes=cut, reads=["a", "c"], changes=["b"]),
            step_of_subnets(affine, [self.g, self.h], planes=cut, reads=["b"], changes=["a"]),
            step_of_subnets(add, [self.k], planes=cut, reads=["b"], changes=["c"]),
        ]
        return found[::-1] if rev else found


class Rings(RescalingNetwork):
    """x4: two rings with a layer of single places between them on each level."""

    scale = 4

    def __init__(self) -> None:
        super().__init__(4)
        for _ in range(2):
            self.append(HaarTransform)
            self.append(Ring)
            self.append(ActNorm)
            self.append(Ring)


@pytest.fixture
def net():
    made = Rings()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made.double().requires_grad_(False)


def off(net, height, width, **order):
    """How far the tiled results are from those of the modules, relative to the largest, forward and inverse."""
    x = torch.rand(2, 3, height, width, dtype=torch.float64)
    whole, _ = net(x)
    y = torch.randn_like(whole)
    back, _ = net(y, rev=True)
    forward = (run(net, x, rev=False, **order) - whole).abs().max() / whole.abs().max()
    inverse = (run(net, y, rev=True, **order) - back).abs().max() / back.abs().max()
    return forward.item(), inverse.item()


@pytest.mark.parametrize("order", [(100, None, False), (9, None, True), (16, 3, False), (7, 1, True)], ids=str)
@pytest.mark.parametrize("size", [(4, 8), (92, 60), (8, 300), (300, 8)], ids=str)
def test_other_halos_and_planes_are_exact(net, size, order):
    tile, band, columns = order
    assert max(off(net, *size, tile=tile, band=band, columns=columns)) < 1e-12


@pytest.mark.parametrize("name", ["f", "g", "k"])
@pytest.mark.parametrize("band", [None, 2])
def test_each_halo_is_needed(net, name, band):
    """One position less of any step shows."""
    for layer in net.module_list:
        if isinstance(layer, Ring):
            getattr(layer, name).support -= 1
            if name == "g":
                layer.h.support -= 1
    assert min(off(net, 160, 48, tile=16, band=band)) > 1e-9


def test_a_step_waits_for_what_the_one_before_still_reads(net, monkeypatch):
    """Where each stays behind by its own halo alone, rows are changed that are still to be read."""
    assert max(off(net, 160, 16, tile=64, band=1)) < 1e-12
    monkeypatch.setattr(Level, "gaps", property(lambda level: [step.halo for step in level.steps]))
    assert max(off(net, 160, 16, tile=64, band=1)) > 1e-9


def test_what_a_program_says(net):
    for rev in (False, True):
        program = net.program(rev)
        assert (program.scale, program.rev, program.halo) == (4, rev, 3)
        assert [level.ratio for level in program.levels] == ([1, 2] if rev else [2, 1])
        for level in program.levels:
            assert [plane.name for plane in level.planes] == ["a", "b", "c"]
            halos = [step.halo for step in level.steps]
            assert halos == ([2, 1, 3, 0, 2, 1, 3] if rev else [3, 1, 2, 0, 3, 1, 2])
            assert level.gaps == [halos[0], *(max(pair) for pair in pairwise(halos))]
            assert level.rows(8) == sum(level.gaps) + halos[-1] + 8 + (2 if rev or level.ratio == 2 else 1)
    costs = [step.cost for level in net.program(False).levels for step in level.steps[:2]]
    weights = [p.numel() for p in net.module_list[1].parameters()]
    assert costs[0] == 1 + sum(weights[:2])
    assert costs[1] == 2 + sum(weights[2:6])


def test_plans_follow_the_halo(net):
    """Tiles of the same size take less memory where a step sees less far."""
    found = []
    for _ in range(2):
        plan = make_plan(net.program(False), 12000, 9000, device=CPU, dtype=torch.float32, tile=64)
        found.append((plan.tile_bytes, plan.window_bytes))
        for layer in net.modules():
            if isinstance(layer, Seen):
                layer.support = 0
    assert found[1][0] * 70**2 == found[0][0] * 64**2
    assert found[1][1] < found[0][1]


def test_what_is_no_program():
    def nothing(changing, results):
        pass

    with pytest.raises(ValueError, match="cannot read around a place what it changes"):
        Step(nothing, reads=("a",), changes=("b", "a"), subnets=(Seen(3, 3, 1),), halo=1)
    with pytest.raises(TypeError, match="Conv2d must say by `support`"):
        step_of_subnets(nothing, [nn.Conv2d(3, 3, 3)], planes=(), reads=["a"], changes=["b"])

    def layers(*cuts, reads="a"):
        made = []
        for cut in cuts:
            layer = ActNorm([(12, 8, 8)])
            layer.steps = lambda rev, cut=cut: [Step(nothing, planes=cut, reads=(reads,), changes=("b",))]
            made.append(layer)
        return [HaarTransform([(3, 8, 8)]), *made]

    cut = Plane("a", 4), Plane("b", 8)
    assert program_of(layers(cut, cut), rev=False, scale=2, channels=3).levels[0].planes == cut
    for wrong in ([cut, cut[::-1]], [(Plane("a", 4), Plane("b", 7))]):
        with pytest.raises(ValueError, match="cut its 12 channels in different ways"):
            program_of(layers(*wrong), rev=False, scale=2, channels=3)
    with pytest.raises(ValueError, match="a step names the plane 'z'"):
        program_of(layers(cut, reads="z"), rev=False, scale=2, channels=3)
