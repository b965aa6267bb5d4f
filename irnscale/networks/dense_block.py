"""The dense convolutional subnet of the couplings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from irnscale.networks.dense_training import DenseFunction, as_result, dense_features

SLOPE = 0.2


class DenseBlock(nn.Module):
    """Five 3 x 3 convolutions (stride 1, padding 1, bias), each reading the input and all earlier outputs.

    (N, in_channels, H, W) -> (N, out_channels, H, W), any H and W; one output depends on 5 pixels around it.
    LeakyReLU(0.2) after the first four. Convolutions 1-4 start Xavier-normal x 0.1 with zero bias, the
    fifth at zero, so that an untrained coupling is the identity. Source: the dissertation's figure 3.3;
    Xiao et al. 2020 and their code.

    `compute_dtype` is the precision of the convolutions (None: that of the weights): input and weights are
    cast to it. Under a float32 input a result in 16 bits stays as it is, since the couplings' kernels read it
    so; any other result is cast to the dtype of the input. The trunk around the block keeps its precision.
    It is a setting of the module, to be changed only while nobody is calling it.
    """

    support = 5
    """Pixels on each side that one output pixel depends on."""

    def __init__(self, in_channels: int, out_channels: int, growth: int = 32) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.growth = growth
        self.compute_dtype: torch.dtype | None = None
        self.conv1 = nn.Conv2d(in_channels, growth, 3, padding=1)
        self.conv2 = nn.Conv2d(in_channels + growth, growth, 3, padding=1)
        self.conv3 = nn.Conv2d(in_channels + 2 * growth, growth, 3, padding=1)
        self.conv4 = nn.Conv2d(in_channels + 3 * growth, growth, 3, padding=1)
        self.conv5 = nn.Conv2d(in_channels + 4 * growth, out_channels, 3, padding=1)
        for conv in self.convolutions:
            if conv is self.conv5:
                nn.init.zeros_(conv.weight)
            else:
                nn.init.xavier_normal_(conv.weight)
                conv.weight.data.mul_(0.1)
            assert conv.bias is not None
            nn.init.zeros_(conv.bias)

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        """conv1 to conv5."""
        return [self.conv1, self.conv2, self.conv3, self.conv4, self.conv5]

    def forward(self, x: Tensor) -> Tensor:
        """Run the block; the result is channels-last, its dtype that of `x` or 16-bit (see above)."""
        dtype = self.compute_dtype or self.conv1.weight.dtype
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            parameters = [c.weight for c in self.convolutions] + [c.bias for c in self.convolutions]
            trained: Tensor = DenseFunction.apply(x, dtype, SLOPE, *parameters)  # type: ignore[no-untyped-call]
            return trained
        # Channels-last: 1.5 to 5 times faster than contiguous on CPUs and GPUs alike.
        weights = [conv.weight.to(dtype, memory_format=torch.channels_last) for conv in self.convolutions]
        biases = [conv.bias.to(dtype) for conv in self.convolutions if conv.bias is not None]
        return as_result(dense_features(x, weights, biases, SLOPE)[1], x.dtype)
