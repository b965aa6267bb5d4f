"""Gradients: the dense block's own backward pass, and activations recomputed through the inverse."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from training import TINY

from irnscale.networks import DenseBlock
from irnscale.networks.dense_block import SLOPE
from irnscale.networks.network import through
from irnscale.train.objective import objective_of
from irnscale.train.objectives.rescaling import Rescaling
from irnscale.train.reversible import through_inverses

DEEP = TINY.but(scale=4, inv_per_ds=4, growth=8, actnorm=True, compression_mode=True, codec_blocks=1)


def plain(block: DenseBlock, x: torch.Tensor) -> torch.Tensor:
    """The definition, by autograd."""
    features = [x]
    for conv in block.convolutions:
        features.append(nn.functional.leaky_relu(conv(torch.cat(features, dim=1)), SLOPE))
    return block.convolutions[4](torch.cat(features[:5], dim=1))


@pytest.mark.parametrize(("channels", "frozen"), [((3, 5), False), ((45, 3), False), ((3, 5), True)])
def test_the_dense_block_has_autograd_s_gradients(channels, frozen):
    block = DenseBlock(*channels, growth=4).double()
    nn.init.normal_(block.conv5.weight)
    block.requires_grad_(not frozen)
    x = torch.randn(2, channels[0], 5, 7, dtype=torch.float64, requires_grad=True)
    inputs = [x] if frozen else [x, *block.parameters()]
    direction = torch.randn(2, channels[1], 5, 7, dtype=torch.float64)
    ours = torch.autograd.grad((block(x) * direction).sum(), inputs)
    theirs = torch.autograd.grad((plain(block, x) * direction).sum(), inputs)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)


def test_the_dense_block_needs_no_gradient_of_an_image():
    block = DenseBlock(3, 5, growth=4)
    block(torch.randn(1, 3, 5, 7)).sum().backward()
    assert block.conv5.weight.grad.any()


def test_gradients_in_bfloat16_are_close():
    block = DenseBlock(3, 9)
    nn.init.normal_(block.conv5.weight, std=0.02)
    x = torch.randn(2, 3, 12, 12)
    (expected,) = torch.autograd.grad(plain(block, x).square().sum(), [block.conv1.weight])
    block.compute_dtype = torch.bfloat16
    (given,) = torch.autograd.grad(block(x).square().sum(), [block.conv1.weight])
    assert given.dtype == torch.float32
    assert (given - expected).norm() < 0.03 * expected.norm()


def loss_and_gradients(saving: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    torch.manual_seed(3)
    objective = Rescaling(DEEP).double()
    for block in objective.net.dense_blocks():
        nn.init.normal_(block.conv5.weight, std=0.1)
    objective.net.through = through_inverses if saving else through
    hr = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    lr = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    loss = objective(hr, lr, objective_of(DEEP).draw(2, step=0))["loss"].sum()
    loss.backward()
    return loss, [p.grad for p in objective.parameters()]


def test_recomputed_activations_give_the_same_gradients():
    (loss, grads), (loss_again, grads_again) = loss_and_gradients(False), loss_and_gradients(True)
    assert torch.equal(loss, loss_again)
    assert all(grad.any() for grad in grads_again)
    for one, two in zip(grads, grads_again, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-7, atol=1e-9 * one.abs().max().item())


class Saved:
    """Bytes that autograd keeps for the backward pass, counted once each."""

    def __init__(self) -> None:
        self.storages: dict[int, int] = {}

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        self.storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    @property
    def bytes(self) -> int:
        return sum(self.storages.values())


def test_recomputed_activations_take_less_memory():
    """What is kept between the passes is one state, whatever the depth."""
    kept = {}
    for saving in (False, True):
        for depth in (2, 6):
            objective = Rescaling(DEEP.but(inv_per_ds=depth, compression_mode=False, codec_blocks=0))
            objective.net.through = through_inverses if saving else through
            saved = Saved()
            with torch.autograd.graph.saved_tensors_hooks(saved.pack, lambda tensor: tensor):
                result = objective(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 8, 8), {})
            result["loss"].sum().backward()
            kept[saving, depth] = saved.bytes
    assert kept[True, 6] == kept[True, 2]
    assert kept[True, 6] < 0.05 * kept[False, 6]
    assert kept[False, 6] > 2 * kept[False, 2]
