"""The network's arithmetic between convolutions, as Triton kernels with plain-torch definitions.

Import from here only: each function checks its arguments, then runs the Triton kernel or the
reference (see `dispatch`). All tensors are (N, C, H, W), contiguous or channels-last, or slices of such;
float32, bfloat16 and float16 with float32 arithmetic (float64 as itself, for tests of the mathematics).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from irnscale.kernels import philox_reference, reference
from irnscale.kernels.checks import check_bias_lrelu, check_philox
from irnscale.kernels.dense import DenseWeights, dense_blocks, fits_dense
from irnscale.kernels.dense_packed import DensePacking, PackedGroup
from irnscale.kernels.dispatch import (
    KernelError,
    interpreted,
    kernel,
    launches,
    mode,
    require_image,
    require_operands,
    require_writable,
    triton_available,
    use_triton,
)
from irnscale.kernels.reference import ACTIVATIONS, PAPER, Activation, LogScale

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "DensePacking",
    "DenseWeights",
    "KernelError",
    "LogScale",
    "PackedGroup",
    "additive_forward",
    "additive_inverse",
    "bias_lrelu_backward",
    "bias_lrelu_into",
    "coupling_forward",
    "coupling_inverse",
    "dense_blocks",
    "fits_dense",
    "haar_forward",
    "haar_inverse",
    "interpreted",
    "launches",
    "mode",
    "philox_normal",
    "quantize",
    "triton_available",
    "use_triton",
]


def haar_forward(x: Tensor) -> Tensor:
    """One Haar level, (N, C, H, W) float or uint8 -> (N, 4C, H/2, W/2); see `reference.haar_forward`.

    8-bit pixels are read as x / 255 and give float32. Raises ValueError where H or W is odd (FrEIA's would
    truncate silently).
    """
    require_image("x", x, uint8=True)
    if x.shape[2] % 2 or x.shape[3] % 2:
        raise ValueError(f"x must have even height and width, got {x.shape[2]} x {x.shape[3]}")
    if use_triton(x):
        return kernel("haar").haar_forward(x)  # type: ignore[no-any-return]
    return reference.haar_forward(x)


def haar_inverse(y: Tensor, *, to_uint8: bool = False) -> Tensor:
    """Inverse Haar level, (N, 4C, H, W) -> (N, C, 2H, 2W); see `reference.haar_inverse`.

    With `to_uint8` the result is 8-bit pixels, clamped and rounded in the same pass, without a gradient; NaN
    becomes 0, so who must notice one looks at `y`.
    """
    require_image("y", y)
    if y.shape[1] % 4:
        raise ValueError(f"y must have a multiple of 4 channels, got {y.shape[1]}")
    if use_triton(y):
        return kernel("haar").haar_inverse(y, to_uint8=to_uint8)  # type: ignore[no-any-return]
    return reference.haar_inverse(y, to_uint8=to_uint8)


def _check_coupling(x: Tensor, s: Tensor, t: Tensor, name: str, inplace: bool) -> None:
    require_image(name, x)
    require_operands(name, x, s=s, t=t)
    if inplace:
        require_writable(name, x)
        if torch.is_grad_enabled() and any(v.requires_grad for v in (x, s, t)):
            raise RuntimeError("inplace overwrites what the gradient of a coupling needs: use it under no_grad")


def coupling_forward(
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    scale: LogScale = PAPER,
    log_det: bool = False,
    inplace: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """y = x exp(scale(s)) + t in one pass; see `reference.coupling_forward`.

    x, s, t: (N, C, H, W); s and t may be bfloat16 or float16 where x is float32. Returns y and the log-determinant
    (N,), or None. With `inplace`, x becomes y; RuntimeError where a gradient is being recorded.
    """
    _check_coupling(x, s, t, "x", inplace)
    run = kernel("coupling").coupling_forward if use_triton(x) else reference.coupling_forward
    return run(x, s, t, scale=scale, log_det=log_det, inplace=inplace)


def coupling_inverse(
    y: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    scale: LogScale = PAPER,
    log_det: bool = False,
    inplace: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """x = (y - t) exp(-scale(s)) in one pass; dtypes, results and `inplace` as `coupling_forward`."""
    _check_coupling(y, s, t, "y", inplace)
    run = kernel("coupling").coupling_inverse if use_triton(y) else reference.coupling_inverse
    return run(y, s, t, scale=scale, log_det=log_det, inplace=inplace)


def additive_forward(x: Tensor, p: Tensor, *, inplace: bool = False) -> Tensor:
    """y = x + p, in the dtype of x; p may be bfloat16 or float16 where x is float32.

    With `inplace`, x becomes y where autograd allows it (RuntimeError where not).
    """
    require_image("x", x)
    require_operands("x", x, p=p)
    if inplace:
        require_writable("x", x)
    run = kernel("additive").additive_forward if use_triton(x) else reference.additive_forward
    return run(x, p, inplace=inplace)


def additive_inverse(y: Tensor, p: Tensor, *, inplace: bool = False) -> Tensor:
    """x = y - p, in the dtype of y; p and `inplace` as for `additive_forward`."""
    require_image("y", y)
    require_operands("y", y, p=p)
    if inplace:
        require_writable("y", y)
    run = kernel("additive").additive_inverse if use_triton(y) else reference.additive_inverse
    return run(y, p, inplace=inplace)


def quantize(x: Tensor, *, depth: int = 8, to_integer: bool = False) -> Tensor:
    """To multiples of 1 / (2^depth - 1) in [0, 1], with the straight-through gradient; see `reference.quantize`.

    depth: 8 or 16. With `to_integer` the result is the grey levels themselves, uint8 or uint16, without a
    gradient, and NaN becomes 0.
    """
    require_image("x", x)
    if depth not in (8, 16):
        raise ValueError(f"depth must be 8 or 16, got {depth}")
    # Not a module "quantize": importing it would replace this function in the package.
    run = kernel("quantization").quantize if use_triton(x) else reference.quantize
    return run(x, depth=depth, to_integer=to_integer)


def bias_lrelu_into(x: Tensor, bias: Tensor, out: Tensor, channel: int, negative_slope: float = 0.2) -> Tensor:
    """leaky_relu(x + bias) into `out[:, channel : channel + C]`; see `reference.bias_lrelu_into`."""
    check_bias_lrelu(x, bias, out, channel)
    run = kernel("bias_lrelu").bias_lrelu_into if use_triton(x) else reference.bias_lrelu_into
    return run(x, bias, out, channel, negative_slope)


def bias_lrelu_backward(
    grad: Tensor, y: Tensor, negative_slope: float = 0.2, *, bias_dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """The gradients by x and bias of y = leaky_relu(x + bias), from y; see `reference.bias_lrelu_backward`.

    For callers that keep a dense block's buffer and differentiate by hand. Not differentiable itself.
    """
    require_image("y", y)
    require_image("grad", grad)
    require_operands("y", y, grad=grad)
    if negative_slope < 0:
        raise ValueError(f"negative_slope must not be negative, got {negative_slope}")
    if not use_triton(y):
        return reference.bias_lrelu_backward(grad, y, negative_slope, bias_dtype=bias_dtype)
    return kernel("bias_lrelu").bias_lrelu_backward(grad, y, None, negative_slope, bias_dtype)  # type: ignore[no-any-return]


def philox_normal(
    shape: Sequence[int],
    *,
    seed: int,
    origin: Sequence[int] = (0, 0, 0, 0),
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """Noise keyed by seed and absolute (sample, channel, y, x); see `philox_reference.philox_normal`."""
    check_philox(shape, seed, origin, dtype)
    on_triton = use_triton(torch.empty(0, dtype=dtype, device=device))
    run = kernel("philox").philox_normal if on_triton else philox_reference.philox_normal
    return run(shape, seed=seed, origin=origin, dtype=dtype, device=device, memory_format=memory_format)
