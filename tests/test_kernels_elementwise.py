"""The additive half-step, quantisation, and bias with LeakyReLU, against their definitions."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import CASES, DEVICES, DTYPES, LAYOUTS, SHAPES, assert_close, force_triton, in_double, random_image

from irnscale.kernels import (
    additive_forward,
    additive_inverse,
    bias_lrelu_backward,
    bias_lrelu_into,
    quantize,
    reference,
)

pytestmark = pytest.mark.parametrize("device", DEVICES)
LAYOUT_PAIRS = st.tuples(st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS))


@pytest.fixture(autouse=True)
def _forced(monkeypatch):
    force_triton(monkeypatch)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("step", [additive_forward, additive_inverse])
@CASES
@given(shape=SHAPES, layouts=LAYOUT_PAIRS, reduced=st.booleans())
def test_additive(device, step, dtype, shape, layouts, reduced):
    x = random_image(shape, dtype, device, layouts[0])
    p_dtype = torch.bfloat16 if reduced and dtype == torch.float32 else dtype
    p = random_image(shape, p_dtype, device, layouts[1])
    y = step(x, p)
    x64, p64 = in_double(x), in_double(p)
    wanted = getattr(reference, step.__name__)(x64, p64)
    assert y.dtype == dtype
    assert_close(y, wanted, scale=x64.abs() + p64.abs())
    grad = random_image(shape, dtype, device, layouts[2], requires_grad=False)
    for g, g64 in zip(
        torch.autograd.grad(y, (x, p), grad), torch.autograd.grad(wanted, (x64, p64), grad.double()), strict=True
    ):
        assert_close(g, g64)


@pytest.mark.parametrize("step", [additive_forward, additive_inverse])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_additive_in_place(device, step, layout):
    x = random_image((2, 3, 5, 7), torch.float32, device, layout, requires_grad=False)
    p = random_image((2, 3, 5, 7), torch.float32, device)
    wanted = step(x, p)
    address, version = x.data_ptr(), x._version
    y = step(x, p, inplace=True)
    assert y.data_ptr() == address
    assert x._version > version
    assert torch.equal(x, wanted)
    (dp,) = torch.autograd.grad(y.square().sum(), p)
    assert_close(dp, (2 if step is additive_forward else -2) * wanted)


def test_additive_in_place_refuses_what_autograd_needs(device):
    x = random_image((1, 1, 2, 2), torch.float32, device)
    with pytest.raises(RuntimeError, match="leaf"):
        additive_forward(x, x.detach(), inplace=True)
    y = x * 1
    loss = y.square().sum()
    additive_forward(y, x.detach(), inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("step", [additive_forward, additive_inverse])
def test_additive_gradients_in_double(device, step):
    inputs = [random_image((1, 2, 2, 3), torch.float64, device) for _ in range(2)]
    torch.autograd.gradcheck(step, inputs, fast_mode=True)
    torch.autograd.gradgradcheck(step, inputs, fast_mode=True)
    torch.autograd.gradcheck(getattr(reference, step.__name__), inputs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@CASES
@given(shape=SHAPES, layout=st.sampled_from(LAYOUTS), depth=st.sampled_from((8, 16)))
def test_quantize(device, dtype, shape, layout, depth):
    x = random_image(shape, dtype, device, layout)
    y = quantize(x, depth=depth)
    assert y.dtype == dtype
    # Rounding jumps: compare in the kernel's own arithmetic, float32 for the reduced precisions.
    wide = x.detach().to(torch.promote_types(dtype, torch.float32))
    assert_close(y, reference.quantize(wide, depth=depth))
    levels = quantize(x, depth=depth, to_integer=True)
    assert levels.dtype == {8: torch.uint8, 16: torch.uint16}[depth]
    assert torch.equal(levels, reference.quantize(wide, depth=depth, to_integer=True))
    assert not levels.requires_grad
    grad = torch.randn_like(y)
    (dx,) = torch.autograd.grad(y, x, grad)
    assert torch.equal(dx, grad), "straight through, also where clamped"


def test_quantize_ties_ends_and_not_a_number(device, monkeypatch):
    x = torch.arange(-6, 518, dtype=torch.float32, device=device).view(1, 1, 4, 131) / 510
    assert_close(quantize(x), reference.quantize(x))
    assert torch.equal((quantize(x) * 255).round(), (reference.quantize(x) * 255).round())
    odd = torch.tensor([torch.inf, -torch.inf, torch.nan, 2.0], device=device).view(1, 1, 2, 2)
    assert quantize(odd)[0, 0, 0].tolist() == [1.0, 0.0]
    assert quantize(odd)[0, 0, 1, 0].isnan(), "an overflow must not pass as black"
    monkeypatch.setattr(import_module("irnscale.kernels.tiling"), "TILE", 4096)  # 65,536 levels take long in small ones
    for depth, top in ((8, 255), (16, 65535)):
        every = torch.arange(top + 1, device=device).view(1, 1, 256, -1)
        assert torch.equal(quantize(every / top, depth=depth, to_integer=True).long(), every), "no level is lost"
        assert quantize(odd, depth=depth, to_integer=True).flatten().tolist() == [top, 0, 0, top]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@CASES
@given(
    shape=SHAPES,
    layouts=LAYOUT_PAIRS,
    before=st.integers(0, 2),
    after=st.integers(0, 2),
    channels_last=st.booleans(),
    slope=st.sampled_from((0.2, 0.0)),
)
def test_bias_lrelu(device, dtype, shape, layouts, before, after, channels_last, slope):
    n, c, h, w = shape
    x = random_image(shape, dtype, device, layouts[0])
    bias = torch.randn(c, dtype=torch.float64).to(device=device, dtype=dtype).requires_grad_()
    layout = "channels_last" if channels_last else "contiguous"
    seed = random_image((n, before + c + after, h, w), dtype, device, layout)
    results = []
    for run, operands in (
        (bias_lrelu_into, (x, bias, seed)),
        (reference.bias_lrelu_into, tuple(in_double(v) for v in (x, bias, seed))),
    ):
        # Times one: a leaf may not be written into. The square makes the gradient depend on all channels.
        out = operands[2] * 1
        view = run(operands[0], operands[1], out, before, slope)
        grad = random_image(out.shape, dtype, device, layouts[1], requires_grad=False)
        results.append((view, out, grad, operands))
        torch.manual_seed(1)
    (view, out, grad, operands), (view64, out64, _, operands64) = results
    assert view.data_ptr() == out[:, before:].data_ptr(), "the slice itself, not a copy"
    assert_close(view, view64)
    assert_close(out, out64)
    got = torch.autograd.grad(out, operands, grad)
    wanted = torch.autograd.grad(out64, operands64, grad.double())
    sizes = [None, grad[:, before : before + c].double().abs().sum(dim=(0, 2, 3)), None]
    for g, g64, size in zip(got, wanted, sizes, strict=True):
        assert_close(g, g64, scale=size)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_bias_lrelu_gradient_from_the_output_alone(device, layout):
    """A dense block that keeps its buffer needs no input: the output's sign says which side it was on."""
    x = random_image((2, 5, 3, 7), torch.float32, device, layout)
    bias = torch.randn(5, device=device, requires_grad=True)
    y = torch.nn.functional.leaky_relu(x + bias.view(1, -1, 1, 1), 0.2)
    grad = random_image(y.shape, torch.float32, device, layout, requires_grad=False)
    wanted = torch.autograd.grad(y, (x, bias), grad)
    for run in (bias_lrelu_backward, reference.bias_lrelu_backward):
        dx, dbias = run(grad, y.detach(), 0.2)
        assert_close(dx, wanted[0])
        assert_close(dbias, wanted[1], scale=grad.abs().sum(dim=(0, 2, 3)))
    assert run(grad, y.detach(), bias_dtype=torch.float64)[1].dtype == torch.float64


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_bias_lrelu_gradients_in_double(device, memory_format, monkeypatch):
    force_triton(monkeypatch, tile=1024)
    x = random_image((2, 3, 2, 3), torch.float64, device)
    bias = torch.randn(3, dtype=torch.float64, device=device, requires_grad=True)
    seed = random_image((2, 6, 2, 3), torch.float64, device)

    def through(run):
        def into(x, bias, seed):
            out = (seed * 1).contiguous(memory_format=memory_format)
            run(x, bias, out, 2)
            return out.square()

        return into

    torch.autograd.gradcheck(through(bias_lrelu_into), (x, bias, seed), fast_mode=True)
    torch.autograd.gradcheck(through(reference.bias_lrelu_into), (x, bias, seed))


@pytest.mark.parametrize("step", [additive_forward, quantize])
def test_layout_is_kept(device, step):
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = random_image((2, 3, 4, 6), torch.float32, device).contiguous(memory_format=memory_format)
        y = step(x, x) if step is additive_forward else step(x)
        assert y.is_contiguous(memory_format=memory_format)
