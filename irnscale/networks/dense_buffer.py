"""The features of a dense block in one preallocated buffer, for the Triton kernels.

Each activation is written where the later layers read it, in the pass that adds the bias, so that nothing is
concatenated. (torch copies a channel slice of a channels-last buffer into packed memory for cuDNN, which moves as
much as a concatenation did; what is saved are the passes of bias and activation.)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from irnscale.kernels import bias_lrelu_into


def dense_in_buffer(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], negative_slope: float
) -> tuple[list[Tensor], Tensor]:
    """The input and the four features as views of one channels-last buffer, and the block's output.

    x: (N, C, H, W) of any dtype and layout; weights: the five, in the compute dtype and channels-last; biases in
    any floating dtype. No gradients: see `dense_training.DenseFunction`.
    """
    n, channels, h, w = x.shape
    starts = [weight.shape[1] for weight in weights]
    kind = {"dtype": weights[0].dtype, "device": x.device, "memory_format": torch.channels_last}
    buffer = torch.empty((n, starts[4], h, w), **kind)  # type: ignore[call-overload]
    features = [buffer[:, :channels].copy_(x)]
    for start, weight, bias in zip(starts[:4], weights[:4], biases[:4], strict=True):
        features.append(
            bias_lrelu_into(F.conv2d(buffer[:, :start], weight, padding=1), bias, buffer, start, negative_slope)
        )
    return features, F.conv2d(buffer, weights[4], biases[4].to(weights[4].dtype), padding=1)
