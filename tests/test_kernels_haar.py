"""The Haar kernels against their definition: values, gradients, 8-bit pixels, layouts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import CASES, DEVICES, DTYPES, LAYOUTS, SHAPES, assert_close, force_triton, in_double, random_image

from irnscale.kernels import haar_forward, haar_inverse, reference

pytestmark = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def _forced(monkeypatch):
    force_triton(monkeypatch)


def forward_shape(shape):
    """An input of `haar_forward` whose result has the odd spatial size of `shape`."""
    n, c, h, w = shape
    return n, c, 2 * h, 2 * w


def inverse_shape(shape):
    """An input of `haar_inverse`."""
    n, c, h, w = shape
    return n, 4 * c, h, w


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("step", ["forward", "inverse"])
@CASES
@given(shape=SHAPES, layout=st.sampled_from(LAYOUTS), grad_layout=st.sampled_from(LAYOUTS))
def test_value_and_gradient(device, step, dtype, shape, layout, grad_layout):
    kernel, definition, shape_of = {
        "forward": (haar_forward, reference.haar_forward, forward_shape),
        "inverse": (haar_inverse, reference.haar_inverse, inverse_shape),
    }[step]
    x = random_image(shape_of(shape), dtype, device, layout)
    y, wanted = kernel(x), definition(x64 := in_double(x))
    assert y.dtype == dtype
    assert_close(y, wanted)
    grad = random_image(y.shape, dtype, device, grad_layout, requires_grad=False)
    (dx,) = torch.autograd.grad(y, x, grad)
    (dx64,) = torch.autograd.grad(wanted, x64, grad.double())
    assert_close(dx, dx64)


@pytest.mark.parametrize("kernel", [haar_forward, haar_inverse])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_of_gradient(device, kernel, layout):
    x = random_image((1, 4, 2, 4), torch.float64, device, layout)
    torch.autograd.gradcheck(kernel, x, fast_mode=True)
    torch.autograd.gradgradcheck(kernel, x, fast_mode=True)


@pytest.mark.parametrize("definition", [reference.haar_forward, reference.haar_inverse])
def test_definition_gradient(device, definition):
    torch.autograd.gradcheck(definition, random_image((1, 4, 2, 4), torch.float64, device))


@CASES
@given(shape=SHAPES, channels_last=st.booleans())
def test_from_uint8(device, shape, channels_last):
    x = torch.randint(0, 256, forward_shape(shape), dtype=torch.uint8).to(device)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    y = haar_forward(x)
    assert y.dtype == torch.float32
    assert_close(y, reference.haar_forward(x.double() / 255))


@CASES
@given(shape=SHAPES, layout=st.sampled_from(LAYOUTS))
def test_to_uint8(device, shape, layout):
    """Clamped and rounded as the definition does, to the last level."""
    y = random_image(inverse_shape(shape), torch.float32, device, layout)
    x = haar_inverse(y, to_uint8=True)
    assert torch.equal(x, reference.haar_inverse(y, to_uint8=True))
    assert not x.requires_grad


def test_every_level_survives(device):
    """All 256 levels, 8 bit -> coefficients -> 8 bit."""
    x = torch.arange(256, dtype=torch.uint8, device=device).view(1, 1, 16, 16)
    assert torch.equal(haar_inverse(haar_forward(x), to_uint8=True), x)


def test_ties_round_to_even(device):
    """Halves between two levels go to the even one, values outside [0, 1] to the ends."""
    # A coefficient block with only LL set is a constant 2 x 2 block of LL.
    values = torch.arange(-4, 516, dtype=torch.float32, device=device).view(1, 1, 10, 52) / 510
    y = torch.cat([values, torch.zeros_like(values).expand(1, 3, 10, 52)], dim=1)
    assert torch.equal(haar_inverse(y, to_uint8=True), reference.haar_inverse(y, to_uint8=True))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_layout_is_kept(device, memory_format):
    x = random_image((2, 3, 4, 6), torch.float32, device).contiguous(memory_format=memory_format)
    y = haar_forward(x)
    assert y.is_contiguous(memory_format=memory_format)
    assert haar_inverse(y).is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("tile", [2, 1024])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_tile_size(device, tile, layout, monkeypatch):
    force_triton(monkeypatch, tile)
    x = random_image((2, 3, 2, 6), torch.float32, device, layout, requires_grad=False)
    assert_close(haar_forward(x), reference.haar_forward(x.double()))
    assert_close(haar_inverse(haar_forward(x)), x)
