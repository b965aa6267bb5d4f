"""The dense block with a backward pass of its own: less memory and less time than autograd's.

Autograd keeps every concatenation that a convolution read and adds up, for each feature, one gradient per
later convolution. Here only the features themselves are kept, and each feature's gradient is one convolution
of the gradients of all later layers, side by side, with the weights that read it, side by side: no sums, and
wider products. Same arithmetic, to the rounding of the compute dtype. Source: the chain rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from irnscale.kernels import bias_lrelu_backward, use_triton
from irnscale.networks.dense_buffer import dense_in_buffer

Backward = tuple[Tensor | None, ...]
CHANNELS_LAST = torch.channels_last


def dense_features(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], slope: float
) -> tuple[list[Tensor], Tensor]:
    """The input and the four features in the dtype of the weights, and the output; without gradients of its own."""
    if use_triton(weights[0]):
        return dense_in_buffer(x, weights, biases, slope)
    features = [x.to(weights[0].dtype, memory_format=CHANNELS_LAST)]
    y = features[0]
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        y = F.conv2d(torch.cat(features, dim=1) if k else y, weight, bias, padding=1)
        if k < 4:
            features.append(F.leaky_relu_(y, slope))
    return features, y


def as_result(y: Tensor, dtype: torch.dtype) -> Tensor:
    """`y` as the couplings want it under a trunk of `dtype`: 16 bits stay under float32, else that dtype."""
    return y if dtype == torch.float32 and y.dtype.itemsize == 2 else y.to(dtype)


class ConstantFunction(torch.autograd.Function):
    """The fifth bias (out,) everywhere, (n, out, height, width) in `dtype`; its gradient is summed as there."""

    @staticmethod
    def forward(ctx: Any, bias: Tensor, n: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
        """The bias at every place, (n, out, height, width), channels last."""
        ctx.dtype, ctx.bias_dtype = dtype, bias.dtype
        return bias.to(dtype).view(1, -1, 1, 1).expand(n, -1, height, width).contiguous(memory_format=CHANNELS_LAST)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Backward:
        """The gradient of the bias (out,), summed over samples and places."""
        later = grads[0].to(ctx.dtype, memory_format=CHANNELS_LAST)
        return later.sum(dim=(0, 2, 3)).to(ctx.bias_dtype), None, None, None, None


class DenseFunction(torch.autograd.Function):
    """x (N, in, H, W), dtype and LeakyReLU's slope, then the five weights and five biases -> (N, out, H, W)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype, slope: float, *parameters: Tensor) -> Tensor:
        """Run the block in `dtype`, keeping what each layer read; `parameters`: five weights, then five biases."""
        weights = [w.to(dtype, memory_format=CHANNELS_LAST) for w in parameters[:5]]
        biases = [b.to(dtype) for b in parameters[5:]]
        features, y = dense_features(x, weights, biases, slope)
        ctx.save_for_backward(*features, *weights)
        ctx.input_dtype, ctx.slope = x.dtype, slope
        ctx.parameter_dtypes = [p.dtype for p in parameters]
        return as_result(y, x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Backward:
        """Gradients of x and of all parameters; None for these where none of them is trained."""
        features, weights = ctx.saved_tensors[:5], ctx.saved_tensors[5:]
        learning = any(ctx.needs_input_grad[3:])
        ends = [f.shape[1] for f in features]
        ends = [sum(ends[: j + 1]) for j in range(5)]
        weight_grads: list[list[Tensor]] = [[] for _ in range(5)]
        bias_grads: list[Tensor] = []
        later = grads[0].to(weights[0].dtype, memory_format=CHANNELS_LAST)  # of the layers that read feature j
        bias_grads.append(later.sum(dim=(0, 2, 3)))
        grad = later
        for j in reversed(range(5)):
            channels = slice(ends[j] - features[j].shape[1], ends[j])
            readers = weights[j:]
            stacked = torch.cat([w[:, channels] for w in readers]).contiguous(memory_format=CHANNELS_LAST)
            wanted = [j > 0 or ctx.needs_input_grad[0], learning, False]
            grad, stacked_grad, _ = torch.ops.aten.convolution_backward(
                later, features[j], stacked, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted
            )
            if learning:
                for k, part in enumerate(stacked_grad.split([w.shape[0] for w in readers]), start=j):
                    weight_grads[k].append(part)
            if j:
                assert grad is not None
                grad, bias_grad = bias_lrelu_backward(grad, features[j], ctx.slope)
                bias_grads.append(bias_grad)
                later = torch.cat((grad, later), dim=1)
        into = None if grad is None else grad.to(ctx.input_dtype)
        if not learning:  # a frozen network that something else is trained through
            return into, None, None, *([None] * len(ctx.parameter_dtypes))
        whole = [torch.cat(parts[::-1], dim=1) for parts in weight_grads] + bias_grads[::-1]
        typed = [g.to(dtype) for g, dtype in zip(whole, ctx.parameter_dtypes, strict=True)]
        return into, None, None, *typed
