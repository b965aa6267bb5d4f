"""The coupling kernels against their definition: values, log-determinants, gradients of both."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import CASES, DEVICES, DTYPES, LAYOUTS, SHAPES, assert_close, force_triton, in_double, random_image

from irnscale.kernels import ACTIVATIONS, LogScale, coupling_forward, coupling_inverse, reference
from irnscale.kernels.reference import PAPER

pytestmark = pytest.mark.parametrize("device", DEVICES)
STEPS = {
    "forward": (coupling_forward, reference.coupling_forward),
    "inverse": (coupling_inverse, reference.coupling_inverse),
}


@pytest.fixture(autouse=True)
def _forced(monkeypatch):
    force_triton(monkeypatch)


def operands(shape, dtypes, device, layouts):
    return [random_image(shape, dtype, device, layout) for dtype, layout in zip(dtypes, layouts, strict=True)]


def check(step, inputs, log_det, out_layout="contiguous", scale=PAPER):
    """Value, log-determinant and all gradients of (kernel, definition) `step`."""
    run, definition = step
    y, log = run(*inputs, log_det=log_det, scale=scale)
    doubles = [in_double(v) for v in inputs]
    y64, log64 = definition(*doubles, log_det=log_det, scale=scale)
    assert y.dtype == inputs[0].dtype
    assert_close(y, y64)
    grads = [random_image(y.shape, y.dtype, y.device, out_layout, requires_grad=False)]
    outputs, outputs64 = [y], [y64]
    if log_det:
        assert log.dtype == y.dtype
        # The terms of the sum may cancel; its error is measured against their size.
        size = scale(doubles[1].detach()).abs().sum(dim=(1, 2, 3))
        assert_close(log, log64, scale=size)
        grads.append(torch.randn(log.shape, dtype=torch.float64).to(log))
        outputs.append(log)
        outputs64.append(log64)
    else:
        assert log is None
    got = torch.autograd.grad(outputs, inputs, grads)
    wanted = torch.autograd.grad(outputs64, doubles, [g.double() for g in grads])
    for operand, g, g64 in zip(inputs, got, wanted, strict=True):
        assert g.dtype == operand.dtype
        assert_close(g, g64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("step", STEPS)
@CASES
@given(
    shape=SHAPES,
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 4),
    uniform=st.booleans(),
    activation=st.sampled_from(ACTIVATIONS),
    clamp=st.sampled_from((1.0, 0.7)),
    tightness=st.sampled_from((1.0, 2.0, 5.0)),
    log_det=st.booleans(),
)
def test_value_and_gradient(device, step, dtype, shape, layouts, uniform, activation, clamp, tightness, log_det):
    if uniform:
        layouts = (layouts[0],) * 4
    inputs = operands(shape, [dtype] * 3, device, layouts[:3])
    check(STEPS[step], inputs, log_det, layouts[3], LogScale(clamp, tightness, activation))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("step", STEPS)
def test_every_case_once(device, step, layout, activation):
    """What hypothesis may leave out: each layout with each activation, several tiles per sample."""
    inputs = operands((2, 3, 4, 7), [torch.float32] * 3, device, [layout] * 3)
    check(STEPS[step], inputs, True, layout, LogScale(0.8, 1.5, activation))


@pytest.mark.parametrize("log_det", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_reduced_subnets_on_a_float32_trunk(device, step, log_det):
    """s and t in 16 bits, x in float32: the casts are part of the kernel."""
    for low in ([torch.bfloat16] * 2, [torch.float16] * 2, [torch.bfloat16, torch.float32]):
        check(STEPS[step], operands((2, 3, 5, 7), [torch.float32, *low], device, LAYOUTS[:3]), log_det)


@pytest.mark.parametrize("implementation", ["triton", "torch"])
@pytest.mark.parametrize("low", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("step", STEPS)
def test_in_place(device, step, layout, low, implementation, monkeypatch):
    monkeypatch.setenv("IRNSCALE_KERNELS", implementation)
    x, s, t = (v.detach() for v in operands((2, 3, 4, 7), [torch.float32, low, low], device, [layout] * 3))
    run = STEPS[step][0]
    wanted, log = run(x, s, t, log_det=True)
    address, version = x.data_ptr(), x._version
    y, log_again = run(x, s, t, log_det=True, inplace=True)
    assert y.data_ptr() == address
    assert x._version > version
    assert torch.equal(x, wanted)
    assert torch.equal(log_again, log)
    with torch.inference_mode():
        image = x.clone()
        run(image, s, t, inplace=True)
        assert torch.equal(image, run(x, s, t)[0])


@pytest.mark.parametrize("implementation", ["triton", "torch"])
@pytest.mark.parametrize("step", STEPS)
def test_in_place_refuses_to_lose_a_gradient(device, step, implementation, monkeypatch):
    monkeypatch.setenv("IRNSCALE_KERNELS", implementation)
    x, s, t = operands((1, 1, 2, 2), [torch.float32] * 3, device, [LAYOUTS[0]] * 3)
    for inputs in ((x * 1, s.detach(), t.detach()), (x.detach(), s, t.detach()), (x.detach(), s.detach(), t)):
        with pytest.raises(RuntimeError, match="inplace"):
            STEPS[step][0](*inputs, inplace=True)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("definition", [d for _, d in STEPS.values()])
def test_definition_gradient(device, definition, activation):
    inputs = operands((2, 2, 2, 3), [torch.float64] * 3, device, [LAYOUTS[0]] * 3)
    torch.autograd.gradcheck(lambda *a: definition(*a, scale=LogScale(0.8, 1.5, activation), log_det=True), inputs)


@pytest.mark.filterwarnings("ignore:overflow")  # NumPy's, of a branch that is not taken
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("step", STEPS)
def test_extreme_and_zero_log_scales(device, step, activation):
    """No overflow far out, and at exactly zero the same value and slope as the definition."""
    s = torch.tensor([-1e30, -100.0, -20.0, -0.25, -1e-8, 0.0, 1e-8, 0.25, 20.0, 100.0, 1e30])
    s = s.to(device).view(1, 1, 1, 11).requires_grad_()
    x, t = (random_image((1, 1, 1, 11), torch.float32, device) for _ in range(2))
    check(STEPS[step], [x, s, t], True, scale=LogScale(activation=activation))


@pytest.mark.parametrize("step", STEPS)
def test_gradient_of_the_log_determinant_alone(device, step):
    inputs = operands((2, 3, 4, 5), [torch.float32] * 3, device, [LAYOUTS[1]] * 3)
    run, definition = STEPS[step]
    doubles = [in_double(v) for v in inputs]
    (got,) = torch.autograd.grad(run(*inputs, log_det=True)[1].sum(), inputs[1])
    (wanted,) = torch.autograd.grad(definition(*doubles, log_det=True)[1].sum(), doubles[1])
    assert_close(got, wanted)


def test_inverse_undoes_forward(device):
    x, s, t = operands((2, 9, 5, 6), [torch.float64] * 3, device, LAYOUTS[:3])
    y, log = coupling_forward(x, s, t, log_det=True)
    back, log_back = coupling_inverse(y, s, t, log_det=True)
    assert_close(back, x)
    assert_close(log_back, -log)


def test_log_determinant_is_deterministic(device):
    inputs = operands((2, 3, 5, 13), [torch.float32] * 3, device, [LAYOUTS[1]] * 3)
    first, second = (coupling_forward(*inputs, log_det=True)[1] for _ in range(2))
    assert torch.equal(first, second)
