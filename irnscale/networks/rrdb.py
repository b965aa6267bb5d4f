"""Residual-in-residual dense blocks: a network for super-resolution, and the encoder of SRFlow."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irnscale.networks.dense_block import SLOPE, DenseBlock
from irnscale.networks.families.rrdb import RRDBConfig
from irnscale.networks.network import IMAGE_CHANNELS, SuperResolutionNetwork
from irnscale.networks.widening import convolve_few

CHANNELS = 64
"""Of the features between blocks, in every published network."""
SHARE = 0.2
"""What is added of a block's result."""


class RRDB(nn.Module):
    """x -> x + 0.2 r(x) with r = r_3 r_2 r_1 and r_k(x) = x + 0.2 d_k(x) of three dense blocks d_k.

    (N, 64, H, W) in and out. r holds x itself, as in the code of Wang et al. 2018 (ESRGAN); see there section 3.1.
    """

    def __init__(self, growth: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(DenseBlock(CHANNELS, CHANNELS, growth) for _ in range(3))
        for block in self.blocks:
            assert isinstance(block, DenseBlock)
            for conv in block.convolutions:
                nn.init.kaiming_normal_(conv.weight)
                conv.weight.data.mul_(0.1)

    support = 3 * DenseBlock.support
    """Pixels on each side that one output pixel depends on."""

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, C, h, w) -> the same shape, residually."""
        r = x
        for block in self.blocks:
            r = torch.add(r, block(r).to(r.dtype), alpha=SHARE)
        return torch.add(x, r, alpha=SHARE)


class RRDBEncoder(nn.Module):
    """(N, `channels`, h, w) -> features on the grid of the small picture and on finer ones, any h and w.

    A convolution to 64 channels, `blocks` times `RRDB`, a convolution whose result is added to its input, and
    `upconvs` times: nearest enlargement by 2 and a convolution, LeakyReLU(0.2) between them. All convolutions are 3 x 3
    and pad with zeros. Source: Wang et al. 2018 and their code; SRFlow's for what is read of it.

    `compute_dtype` is the precision of the convolutions (None: that of the weights).
    """

    def __init__(self, blocks: int, growth: int, upconvs: int, *, channels: int = IMAGE_CHANNELS) -> None:
        super().__init__()
        self.compute_dtype: torch.dtype | None = None
        self.conv_first = nn.Conv2d(channels, CHANNELS, 3, padding=1)
        self.trunk = nn.ModuleList(RRDB(growth) for _ in range(blocks))
        self.trunk_conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.upconvs = nn.ModuleList(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in range(upconvs))

    @property
    def support(self) -> int:
        """Small pixels on each side that a feature depends on: 1 at most more for all enlargements together."""
        return 2 + RRDB.support * len(self.trunk) + (1 if len(self.upconvs) else 0)

    def conv(self, layer: nn.Module, x: Tensor) -> Tensor:
        """A convolution of this network in its precision; the result has the dtype of `x`."""
        assert isinstance(layer, nn.Conv2d)
        assert layer.bias is not None
        dtype = self.compute_dtype or layer.weight.dtype
        given = x.to(dtype, memory_format=torch.channels_last)
        return convolve_few(given, layer.weight, layer.bias, dtype).to(x.dtype)

    def forward(self, x: Tensor, taps: tuple[int, ...] = ()) -> tuple[list[Tensor], Tensor | None]:
        """Features (N, 64, h 2^k, w 2^k) for k = 0 .. upconvs, each before its LeakyReLU, and those after the blocks
        `taps`, counted from 0, joined, (N, 64 len(taps), h, w); None without taps.
        """
        y = self.conv(self.conv_first, x)
        kept: dict[int, Tensor] = {}
        for index, block in enumerate(self.trunk):
            y = block(y)
            kept[index] = y
            if index not in taps:
                del kept[index]
        y = y + self.conv(self.trunk_conv, y)
        found = [y]
        for index, up in enumerate(self.upconvs):
            y = F.leaky_relu(y, SLOPE) if index else y
            y = self.conv(up, F.interpolate(y, scale_factor=2, mode="nearest"))
            found.append(y)
        return found, torch.cat([kept[index] for index in taps], dim=1) if taps else None


class RRDBHead(nn.Module):
    """(N, 64, H, W) features before their LeakyReLU -> (N, 3, H, W): two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_hr = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.conv_last = nn.Conv2d(CHANNELS, IMAGE_CHANNELS, 3, padding=1)

    def forward(self, encoder: RRDBEncoder, y: Tensor) -> Tensor:
        """In the precision of the encoder."""
        y = F.leaky_relu(encoder.conv(self.conv_hr, F.leaky_relu(y, SLOPE)), SLOPE)
        return encoder.conv(self.conv_last, y)


class RRDBNet(SuperResolutionNetwork):
    """(N, 3, h, w) in [0, 1] -> (N, 3, scale h, scale w), any h and w: the network of ESRGAN, without its losses.

    What SRFlow's encoder is pretrained as. Source: as `RRDBEncoder`.
    """

    config: RRDBConfig

    def __init__(self, config: RRDBConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or RRDBConfig()
        self.encoder = RRDBEncoder(config.rrdb_blocks, config.rrdb_growth, int(math.log2(config.scale)))
        self.head = RRDBHead()

    @property
    def support(self) -> int:
        """Small pixels on each side that an output pixel depends on."""
        return self.encoder.support + 1

    @property
    def channels_alive(self) -> int:
        """Three maps of the features of large pixels; a dense block of small ones is less."""
        return 3 * CHANNELS * self.scale**2

    def forward(self, x: Tensor) -> Tensor:
        """LR (N, 3, h, w) in [0, 1] -> (N, 3, scale h, scale w), unclamped."""
        features, _ = self.encoder(x)
        result: Tensor = self.head(self.encoder, features[-1])
        return result
