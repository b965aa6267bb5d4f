"""Plain-torch definitions of every operation: what the Triton kernels must equal, and what runs off CUDA.

All functions take and return (N, C, H, W) tensors of any floating dtype and follow autograd. bfloat16 and
float16 are formats of storage: everything is computed in float32 (float64 for float64) and rounded once.
Sources: Haar and couplings, Xiao et al. 2020 section 3.2 and their code; the dissertation's equations
2.21 (Haar), 2.22 (enhanced affine coupling), 3.12 and 3.13 (quantisation, straight-through).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from irnscale.kernels.dispatch import REDUCED

Activation = Literal["sigmoid", "tanh", "proposal1"]
ACTIVATIONS: tuple[Activation, ...] = ("sigmoid", "tanh", "proposal1")


def _wide(x: Tensor) -> Tensor:
    """`x` in the precision of the arithmetic: itself, or float32 where it is stored in 16 bits."""
    return x.float() if x.dtype in REDUCED else x


def haar_forward(x: Tensor) -> Tensor:
    """One Haar level: (N, C, H, W) -> (N, 4C, H/2, W/2), bands LL, [+-;+-], [++;--], [+-;-+], each / 4.

    LL of all channels comes first, so the first C outputs are the 2 x 2 means and stay in the input's
    range. A uint8 input is read as x / 255 in float32.
    """
    kind = x.dtype
    if kind == torch.uint8:
        kind, x = torch.float32, x.to(torch.float32) / 255
    x = _wide(x)
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    top, bottom = a + b, c + d
    left, right = a - b, c - d
    bands = (top + bottom, left + right, top - bottom, left - right)
    return (torch.cat(bands, dim=1) * 0.25).to(kind)


def haar_inverse(y: Tensor, *, to_uint8: bool = False) -> Tensor:
    """Inverse of `haar_forward`: (N, 4C, H, W) -> (N, C, 2H, 2W); factor 1.

    With `to_uint8` the result is clamped to [0, 1] and returned as round(255 x), half to even.
    """
    n, c4, h, w = y.shape
    ll, lh, hl, hh = _wide(y).reshape(n, 4, c4 // 4, h, w).unbind(1)
    even, odd = ll + hl, ll - hl
    dif_even, dif_odd = lh + hh, lh - hh
    top = torch.stack((even + dif_even, even - dif_even), dim=-1)
    bottom = torch.stack((odd + dif_odd, odd - dif_odd), dim=-1)
    x = torch.stack((top, bottom), dim=3).reshape(n, c4 // 4, 2 * h, 2 * w)
    return _grey_levels(x, 8) if to_uint8 else x.to(y.dtype)


def _grey_levels(x: Tensor, depth: int) -> Tensor:
    """Clamp to [0, 1] and round to the levels of `depth` bits, half to even, as uint8 or uint16; NaN is black."""
    levels = _wide(x).nan_to_num(0.0).clamp_(0, 1).mul_(2**depth - 1).round_()
    return levels.to(torch.uint8 if depth == 8 else torch.uint16)


@dataclass(frozen=True)
class LogScale:
    """The clamped log-scale of a coupling: s -> c g(k s), in (-c, c), with c = `clamp`, k = `tightness`.

    activation names g. "sigmoid": g(u) = 2 sigmoid(u) - 1 (the paper); "tanh": g(u) = tanh(u); "proposal1": the sigmoid
    clamp of j(u) = sign(u)(|u| + 1/2) + 1/2 (dissertation 3.4.1), whose jump counts as slope 1. Raises ValueError for
    another.
    """

    clamp: float = 1.0
    tightness: float = 1.0
    activation: Activation = "sigmoid"

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")

    def __call__(self, s: Tensor) -> Tensor:
        """The log-scale of a subnet's raw output, of its shape; float32 where that is stored in 16 bits."""
        u = self.tightness * _wide(s)
        if self.activation == "tanh":
            return self.clamp * torch.tanh(u)
        if self.activation == "proposal1":
            # sign() has zero gradient everywhere, which leaves dj/du = 1 as the dissertation wants.
            u = u + 0.5 * torch.sign(u) + 0.5
        # 2 sigmoid(u) - 1 = tanh(u / 2), without the cancellation near zero.
        return self.clamp * torch.tanh(0.5 * u)


PAPER = LogScale()
"""That of Xiao et al. 2020: c = k = 1, "sigmoid"."""


def coupling_forward(
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    scale: LogScale = PAPER,
    log_det: bool = False,
    inplace: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Enhanced affine coupling, second half-step: y = x exp(c g(k s)) + t, from the subnets' raw outputs.

    x, s, t: (N, C, H, W); s and t may be in reduced precision under a float32 x. Returns y and, where asked
    for, the per-sample log-determinant (N,), both in the dtype of x. With `inplace`, y is written over x.
    """
    sigma = scale(s)
    if inplace and x.dtype == sigma.dtype:
        y = x.mul_(torch.exp(sigma)).add_(t)
    else:
        y = (_wide(x) * torch.exp(sigma) + t).to(x.dtype)
        y = x.copy_(y) if inplace else y
    return y, (sigma.sum(dim=(1, 2, 3)).to(x.dtype) if log_det else None)


def coupling_inverse(
    y: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    scale: LogScale = PAPER,
    log_det: bool = False,
    inplace: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Inverse of `coupling_forward`: x = (y - t) exp(-c g(k s)); the log-determinant is negated."""
    sigma = scale(s)
    if inplace and y.dtype == sigma.dtype:
        x = y.sub_(t).mul_(torch.exp(-sigma))
    else:
        x = ((_wide(y) - t) * torch.exp(-sigma)).to(y.dtype)
        x = y.copy_(x) if inplace else x
    return x, (-sigma.sum(dim=(1, 2, 3)).to(y.dtype) if log_det else None)


def additive_forward(x: Tensor, p: Tensor, *, inplace: bool = False) -> Tensor:
    """First half-step of a coupling: y = x + p, in the dtype of x."""
    return x.add_(p) if inplace else x + p


def additive_inverse(y: Tensor, p: Tensor, *, inplace: bool = False) -> Tensor:
    """Inverse of `additive_forward`: x = y - p."""
    return y.sub_(p) if inplace else y - p


class _StraightThroughQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: int) -> Tensor:
        return _wide(x).clamp(0, 1).mul_(levels).round_().div_(levels).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def quantize(x: Tensor, *, depth: int = 8, to_integer: bool = False) -> Tensor:
    """To the grid of `depth` bits, L = 2^depth - 1: clamp to [0, 1], round(L x) / L, half to even.

    The gradient is the identity everywhere and NaN stays NaN. With `to_integer` the result is round(L x) as
    uint8 or uint16, NaN is 0, and there is no gradient.
    """
    if to_integer:
        return _grey_levels(x.detach(), depth)
    result: Tensor = _StraightThroughQuantize.apply(x, 2**depth - 1)  # type: ignore[no-untyped-call]
    return result


def bias_lrelu_backward(
    grad: Tensor, y: Tensor, negative_slope: float = 0.2, *, bias_dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """The gradients by x (N, C, H, W) and by the bias (C,) of y = leaky_relu(x + bias), from `y` alone.

    The sign of y is that of x + bias where the slope is not negative. dx has the dtype of y, and so has the
    gradient by the bias unless `bias_dtype` says otherwise.
    """
    dx: Tensor = torch.ops.aten.leaky_relu_backward(grad, y, negative_slope, True)
    return dx.to(y.dtype), dx.sum(dim=(0, 2, 3), dtype=bias_dtype).to(bias_dtype or y.dtype)


def bias_lrelu_into(x: Tensor, bias: Tensor, out: Tensor, channel: int, negative_slope: float = 0.2) -> Tensor:
    """Write leaky_relu(x + bias) into `out[:, channel : channel + C]` and return that view.

    x: (N, C, H, W); bias: (C,); out: (N, C_total, H, W), the preallocated buffer of a dense block.
    """
    view = out[:, channel : channel + x.shape[1]]
    view.copy_(F.leaky_relu(_wide(x) + _wide(bias).view(1, -1, 1, 1), negative_slope))
    return view


def dense_block(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], negative_slope: float = 0.2) -> Tensor:
    """A dense block by concatenation, in the dtype of x: five 3 x 3 convolutions, each of all that came before.

    x: (N, C, H, W); weights: (growth, C + k growth, 3, 3) for k = 0..3 and (out, C + 4 growth, 3, 3).
    """
    features = x
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        y = F.leaky_relu_(F.conv2d(features, weight, bias, padding=1), negative_slope)
        features = torch.cat((features, y), dim=1)
    return F.conv2d(features, weights[-1], biases[-1], padding=1)
