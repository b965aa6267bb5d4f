"""What every kernel promises beyond its numbers: errors, launches, a whole network, huge tensors."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from kernel_cases import DEVICES, assert_close, force_triton, random_image
from torch import nn

import irnscale
import irnscale.kernels as K
from irnscale.networks import IRN, DenseBlock, IRNConfig

x = torch.zeros(2, 4, 6, 8)


def into(**changed):
    """`bias_lrelu_into` with good arguments but for the changed ones."""
    good = {"x": x, "bias": torch.zeros(4), "out": torch.zeros(2, 9, 6, 8), "channel": 3}
    return lambda: K.bias_lrelu_into(**(good | changed))


def noise(**changed):
    """`philox_normal` with good arguments but for the changed ones."""
    good = {"shape": (1, 1, 2, 2), "seed": 1}
    return lambda: K.philox_normal(**(good | changed))


BAD = {
    "haar_forward dimensions": ("x", lambda: K.haar_forward(x[0])),
    "haar_forward dtype": ("x", lambda: K.haar_forward(x.int())),
    "haar_forward odd height": ("x", lambda: K.haar_forward(x[:, :, 1:])),
    "haar_forward odd width": ("x", lambda: K.haar_forward(x[..., 1:])),
    "haar_inverse dimensions": ("y", lambda: K.haar_inverse(x[0])),
    "haar_inverse dtype": ("y", lambda: K.haar_inverse(x.byte())),
    "haar_inverse channels": ("y", lambda: K.haar_inverse(x[:, 1:])),
    "coupling x": ("x", lambda: K.coupling_forward(x.int(), x, x)),
    "coupling s shape": ("s", lambda: K.coupling_forward(x, x[:, 1:], x)),
    "coupling t shape": ("t", lambda: K.coupling_forward(x, x, x[:1])),
    "coupling t dtype": ("t", lambda: K.coupling_inverse(x, x, x.double())),
    "coupling s device": ("s", lambda: K.coupling_inverse(x, x.to("meta"), x)),
    "coupling y dimensions": ("y", lambda: K.coupling_inverse(x[0], x, x)),
    "coupling s dtype": ("s", lambda: K.coupling_forward(x.half(), x, x.half())),
    "coupling s double": ("s", lambda: K.coupling_forward(x, x.double(), x)),
    "coupling t half": ("t", lambda: K.coupling_forward(x.double(), x.double(), x.half())),
    "coupling x expanded": ("x", lambda: K.coupling_forward(x[:1].expand(2, 4, 6, 8), x, x, inplace=True)),
    "coupling activation": ("activation", lambda: K.LogScale(activation="relu")),
    "additive p shape": ("p", lambda: K.additive_forward(x, x[..., :1])),
    "additive p dtype": ("p", lambda: K.additive_inverse(x, x.double())),
    "additive p in 16 bits": ("p", lambda: K.additive_forward(x.half(), x.bfloat16())),
    "additive x expanded": ("x", lambda: K.additive_forward(x[..., :1].expand(2, 4, 6, 8), x, inplace=True)),
    "additive y expanded": ("y", lambda: K.additive_inverse(x[:, :1].expand(2, 4, 6, 8), x, inplace=True)),
    "additive x": ("x", lambda: K.additive_forward(x.long(), x)),
    "additive y": ("y", lambda: K.additive_inverse(x[0], x)),
    "quantize dtype": ("x", lambda: K.quantize(x.byte())),
    "quantize depth": ("depth", lambda: K.quantize(x, depth=10)),
    "quantize dimensions": ("x", lambda: K.quantize(x[0])),
    "into x": ("x", into(x=x.byte())),
    "into out dimensions": ("out", into(out=x[0])),
    "into out size": ("out", into(out=torch.zeros(2, 9, 6, 7))),
    "into out dtype": ("out", into(out=torch.zeros(2, 9, 6, 8).double())),
    "into out device": ("out", into(out=torch.zeros(2, 9, 6, 8, device="meta"))),
    "into out layout": ("out", into(out=torch.zeros(1, 9, 6, 8).expand(2, 9, 6, 8))),
    "into bias shape": ("bias", into(bias=torch.zeros(5))),
    "into bias dtype": ("bias", into(bias=torch.zeros(4, dtype=torch.int64))),
    "into bias device": ("bias", into(bias=torch.zeros(4, device="meta"))),
    "into channel low": ("channel", into(channel=-1)),
    "into channel high": ("channel", into(channel=6)),
    "backward y": ("y", lambda: K.bias_lrelu_backward(x, x.int())),
    "backward grad dimensions": ("grad", lambda: K.bias_lrelu_backward(x[0], x)),
    "backward grad shape": ("grad", lambda: K.bias_lrelu_backward(x[:1], x)),
    "backward slope": ("negative_slope", lambda: K.bias_lrelu_backward(x, x, -0.1)),
    "noise shape": ("shape", noise(shape=(1, 2, 2))),
    "noise seed": ("seed", noise(seed=2**64)),
    "noise origin": ("origin", noise(origin=(0, 0, 0, -1))),
    "noise origin end": ("origin", noise(origin=(0, 0, 0, 2**32 - 1))),
    "noise dtype": ("dtype", noise(dtype=torch.int32)),
}


@pytest.mark.parametrize("implementation", ["torch", "triton"])
@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case, implementation, monkeypatch):
    monkeypatch.setenv("IRNSCALE_KERNELS", implementation)
    name, call = BAD[case]
    with pytest.raises(ValueError, match=rf"^{name} "):
        call()


def test_a_forced_choice_that_cannot_run_is_an_error(monkeypatch):
    monkeypatch.setenv("IRNSCALE_KERNELS", "triton")
    monkeypatch.setattr("irnscale.kernels.dispatch.interpreted", lambda: False)
    for call in (lambda: K.haar_forward(x), lambda: K.quantize(x), noise()):
        with pytest.raises(K.KernelError, match="TRITON_INTERPRET"):
            call()
    monkeypatch.setattr("irnscale.kernels.dispatch.triton_available", lambda: False)
    with pytest.raises(K.KernelError, match="not installed"):
        K.haar_forward(x)
    monkeypatch.setenv("IRNSCALE_KERNELS", "cuda")
    with pytest.raises(K.KernelError, match="auto, triton, torch"):
        K.haar_forward(x)


def test_nothing_needs_triton_until_a_kernel_runs(tmp_path):
    """The package works where Triton does not exist (macOS, Windows)."""
    code = """
import sys
sys.modules["triton"] = None
import torch, irnscale.kernels as K
x = torch.zeros(1, 4, 2, 2)
K.haar_inverse(K.haar_forward(x)); K.quantize(x); K.philox_normal(x.shape, seed=1)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_no_module_hides_a_public_function():
    """Importing a submodule sets its name in the package, over a function of that name."""
    for module in ("additive", "bias_lrelu", "coupling", "haar", "philox", "quantization"):
        K.dispatch.kernel(module)
    assert all(callable(getattr(K, name)) for name in K.__all__ if name not in ("ACTIVATIONS", "Activation"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [(0, 4, 2, 2), (1, 4, 0, 2), (1, 4, 2, 0), (1, 0, 2, 2)])
def test_empty_tensors(device, shape, monkeypatch):
    """Nothing to do is done, without a launch."""
    force_triton(monkeypatch)
    x = torch.zeros(shape, device=device, requires_grad=True)
    n, c, h, w = shape
    K.launches(reset=True)
    results = {
        (n, 4 * c, h // 2, w // 2): K.haar_forward(x),
        (n, c // 4, 2 * h, 2 * w): K.haar_inverse(x),
        shape: K.coupling_forward(x, x, x, log_det=True)[0] + K.additive_forward(x, x) + K.quantize(x),
    }
    for wanted, result in results.items():
        assert tuple(result.shape) == wanted
        result.sum().backward()
    out = torch.zeros(n, c + 2, h, w, device=device)
    assert K.bias_lrelu_into(x, torch.zeros(c, device=device), out, 1).shape == x.shape
    assert K.philox_normal(shape, seed=1, device=device).shape == x.shape
    assert torch.equal(K.coupling_inverse(x, x, x, log_det=True)[1], torch.zeros(n, device=device))
    assert K.launches() == {}


def trained_irn(device, dtype=torch.float32):
    """A narrow x4 network with random weights."""
    net = IRN(IRNConfig(scale=4, inv_per_ds=1, growth=4)).to(device, dtype)
    for p in net.parameters():
        nn.init.normal_(p, std=0.5 / math.sqrt(max(1, p[0].numel())) if p.dim() > 1 else 0.05)
    return net


def training_step(net, hr):
    """Both directions and the gradient, as the trainer does it: quantised LR, z = 0."""
    net.zero_grad()
    lr, z = net.downscale(hr)
    back = net.upscale(K.quantize(lr))
    loss = (back - hr).abs().mean() + (lr - hr.mean()).square().mean() + z.square().mean()
    loss.backward()
    return [lr, z, back, *(p.grad for p in net.parameters())]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "memory_format", [pytest.param(torch.contiguous_format, marks=pytest.mark.slow), torch.channels_last]
)
def test_a_network_on_the_kernels(device, memory_format, monkeypatch):
    """An x4 training step equals the reference's, and every operation is launched once for each step."""
    net = trained_irn(device)
    hr = torch.rand(2, 3, 8, 4, device=device).contiguous(memory_format=memory_format)
    monkeypatch.setenv("IRNSCALE_KERNELS", "torch")
    K.launches(reset=True)
    wanted = [v.detach().clone() for v in training_step(net, hr)]
    assert K.launches() == {}
    force_triton(monkeypatch, tile=1024)
    got = training_step(net, hr)
    haars, couplings = 2, 2
    assert K.launches(reset=True) == {
        "haar_forward": haars,
        "haar_inverse": haars,
        # The photograph itself needs no gradient, so the first level's transform has none.
        "haar_forward_backward": haars - 1,
        "haar_inverse_backward": haars,
        "additive_forward": couplings,
        "additive_inverse": couplings,
        "additive_inverse_backward": couplings,
        "coupling_forward": couplings,
        "coupling_inverse": couplings,
        "coupling_forward_backward": couplings,
        "coupling_inverse_backward": couplings,
        "quantize": 1,
        # p, s and t, four activations each, once for each direction.
        "bias_lrelu_into": 2 * 4 * 3 * couplings,
        "bias_lrelu_into_backward": 2 * 4 * 3 * couplings,
        "sum_rows": 2 * 4 * 3 * couplings,
    }
    for g, w in zip(got, wanted, strict=True):
        # Two orders of float32 rounding through eight convolutions deep and back.
        assert (g - w).square().mean().sqrt() <= 1e-4 * w.square().mean().sqrt() + 1e-7
    with torch.no_grad():
        K.haar_inverse(K.haar_forward(hr), to_uint8=True)
    assert K.launches(reset=True) == {"haar_forward": 1, "haar_inverse": 1}
    assert K.launches() == {}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("gradients", [False, True])
def test_a_16_bit_dense_block_under_a_float32_trunk(device, gradients, monkeypatch):
    """One buffer of features and no cast around it: as the reference, to the rounding of bfloat16."""
    block = DenseBlock(9, 3, growth=4).to(device)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.2)
    block.compute_dtype = torch.bfloat16
    x = random_image((2, 9, 5, 6), torch.float32, device, requires_grad=gradients)
    results = []
    for implementation in ("torch", "triton"):
        monkeypatch.setenv("IRNSCALE_KERNELS", implementation)
        if implementation == "triton":
            force_triton(monkeypatch)
        with torch.set_grad_enabled(gradients):
            y = block(x)
        assert y.dtype == torch.bfloat16
        moved = K.additive_forward(x[:, :3], y)
        assert moved.dtype == torch.float32
        wanted = torch.autograd.grad(moved.square().sum(), (x, *block.parameters())) if gradients else ()
        results.append((y, moved, *wanted))
    for reference, kernels in zip(*results, strict=True):
        assert (reference - kernels).double().norm() <= 0.03 * reference.double().norm()


@pytest.mark.parametrize("device", DEVICES)
def test_a_photograph_there_and_back_on_the_kernels(device, photo, monkeypatch):
    """`Rescaler` on 8-bit pixels: the same pictures. The Haar kernels read and write bytes; the small picture, which
    no Haar transform makes, is rounded by a kernel of its own.
    """
    model = irnscale.load("x2", device=device, precision="float32")
    image = photo[:10, :14]
    pictures = []
    for implementation in ("torch", "triton"):
        monkeypatch.setenv("IRNSCALE_KERNELS", implementation)
        K.launches(reset=True)
        small = model.down(image)
        pictures.append((small, model.up(small)))
    seen = K.launches(reset=True)
    assert (seen["haar_forward"], seen["haar_inverse"], seen["quantize"]) == (1, 1, 1), seen
    for got, wanted in zip(*pictures, strict=True):
        assert got.dtype == wanted.dtype
        assert np.abs(got.astype(int) - wanted.astype(int)).max() <= 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_definitions_compute_in_float32(dtype, monkeypatch):
    """Off CUDA, too, 16 bits are a format of storage: one rounding, whatever the operation."""
    monkeypatch.setenv("IRNSCALE_KERNELS", "torch")
    a, b, c = (random_image((1, 4, 16, 16), dtype, "cpu", requires_grad=False) for _ in range(3))
    A, B, C = a.double(), b.double(), c.double()
    for got, wanted in (
        (K.haar_forward(a), K.haar_forward(A)),
        (K.haar_inverse(a), K.haar_inverse(A)),
        (
            K.coupling_forward(a, b, c, scale=K.LogScale(tightness=5))[0],
            K.coupling_forward(A, B, C, scale=K.LogScale(tightness=5))[0],
        ),
        (
            K.coupling_inverse(a, b, c, scale=K.LogScale(tightness=5))[0],
            K.coupling_inverse(A, B, C, scale=K.LogScale(tightness=5))[0],
        ),
        (K.additive_forward(a, b), K.additive_forward(A, B)),
        (K.quantize(a, depth=16), K.quantize(A, depth=16)),
        (K.bias_lrelu_into(a, b[0, :, 0, 0], c, 0), K.bias_lrelu_into(A, B[0, :, 0, 0], C, 0)),
    ):
        assert got.dtype == dtype
        assert_close(got, wanted)


@pytest.mark.gpu
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_more_than_two_to_the_31_elements(memory_format, monkeypatch):
    """Offsets beyond int32, in bfloat16 to fit: 3 x 2^15 x (2^14 + 2^13) elements each way."""
    monkeypatch.setenv("IRNSCALE_KERNELS", "triton")
    big = torch.empty((1, 3, 2**15, 3 * 2**13), dtype=torch.bfloat16, device="cuda", memory_format=memory_format)
    assert big.numel() > 2**31
    big.copy_(torch.arange(3 * 2**13, device="cuda") % 127 / 128)
    big[..., -2:, -2:] = torch.tensor([[0.25, 0.5], [0.125, 1.0]], dtype=torch.bfloat16)
    y = K.haar_forward(big)
    corner = K.reference.haar_forward(big[..., -64:, -64:].double())
    assert_close(y[..., -32:, -32:], corner)
    back = K.haar_inverse(y)
    assert_close(back[..., -64:, -64:], K.reference.haar_inverse(y[..., -32:, -32:].double()))
    del y, back
    twice = K.additive_forward(big, big)
    assert_close(twice[..., -64:, -64:], 2 * big[..., -64:, -64:].double())
    moved, log_det = K.coupling_forward(big, big, twice, log_det=True)
    part = [v[..., -64:, -64:].double() for v in (big, big, twice)]
    assert_close(moved[..., -64:, -64:], K.reference.coupling_forward(*part)[0])
    assert torch.isfinite(log_det).all()
    del moved
    levels = K.quantize(twice, to_integer=True)
    assert torch.equal(levels[..., -64:, -64:], K.reference.quantize(twice[..., -64:, -64:], to_integer=True))
    del levels
    bias = torch.tensor([0.5, -0.5, 0.25], device="cuda")
    K.bias_lrelu_into(big, bias, twice, 0)
    wanted = torch.nn.functional.leaky_relu(big[..., -64:, -64:].double() + bias.double().view(1, -1, 1, 1), 0.2)
    assert_close(twice[..., -64:, -64:], wanted)
    del twice
    noise = K.philox_normal(big.shape, seed=1, dtype=big.dtype, device="cuda", memory_format=memory_format)
    corner = tuple(size - part for size, part in zip(big.shape, (1, 3, 64, 64), strict=True))
    part = K.philox_normal((1, 3, 64, 64), seed=1, origin=corner, dtype=big.dtype, device="cuda")
    assert torch.equal(noise[..., -64:, -64:], part)


@pytest.mark.parametrize("device", DEVICES)
def test_the_sanitizer_sees(device, monkeypatch):
    """The tests' own guard: a kernel told that its tensor is larger than it is gets caught."""
    if device != "cpu":
        pytest.skip("addresses are watched in the interpreter only")
    from triton.runtime.errors import InterpreterError

    force_triton(monkeypatch)
    tiling = K.dispatch.kernel("tiling")
    haar = K.dispatch.kernel("haar")
    x = random_image((1, 1, 4, 4), torch.float32, device, requires_grad=False)
    honest = tiling.tile_plan

    def too_tall(n, c, h, w, channels_last, *tensors):
        return honest(n, c, h + 1, w, channels_last, *tensors)

    monkeypatch.setattr(haar, "tile_plan", too_tall)
    with pytest.raises(InterpreterError, match="outside its tensors"):
        K.haar_forward(x)
