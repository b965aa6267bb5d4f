"""Which implementation runs: Triton on CUDA, the plain-torch reference elsewhere.

`IRNSCALE_KERNELS=auto|triton|torch` forces the choice; a forced choice that cannot run is a
`KernelError`, never a silent fallback. Kernel modules are imported on first use, so that machines
without Triton (macOS, Windows) import this package without it.
"""

from __future__ import annotations

import os
from collections import Counter
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor

REDUCED = (torch.bfloat16, torch.float16)
"""Storage types that are computed with in float32."""

_launches: Counter[str] = Counter()


class KernelError(RuntimeError):
    """`IRNSCALE_KERNELS` asks for something that this machine cannot do."""


def count(operation: str) -> None:
    """Record one Triton launch of `operation` (called by the kernel modules)."""
    _launches[operation] += 1


def launches(*, reset: bool = False) -> dict[str, int]:
    """Triton launches per operation since the last reset.

    Backward passes have names of their own ("haar_forward_backward"), and so has the second launch of those that sum
    over an image, a log-determinant or the gradient of a bias ("sum_rows").
    """
    seen = dict(_launches)
    if reset:
        _launches.clear()
    return seen


@cache
def triton_available() -> bool:
    """True where the triton package is installed."""
    return find_spec("triton") is not None


def interpreted() -> bool:
    """True where Triton runs kernels in its CPU interpreter (`TRITON_INTERPRET=1`)."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def mode() -> str:
    """The value of `IRNSCALE_KERNELS`, checked."""
    value = os.environ.get("IRNSCALE_KERNELS", "auto")
    if value not in ("auto", "triton", "torch"):
        raise KernelError(f"IRNSCALE_KERNELS={value!r} is not one of auto, triton, torch")
    return value


def use_triton(x: Tensor) -> bool:
    """Whether an operation on `x` launches a Triton kernel; KernelError where a forced choice cannot run."""
    choice = mode()
    if choice == "torch":
        return False
    if choice == "triton":
        if not triton_available():
            raise KernelError("IRNSCALE_KERNELS=triton, but the triton package is not installed")
        if not x.is_cuda and not interpreted():
            raise KernelError(
                f"IRNSCALE_KERNELS=triton, but the tensor is on {x.device}: use a CUDA device, "
                "or set TRITON_INTERPRET=1 to run the kernels in Triton's CPU interpreter"
            )
        return True
    # float64 is for tests of the mathematics; the kernels compute in float32.
    return x.is_cuda and triton_available() and x.dtype != torch.float64


def kernel(module: str) -> ModuleType:
    """The kernel module `irnscale.kernels.<module>`, imported on first use."""
    return import_module(f"irnscale.kernels.{module}")


def require_operands(reference_name: str, reference: Tensor, **others: Tensor) -> None:
    """ValueError naming the first argument that is no operand beside `reference`.

    Device and shape must be the same, and the dtype too, but that a float32 `reference` (the network's trunk)
    takes bfloat16 and float16 operands (its subnets' outputs): the kernels convert them while reading.
    """
    for name, tensor in others.items():
        if tensor.device != reference.device:
            raise ValueError(f"{name} is on {tensor.device}, {reference_name} on {reference.device}")
        reduced = reference.dtype == torch.float32 and tensor.dtype in REDUCED
        if tensor.dtype != reference.dtype and not reduced:
            raise ValueError(f"{name} is {tensor.dtype}, {reference_name} is {reference.dtype}")
        if tensor.shape != reference.shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, {reference_name} has {tuple(reference.shape)}")


def require_writable(name: str, x: Tensor) -> None:
    """ValueError naming `x` where it is expanded, so that a step in place would be applied several times."""
    if any(size > 1 and step == 0 for size, step in zip(x.shape, x.stride(), strict=True)):
        raise ValueError(f"{name} must not be expanded: several of its elements share one place in memory")


def require_image(name: str, x: Tensor, *, uint8: bool = False) -> None:
    """ValueError naming `x` where it is not a 4-dimensional floating (or, if allowed, uint8) tensor."""
    if x.dim() != 4:
        raise ValueError(f"{name} must have 4 dimensions (N, C, H, W), got shape {tuple(x.shape)}")
    if not (x.is_floating_point() or (uint8 and x.dtype == torch.uint8)):
        raise ValueError(f"{name} must be floating point{' or uint8' if uint8 else ''}, got {x.dtype}")
