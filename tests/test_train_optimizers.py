"""Flat parameters, both optimisers, both clippings, and the step recorded as a graph."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training import CPU, TINY, batch

from irnscale.train.flat import FlatParameters
from irnscale.train.graph import WARM_UP, GraphedStep
from irnscale.train.objective import Objective
from irnscale.train.optimizers import BIAS_RATE, MUON_MOMENTUM, make_optimizer, optimizer_tensors, orthogonalise
from irnscale.train.trainer import Trainer

RATE = 3e-3


def small() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(2, 2))


def backward(net: nn.Module, seed: int) -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    net(x).square().sum().backward()


def test_flat_parameters_are_the_parameters():
    net = small()
    before = {name: p.clone() for name, p in net.named_parameters()}
    net[1].bias.requires_grad_(False)
    flat = FlatParameters(dict(net.named_parameters()))
    assert "1.bias" not in flat.shapes
    assert flat.values.numel() == sum(p.numel() for p in net.parameters()) - 4
    for name, view in flat.views(flat.values).items():
        assert torch.equal(view, before[name])
    backward(net, 0)
    for name, view in flat.views(flat.grads).items():
        assert torch.equal(view, net.get_parameter(name).grad)
        assert view.any()
    flat.values.zero_()
    assert not net[0].weight.any()
    assert [tuple(s.shape) for s in flat.stacks(flat.values)] == [(1, 4, 27), (2, 4, 36)]


def test_adam_is_torch_s():
    ours, theirs = small(), small()
    recipe = TINY.but(weight_decay=0.1, beta2=0.99)
    flat = FlatParameters(dict(ours.named_parameters()))
    optimizer = make_optimizer(recipe.optim, flat)
    reference = torch.optim.Adam(theirs.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.1)
    for step in range(4):
        flat.grads.zero_()
        reference.zero_grad()
        for net in (ours, theirs):
            backward(net, step)
        optimizer.step(torch.tensor(RATE), torch.ones(()))
        reference.step()
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, two)


def test_muon_by_hand():
    net = small()
    recipe = TINY.but(optimizer="muon", weight_decay=0.1, initial_lr=2 * BIAS_RATE)
    flat = FlatParameters(dict(net.named_parameters()))
    optimizer = make_optimizer(recipe.optim, flat)
    weight, momentum = net[2].weight.clone().double(), torch.zeros(4, 36, dtype=torch.float64)
    bias = net[2].bias.detach().clone().requires_grad_()
    reference = torch.optim.Adam([bias], lr=RATE / 2, betas=(recipe.optim.beta1, recipe.optim.beta2), weight_decay=0.1)
    for step in range(3):
        flat.grads.zero_()
        backward(net, step)
        grad = net[2].weight.grad.double().reshape(4, 36) + 0.1 * weight.reshape(4, 36)
        momentum = MUON_MOMENTUM * momentum + (1 - MUON_MOMENTUM) * grad
        nesterov = (1 - MUON_MOMENTUM) * grad + MUON_MOMENTUM * momentum
        x = nesterov / nesterov.norm()
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        weight -= (RATE * 0.2 * 36**0.5 * x).reshape(weight.shape)
        bias.grad = net[2].bias.grad.clone()
        reference.step()
        optimizer.step(torch.tensor(RATE), torch.ones(()))
    torch.testing.assert_close(net[2].weight.double(), weight, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net[2].bias, bias)


@pytest.mark.parametrize("shape", [(2, 32, 288), (1, 32, 27), (3, 9, 5)])
def test_orthogonal_updates(shape):
    values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
    assert values.shape[-1] == min(shape[-2:])
    assert 0.6 < values.min() < values.max() < 1.3


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_a_bad_step_changes_nothing(kind):
    net = small()
    flat = FlatParameters(dict(net.named_parameters()))
    optimizer = make_optimizer(TINY.but(optimizer=kind, weight_decay=0.1).optim, flat)
    backward(net, 0)
    optimizer.step(torch.tensor(RATE), torch.ones(()))
    before = {name: value.clone() for name, value in optimizer_tensors(optimizer, flat).items()}
    values = flat.values.clone()
    flat.grads.fill_(float("nan"))
    optimizer.step(torch.tensor(RATE), torch.zeros(()))
    assert torch.equal(flat.values, values)
    for name, value in optimizer_tensors(optimizer, flat).items():
        assert torch.equal(value, before[name]), name


def test_both_clippings(photos, tmp_path):
    norms, largest = [], []
    for changes in ({}, {"clip_value_max_g": 0.01}, {"clip_norm_max_g": 0.5}):
        recipe = TINY.but(clip_norm_max_g=1e9)
        trainer = Trainer(recipe.but(**changes), out=tmp_path, device=CPU)
        norms.append(trainer.train_step(batch(photos), 0.0)["grad_norm"].item())
        largest.append(trainer.parameters.grads.abs().max().item())
        if "clip_norm_max_g" in changes:
            assert trainer.parameters.grads.norm().item() == pytest.approx(0.5, rel=1e-4)
    assert largest[0] > 0.01
    assert largest[1] == pytest.approx(0.01)
    assert norms[1] < norms[0] == pytest.approx(norms[2]), "the norm is told as it was before it was clipped"


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_the_step_reads_no_value_back(photos, tmp_path, kind):
    """What a CUDA graph needs."""
    recipe = TINY.but(optimizer=kind, accumulate=2, zerosample=False, clip_value_max_g=1.0, compression_mode=True)
    trainer = Trainer(recipe, out=tmp_path, device=CPU)
    hr, lr = batch(photos)
    seen = []
    original = torch.Tensor.item
    with pytest.MonkeyPatch.context() as patch:
        for name in ("item", "tolist", "__bool__", "__float__", "__int__", "nonzero"):
            patch.setattr(torch.Tensor, name, lambda *_, name=name: seen.append(name) or original(_[0]))
        trainer.train_step((hr, lr), 1e-3)
    assert seen == []


def rerun(run):
    """A stand-in for a graph: like one, it writes into the same results each time; and it warms up before."""
    for _ in range(WARM_UP):
        run()
    outputs = {name: value.clone() for name, value in run().items()}

    def replay():
        for name, value in run().items():
            outputs[name].copy_(value)

    return outputs, replay


def test_a_graph_counts_its_first_step_once():
    """The first call records, and counts once, like any other."""
    total = torch.zeros(())

    def add(batch: tuple[torch.Tensor, ...], draws: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        total.add_(batch[0].sum() + batch[1].sum() + draws["z"].sum())
        return {"total": total.clone()}

    step = GraphedStep(add, [total], rerun)
    ones, z = torch.ones(1), {"z": torch.full((1,), 10.0)}
    assert [step((n * ones, ones), z)["total"].item() for n in (1, 2, 3)] == [12, 25, 39]


@pytest.mark.parametrize("kind", ["adam", "muon"])
def test_a_recorded_run_is_the_same(photos, tmp_path, kind):
    """All that a step changes is put back after recording: weights, averages, the optimiser's state, skipped steps."""
    hr, lr = batch(photos)
    states = []
    for recorded in (False, True):
        recipe = TINY.but(optimizer=kind, zerosample=False, actnorm=True, weight_decay=0.1)
        trainer = Trainer(recipe, out=tmp_path / str(recorded), device=CPU)
        if recorded:
            trainer._advance = GraphedStep(trainer._compute, trainer._mutable(), rerun)
        losses = [trainer.train_step((hr * k, lr * k), 1e-3)["loss"] for k in (1.0, 0.5, float("nan"), 0.8)]
        states.append([torch.stack(losses), trainer.average, trainer.bad, *trainer.weights().values()])
        states[-1] += list(trainer.optimizer.state.values())
    assert states[0][2].tolist() == [1, 0], "the step that is not finite was skipped"
    for plain, graphed in zip(*states, strict=True):
        assert torch.equal(plain.nan_to_num(), graphed.nan_to_num())


def test_steps_are_not_recorded_unless_asked():
    """Off until it has been timed on a device."""
    assert not TINY.run.cuda_graph


@pytest.mark.gpu
def test_the_graph_on_a_gpu(photos, tmp_path):
    """The same losses with and without it."""
    device = torch.device("cuda")
    losses = []
    for graph in (False, True):
        recipe = TINY.but(cuda_graph=graph, zerosample=False)
        trainer = Trainer(recipe, out=tmp_path, device=device)
        hr, lr = (x.to(device) for x in batch(photos))
        losses.append([trainer.train_step((hr, lr), 1e-3)["loss"].item() for _ in range(5)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_ema_follows_the_weights(photos, tmp_path):
    recipe = TINY.but(ema=0.5, init="x")
    trainer = Trainer(recipe.but(init=None), out=tmp_path, device=CPU)
    trainer.recipe = recipe  # with `init` the decay is constant from the first step
    start = trainer.average.clone()
    trainer.train_step(batch(photos), 1e-2)
    torch.testing.assert_close(trainer.average, (start + trainer.parameters.values) / 2)
    with trainer.averaged() as objective:
        assert isinstance(objective, Objective)
        assert torch.equal(trainer.parameters.values, trainer.average)
    assert not torch.equal(trainer.parameters.values, trainer.average)
