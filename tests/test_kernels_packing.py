"""Dense blocks on parameters that are packed once per step: the same numbers as packed block by block."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from kernel_cases import DEVICES, force_triton, random_image
from test_kernels_dense_block import close, parameters

from irnscale import kernels
from irnscale.kernels import DensePacking, reference
from irnscale.train import trainer as trainers
from irnscale.train.config import Recipe
from irnscale.train.trainer import Trainer

pytestmark = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def _forced(monkeypatch):
    """Small programs, so that a picture of a few pixels has several."""
    force_triton(monkeypatch)
    module = import_module("irnscale.kernels.dense_block")
    if kernels.interpreted():
        for name, value in {"PIXELS": 32, "FEW_PIXELS": 16, "MANY": 40, "POSITIONS": 32, "SPLITS": 2}.items():
            monkeypatch.setattr(module, name, value)


def as_views(groups, device):
    """All parameters of blocks as views of one vector, in a mixed order, among some that are nobody's."""
    count = sum(p.numel() for blocks in groups for block in blocks for p in block)
    values = torch.randn(count + 7, device=device)
    start, viewed = 3, []
    for blocks in reversed(groups):
        mine = []
        for block in blocks:
            found = []
            for p in block:
                view = values[start : start + p.numel()].view(p.shape).copy_(p.detach())
                found.append(view)
                start += p.numel()
            mine.append(found)
        viewed.insert(0, mine)
    return values, viewed


@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.slow)])
def test_two_passes_and_their_gradients(device, dtype):
    """Two groups, of one and of two blocks, each run twice; against the definition in float64."""
    made = [parameters(18, 16, 3, dtype, device), parameters(3, 16, 5, dtype, device, groups=2)]
    values, groups = as_views(made, device)
    grads = torch.full_like(values, 0.5)
    packing = DensePacking(values, grads, groups, dtype)
    xs = [random_image((1, c, 2, 3), torch.float32, device) for c in (18, 3)]
    packing.pack()
    found = [y for _ in range(2) for group, x in zip(packing.groups, xs, strict=True) for y in group(x)]
    doubles = [[[p.detach().double().requires_grad_() for p in block] for block in blocks] for blocks in groups]
    exact = [x.detach().double().requires_grad_() for x in xs]
    wanted = [
        reference.dense_block(x.to(dtype).double(), b[:5], b[5:])
        for _ in range(2)
        for blocks, x in zip(doubles, exact, strict=True)
        for b in blocks
    ]
    loads = [torch.randn_like(y).to(dtype) for y in wanted]
    torch.autograd.backward(found, loads)
    torch.autograd.backward(wanted, [g.double() for g in loads])
    packing.unpack()
    factor = 4 if dtype == torch.float32 else 40
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype == dtype
        close(mine, theirs, dtype)
    for x, double in zip(xs, exact, strict=True):
        close(x.grad, double.grad, dtype, factor)
    start = 3
    for blocks in reversed(doubles):
        for block in blocks:
            for p in block:
                close(grads[start : start + p.numel()].view(p.shape) - 0.5, p.grad, dtype, factor)
                start += p.numel()
    assert (grads[:3] == 0.5).all(), "what is nobody's is left alone"
    assert (grads[start:] == 0.5).all()
    packing.pack()
    packing.unpack()
    assert (grads[3:start].float() != 0.5).any(), "gradients of the last step are not added again"


def test_parameters_elsewhere_are_refused(device):
    values = torch.zeros(100000, device=device)
    with pytest.raises(ValueError, match="views of values"):
        DensePacking(values, values.clone(), [parameters(3, 16, 3, torch.float32, device)], torch.float32)


@pytest.mark.parametrize(
    "more",
    [
        {"constant_scales": [1]},
        *(pytest.param(more, marks=pytest.mark.slow) for more in ({}, {"accumulate": 2}, {"save_memory": True})),
    ],
    ids=lambda more: "".join(more),
)
def test_a_step_is_the_same(device, more, tmp_path, monkeypatch):
    """A step of the trainer with and without it; what comes after it sees the averaged weights."""
    count = more.get("accumulate", 1)
    recipe = Recipe.of(
        scale=2, inv_per_ds=1, growth=16, batch_size=count, img_size=4, precision="float32", zero_last=False, **more
    )
    hr = torch.rand(count, 3, 4, 4).to(device)
    lr = torch.rand(count, 3, 2, 2).to(device)
    seen, packed = [], []
    honest = trainers.packed_network
    for pack in (True, False):
        monkeypatch.setattr(trainers, "packed_network", honest if pack else lambda *_: None)
        trainer = Trainer(recipe, out=tmp_path / str(pack), device=torch.device(device))
        packed.append(trainer._packed)
        loss = trainer.train_step((hr, lr), 1e-3)["loss"]
        grads = trainer.parameters.grads.clone()
        with trainer.averaged() as objective, torch.no_grad():
            small = objective.downscale(hr)
        seen.append([loss, grads, small])
    assert packed[1] is None
    assert packed[0] is not None
    for mine, theirs in zip(*seen, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())
