"""What the kernel tests share: odd tensors in every layout, poisoned memory, and an address sanitizer.

Without a GPU the kernels run in Triton's interpreter, on the CPU; with one, compiled, on it.
"""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from torch import Tensor

from irnscale.kernels import dispatch

DEVICES = [
    pytest.param("cpu", marks=pytest.mark.skipif(not dispatch.interpreted(), reason="needs TRITON_INTERPRET=1")),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
LAYOUTS = ("contiguous", "channels_last", "slice_contiguous", "slice_channels_last")
TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4, torch.float64: 1e-13}
"""On RMS(error) / RMS(reference), the reference computed in float64 from the same operands."""

CASES = settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    # No shrinking: the shapes are tiny as they are, and the interpreter is slow.
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 5), st.integers(1, 13))
"""Odd and tiny; with tiles of 32 elements, up to two dozen of them, most of them ragged."""


def random_image(shape, dtype, device, layout="contiguous", requires_grad=True):
    """Standard normal, in the given layout; the slices are cut out of larger tensors of NaN."""
    n, c, h, w = shape
    data = torch.randn(shape, dtype=torch.float64)
    if layout.startswith("slice"):
        memory = torch.channels_last if layout.endswith("channels_last") else torch.contiguous_format
        host = torch.full((n, c + 2, h + 2, w + 3), torch.nan, dtype=dtype, device=device)
        image = host.contiguous(memory_format=memory)[:, 1:-1, 1:-1, 2:-1]
        image.copy_(data)
    else:
        memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        image = data.to(device=device, dtype=dtype).contiguous(memory_format=memory)
    return image.requires_grad_(requires_grad)


def in_double(x: Tensor) -> Tensor:
    """The same values as a float64 leaf."""
    return x.detach().double().requires_grad_(x.requires_grad)


def assert_close(got, wanted, dtype=None, scale=None):
    """RMS(got - wanted) / RMS(wanted, or `scale`) within the tolerance of the dtype."""
    assert got.shape == wanted.shape
    dtype = dtype or got.dtype
    tolerance = TOLERANCE[dtype]
    if dtype == torch.bfloat16 and dispatch.interpreted():
        tolerance = 5e-3  # the interpreter rounds bfloat16 towards zero: by up to 2^-7, in RMS by up to 2^-7 / sqrt(3)
    reference = (wanted if scale is None else scale).double().square().mean().sqrt()
    if got.numel() < 64:
        # A handful of numbers has no meaningful RMS: the inputs' own size, 1, is the least scale.
        reference = reference.clamp(min=1.0)
        tolerance = max(tolerance, 2**-7) if dtype == torch.bfloat16 else tolerance
    error = (got.double() - wanted.double()).square().mean().sqrt()
    assert torch.isfinite(error), "the result has elements that no kernel wrote"
    assert error <= tolerance * reference, f"error {error / reference:.2e}, allowed {tolerance:.0e}"


def force_triton(monkeypatch, tile=32):
    """Run everything on the kernels, with small tiles, poisoned new tensors and watched addresses."""
    monkeypatch.setenv("IRNSCALE_KERNELS", "triton")
    monkeypatch.setattr(import_module("irnscale.kernels.tiling"), "TILE", tile)
    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, _poisoned(getattr(torch, name)))
    if dispatch.interpreted():
        _watch_addresses(monkeypatch)


def _poisoned(allocate):
    def poisoned(*args, **kwargs):
        result = allocate(*args, **kwargs)
        return result.fill_(torch.nan if result.is_floating_point() else 0xA5)

    return poisoned


def _watch_addresses(monkeypatch):
    """Make the interpreter refuse loads and stores outside the tensors passed to the kernel."""
    interpreter = import_module("triton.runtime.interpreter")
    spans: list[tuple[int, int]] = []
    receive = interpreter.GridExecutor._init_args_hst

    def remember(self, args, kwargs):
        spans.clear()
        for x in (*args, *kwargs.values()):
            if isinstance(x, Tensor):
                last = sum((size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True))
                spans.append((x.data_ptr(), x.data_ptr() + last * x.element_size()))
        return receive(self, args, kwargs)

    def guarded(access, mask_at):
        def checked(self, pointers, *rest):
            touched = pointers.data[rest[mask_at].data.astype(bool)]
            inside = sum((touched >= first) & (touched <= last) for first, last in spans)
            assert (inside > 0).all(), "a kernel reads or writes outside its tensors"
            return access(self, pointers, *rest)

        return checked

    monkeypatch.setattr(interpreter.GridExecutor, "_init_args_hst", remember)
    builder = type(interpreter.interpreter_builder)
    for name, mask_at in (("create_masked_load", 0), ("create_masked_store", 1)):
        monkeypatch.setattr(builder, name, guarded(getattr(builder, name), mask_at))
