"""Dense blocks on channel slices of one buffer: outputs and all gradients against the definition in float64."""

from __future__ import annotations

from importlib import import_module
from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import CASES, DEVICES, LAYOUTS, TOLERANCE, force_triton, random_image

from irnscale import kernels
from irnscale.kernels import kernel, launches, reference
from irnscale.kernels.dense_layout import DenseLayout

pytestmark = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def _forced(monkeypatch):
    """Small programs, so that a picture of a few pixels has many of them."""
    force_triton(monkeypatch)
    module = import_module("irnscale.kernels.dense_block")
    if kernels.interpreted():
        small = {"PIXELS": 32, "FEW_PIXELS": 16, "MANY": 40, "POSITIONS": 32, "ROWS": 64, "SPLITS": 2}
        for name, value in small.items():
            monkeypatch.setattr(module, name, value)


def parameters(channels, growth, out, dtype, device, groups=1):
    """Weights and biases of some dense blocks, of a size that keeps their features near 1, as leaves."""
    outs = [growth] * 4 + [out]
    inputs = [channels + k * growth for k in range(5)]
    blocks = []
    for _ in range(groups):
        weights = [torch.randn(o, i, 3, 3) / (3 * i**0.5) for o, i in zip(outs, inputs, strict=True)]
        found = [*weights, *(torch.randn(o) for o in outs)]
        blocks.append([p.to(device, dtype).requires_grad_() for p in found])
    return blocks


def close(got, wanted, dtype, factor=3):
    """Features, and gradients on the way back, are stored in `dtype`, each a rounding of its own.

    In 16 bits a feature near zero may fall on the other side of LeakyReLU's bend, which the gradients show.
    """
    assert got.shape == wanted.shape
    error = (got.double() - wanted).square().mean().sqrt()
    assert torch.isfinite(error), "something was read that nobody wrote"
    assert error <= factor * TOLERANCE[dtype] * wanted.square().mean().sqrt().clamp(min=1e-2)


def check(device, dtype, shape, growth, out, layout, groups):
    x = random_image(shape, dtype, device, layout)
    blocks = parameters(shape[1], growth, out, dtype, device, groups)
    launches(reset=True)
    found = kernels.dense_blocks(x, blocks)
    assert launches(reset=True) == {"dense_block": 5}
    double = x.detach().double().requires_grad_()
    doubles = [[p.detach().double().requires_grad_() for p in block] for block in blocks]
    wanted = [reference.dense_block(double, block[:5], block[5:]) for block in doubles]
    grads = [torch.randn_like(y) for y in wanted]
    for got, y in zip(found, wanted, strict=True):
        assert got.dtype == dtype
        close(got, y, dtype)
    torch.autograd.backward(found, [g.to(dtype) for g in grads])
    assert launches(reset=True) == {"dense_block": 5, "dense_block_backward": 5}
    torch.autograd.backward(wanted, [g.to(dtype).double() for g in grads])
    factor = 4 if dtype == torch.float32 else 40
    close(x.grad, double.grad, dtype, factor)
    for mine, theirs in zip(chain(*blocks), chain(*doubles), strict=True):
        close(mine.grad, theirs.grad, dtype, factor)


@settings(CASES, max_examples=4)
@given(
    dtype=st.sampled_from((torch.float32, torch.bfloat16, torch.float16)),
    n=st.integers(1, 2),
    channels=st.integers(1, 18),
    size=st.tuples(st.integers(1, 4), st.integers(1, 7)),
    growth=st.sampled_from((16, 32)),
    out=st.integers(1, 18),
    layout=st.sampled_from(LAYOUTS),
    groups=st.integers(1, 2),
)
def test_values_and_gradients(device, dtype, n, channels, size, growth, out, layout, groups):
    check(device, dtype, (n, channels, *size), growth, out, layout, groups)


@pytest.mark.parametrize(("channels", "out", "groups"), [(45, 3, 1), (3, 9, 2)])
def test_the_networks_own_sizes(device, channels, out, groups):
    check(device, torch.float32, (1, channels, 3, 5), 32, out, "channels_last", groups)


def test_what_is_not_wanted_is_not_computed(device):
    """Frozen weights, and an input without a gradient."""
    x = random_image((1, 3, 4, 5), torch.float32, device)
    (block,) = parameters(3, 16, 2, torch.float32, device)
    for p in block:
        p.requires_grad_(False)
    launches(reset=True)
    kernels.dense_blocks(x, [block])[0].sum().backward()
    assert launches(reset=True) == {"dense_block": 10}
    for p in block:
        p.requires_grad_(True)
    kernels.dense_blocks(x.detach(), [block])[0].sum().backward()
    assert launches(reset=True) == {"dense_block": 9, "dense_block_backward": 5}
    assert all(p.grad is not None for p in block)
    with torch.no_grad():
        kernels.dense_blocks(x, [block])
    assert launches(reset=True) == {"dense_block": 5}


def test_a_step_repeats_itself_bit_for_bit(device):
    x = random_image((1, 3, 5, 9), torch.float32, device)
    (block,) = parameters(3, 16, 3, torch.float32, device)
    seen = []
    for _ in range(2):
        for p in (x, *block):
            p.grad = None
        kernels.dense_blocks(x, [block])[0].square().sum().backward()
        seen.append([p.grad.clone() for p in (x, *block)])
    assert all(torch.equal(a, b) for a, b in zip(*seen, strict=True))


def test_weight_gradients_on_a_second_stream(device, monkeypatch):
    """Which stream waits for which: each weight gradient for what it reads, and their sums for all of them."""
    if device != "cpu":
        pytest.skip("on stand-ins for CUDA's streams")
    module = kernel("dense_block")
    streams = import_module("irnscale.kernels.streams")
    seen = []

    class Stream:
        device = torch.device("cpu")

        def __init__(self, name):
            self.name = name

        def wait_stream(self, other):
            seen.append(f"{self.name} waits for {other.name}")

        def __enter__(self):
            seen.append("on second")

        def __exit__(self, *_):
            seen.append("on first")

    first, second = Stream("first"), Stream("second")
    monkeypatch.setattr(module, "second_stream", lambda _: second)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: first)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    honest = module.launch

    def launch(run, *arguments, **options):
        seen.append(run.fn.__name__)
        honest(run, *arguments, **options)

    monkeypatch.setattr(module, "launch", launch)
    x = random_image((1, 3, 2, 2), torch.float32, device)
    (block,) = parameters(3, 16, 2, torch.float32, device)
    (y,) = kernels.dense_blocks(x, [block])
    seen.clear()
    y.sum().backward()
    fork = ["second waits for first", "on second", "_weight_gradient", "on first", "_convolve"]
    assert seen == [*(fork * 5), "first waits for second"]
    assert streams.second_stream(x) is None, "there is no second stream on a CPU"


def test_packed_once_it_gives_the_same(device):
    x = random_image((1, 3, 6, 7), torch.float32, device, requires_grad=False)
    blocks = parameters(3, 16, 5, torch.float32, device, groups=2)
    packed = kernels.DenseWeights.pack(blocks, torch.float32)
    for got, y in zip(packed(x), kernels.dense_blocks(x, blocks), strict=True):
        assert torch.equal(got, y)


def test_a_mutated_store_is_seen(device, monkeypatch):
    """That these tests can fail: without the slope of LeakyReLU on the way back they do."""
    module = kernel("dense_block")
    monkeypatch.setattr(module, "_SLOPE", module._BARE)
    with pytest.raises(AssertionError):
        check(device, torch.float32, (1, 3, 4, 5), 16, 2, "channels_last", 1)


def test_bad_arguments_are_named(device):
    x = random_image((1, 3, 2, 2), torch.float32, device)
    (block,) = parameters(3, 16, 2, torch.float32, device)
    with pytest.raises(ValueError, match=r"^x "):
        kernels.dense_blocks(x[0], [block])
    with pytest.raises(ValueError, match=r"^x must have 4 channels"):
        kernels.dense_blocks(x, parameters(4, 16, 2, torch.float32, device))
    with pytest.raises(ValueError, match=r"^blocks\[1\]"):
        kernels.dense_blocks(x, [block, parameters(3, 16, 3, torch.float32, device)[0]])
    with pytest.raises(ValueError, match=r"^blocks must"):
        kernels.dense_blocks(x, [])


@pytest.mark.parametrize("sizes", [(9, 3, 32), (3, 9, 32), (45, 3, 32), (16, 16, 16), (1, 1, 48)])
def test_maps_are_permutations(device, sizes):
    layout = DenseLayout(*sizes)
    flat = torch.arange(1.0, layout.weights + 1, dtype=torch.float64)
    forward, backward, gradients = layout.maps
    for index in (forward, backward):
        packed = torch.cat((flat, flat.new_zeros(1)))[index]
        assert torch.equal(packed[packed > 0].sort().values, flat), "each weight has its place, the rest is zero"
    assert gradients.unique().numel() == layout.weights
    assert layout.bias_map.unique().numel() == 4 * sizes[2] + sizes[1]
