"""The dense-block experiment against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import CASES, DEVICES, LAYOUTS, TOLERANCE, force_triton, random_image

from irnscale.kernels import kernel, launches, reference

pytestmark = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def _forced(monkeypatch):
    force_triton(monkeypatch)


def parameters(channels, growth, out, dtype, device):
    """The weights and biases of a dense block, of a size that keeps its features near 1."""
    outs = [growth] * 4 + [out]
    inputs = [channels + k * growth for k in range(5)]
    weights = [torch.randn(o, i, 3, 3) / (3 * i**0.5) for o, i in zip(outs, inputs, strict=True)]
    return [w.to(device, dtype) for w in weights], [torch.randn(o).to(device, dtype) for o in outs]


def check(device, dtype, shape, growth, out, layout, tile):
    module = kernel("dense_block")
    x = random_image(shape, dtype, device, layout, requires_grad=False)
    weights, biases = parameters(shape[1], growth, out, dtype, device)
    launches(reset=True)
    y = module.dense_block(x, module.pack(weights), biases, 0.2, module.Tile(*tile))
    assert launches(reset=True) == {"dense_block": 5}
    wanted = reference.dense_block(x.double(), [w.double() for w in weights], [b.double() for b in biases])
    assert y.shape == wanted.shape
    assert y.dtype == dtype
    error = (y.double() - wanted).square().mean().sqrt() / wanted.square().mean().sqrt()
    # Its four features are stored in the dtype of x on the way, each a rounding of its own.
    assert error <= 2 * TOLERANCE[dtype]


@settings(CASES, max_examples=6)
@given(
    dtype=st.sampled_from((torch.float32, torch.bfloat16, torch.float16)),
    n=st.integers(1, 2),
    channels=st.integers(1, 9),
    size=st.tuples(st.integers(1, 2), st.integers(1, 9)),
    growth=st.sampled_from((3, 5)),
    out=st.integers(1, 9),
    layout=st.sampled_from(LAYOUTS),
    tile=st.sampled_from(((16, 16), (32, 16))),
)
def test_value(device, dtype, n, channels, size, growth, out, layout, tile):
    check(device, dtype, (n, channels, *size), growth, out, layout, tile)


def test_the_networks_own_size(device):
    """Growth 32, 45 channels in: several steps of depth and several tiles of columns."""
    check(device, torch.float32, (1, 70, 3, 5), 32, 9, "channels_last", (16, 64))


def test_bad_arguments_are_named(device):
    module = kernel("dense_block")
    x = random_image((1, 3, 2, 2), torch.float32, device)
    weights, biases = parameters(3, 4, 2, torch.float32, device)
    packed = module.pack(weights)
    with pytest.raises(ValueError, match=r"^x "):
        module.dense_block(x[0], packed, biases)
    for wrong in (packed[0].half(), packed[0][:, :2]):
        with pytest.raises(ValueError, match=r"^packed\[0\] "):
            module.dense_block(x, [wrong, *packed[1:]], biases)
