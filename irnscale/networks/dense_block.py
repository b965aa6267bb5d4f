"""The dense convolutional subnet of the couplings."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from irnscale.kernels import PackedGroup, dense_blocks, fits_dense, mode, use_triton
from irnscale.kernels.dispatch import REDUCED
from irnscale.networks.dense_training import ConstantFunction, DenseFunction, as_result, dense_features

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

    A block whose fifth convolution has zero weights gives its bias everywhere, whatever it reads. `fix` makes it one
    that stays so in training, and that runs no convolutions; see `is_constant`.
    """

    support = 5
    """Pixels on each side that one output pixel depends on."""

    def __init__(self, in_channels: int, out_channels: int, growth: int = 32) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.growth = growth
        self.compute_dtype: torch.dtype | None = None
        self.fixed = False
        self.packed: tuple[tuple[DenseBlock, ...], PackedGroup] | None = None
        """The blocks that run with this one and their packed parameters, for a training step; see `PackedNetwork`."""
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
        """The five convolutions, conv1 to conv5, in order."""
        return [self.conv1, self.conv2, self.conv3, self.conv4, self.conv5]

    @property
    def parameter_list(self) -> list[Tensor]:
        """The five weights, then the five biases."""
        biases = [conv.bias for conv in self.convolutions if conv.bias is not None]
        return [*(conv.weight for conv in self.convolutions), *biases]

    def fix(self) -> None:
        """Zero conv5's weights and train nothing but its bias from here on."""
        self.fixed = True
        self.requires_grad_(False)
        nn.init.zeros_(self.conv5.weight)
        assert self.conv5.bias is not None
        self.conv5.bias.requires_grad_()

    @property
    def is_constant(self) -> bool:
        """Whether the result does not depend on what is read. Looks at the weights, for which a GPU is waited for."""
        return self.fixed or not bool(self.conv5.weight.any())

    @property
    def multiplications(self) -> int:
        """Of the convolutions that have to be run, per position."""
        return 0 if self.is_constant else sum(conv.weight.numel() for conv in self.convolutions)

    @property
    def channels_alive(self) -> int:
        """Features, their concatenation and the result: at most 420 in the networks of the usual growth, 32."""
        return max(420, 420 * self.growth // 32)

    def constant(self, n: int, height: int, width: int, dtype: torch.dtype) -> Tensor:
        """The result of a constant block, (n, out_channels, height, width), laid out as the convolutions would."""
        y: Tensor = ConstantFunction.apply(self.conv5.bias, n, height, width, dtype)  # type: ignore[no-untyped-call]
        return y

    def forward(self, x: Tensor) -> Tensor:
        """Run the block; the result is channels-last, its dtype that of `x` or 16-bit (see above)."""
        dtype = self.compute_dtype or self.conv1.weight.dtype
        if self.fixed:
            return as_result(self.constant(x.shape[0], x.shape[2], x.shape[3], dtype), x.dtype)
        if on_kernels([self], x):
            (y,) = _on_kernels([self], x, dtype)
            return as_result(y, x.dtype)
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            trained: Tensor = DenseFunction.apply(x, dtype, SLOPE, *self.parameter_list)  # type: ignore[no-untyped-call]
            return trained
        # Channels-last: 1.5 to 5 times faster than contiguous on CPUs and GPUs alike.
        weights = [conv.weight.to(dtype, memory_format=torch.channels_last) for conv in self.convolutions]
        biases = [conv.bias.to(dtype) for conv in self.convolutions if conv.bias is not None]
        return as_result(dense_features(x, weights, biases, SLOPE)[1], x.dtype)


def on_kernels(blocks: Sequence[nn.Module], x: Tensor) -> bool:
    """Whether dense blocks that read `x` are run by `kernels.dense_blocks`, all in one launch per layer.

    In 16 bits on CUDA; in float32, where cuDNN has not been beaten yet, only if the kernels are forced. Blocks of
    several shapes or dtypes, fixed ones, those that somebody watches by hooks, and torch.compile take the modules.
    """
    first = blocks[0]
    if not isinstance(first, DenseBlock) or torch.compiler.is_compiling() or not use_triton(first.conv1.weight):
        return False
    dtype = first.compute_dtype or first.conv1.weight.dtype
    sizes = first.in_channels, first.out_channels, first.growth
    for block in blocks:
        if not isinstance(block, DenseBlock) or block.fixed or block._forward_hooks or block._forward_pre_hooks:
            return False
        if (block.in_channels, block.out_channels, block.growth) != sizes or block.compute_dtype != first.compute_dtype:
            return False
    forced = mode() == "triton" and dtype == torch.float32
    return (forced or dtype in REDUCED) and fits_dense(first.parameter_list) and x.numel() > 0


def run_together(blocks: Sequence[nn.Module], x: Tensor) -> list[Tensor]:
    """The results of subnets that read the same `x`, in one launch per layer where `on_kernels` says so."""
    if not on_kernels(blocks, x):
        return [block(x) for block in blocks]
    together = [block for block in blocks if isinstance(block, DenseBlock)]
    dtype = together[0].compute_dtype or together[0].conv1.weight.dtype
    return [as_result(y, x.dtype) for y in _on_kernels(together, x, dtype)]


def _on_kernels(blocks: Sequence[DenseBlock], x: Tensor, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """What blocks that run in one launch per layer make of `x`, in `dtype`, from packed parameters if there are any."""
    shared = blocks[0].packed
    if shared is not None and len(shared[0]) == len(blocks) and all(map(operator.is_, shared[0], blocks)):
        return shared[1](x, SLOPE)
    return dense_blocks(x, [block.parameter_list for block in blocks], SLOPE, dtype=dtype)
