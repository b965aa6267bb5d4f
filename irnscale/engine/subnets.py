"""The subnets of a step, prepared to run on tiles in a given precision."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from irnscale.networks import DenseBlock

Results = tuple[Tensor, ...]


class Border(NamedTuple):
    """How far a source reaches beyond its target on each side: the halo, or less at the image's border.

    Beyond the image's border, where the halo is cut short, the network's own zero padding applies.
    """

    top: int
    bottom: int
    left: int
    right: int

    def crop(self, x: Tensor) -> Tensor:
        """A tensor (N, C, H, W) without the border."""
        return x[:, :, self.top : x.shape[2] - self.bottom, self.left : x.shape[3] - self.right]


class Subnets(Protocol):
    """All subnets of one step on a tile of what they read: (N, C, h + halo, w + halo) -> (N, C', h, w) each."""

    def __call__(self, source: Tensor, border: Border) -> Results:
        """In the order of `Step.subnets`."""


def as_dense(modules: Sequence[nn.Module]) -> list[DenseBlock]:
    """Subnets as the dense blocks that they all are, for ways that are made for these; none where one is not."""
    blocks = [module for module in modules if isinstance(module, DenseBlock)]
    return blocks if len(blocks) == len(modules) else []


class ConstantBlock(nn.Module):
    """A dense block that gives its last bias everywhere: the same numbers, and no convolutions."""

    def __init__(self, block: DenseBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self._block, self._dtype = block, dtype

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', H, W)."""
        return self._block.constant(x.shape[0], x.shape[2], x.shape[3], self._dtype)


class ModuleSubnets:
    """The modules themselves, or copies of them with weights of another dtype; constant ones are not run."""

    def __init__(self, modules: Sequence[nn.Module], dtype: torch.dtype | None = None) -> None:
        self._modules = [_lowered(module, dtype) for module in modules]

    def __call__(self, source: Tensor, border: Border) -> Results:
        """See `Subnets`."""
        return tuple(border.crop(module(source)) for module in self._modules)


def _lowered(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    if isinstance(module, DenseBlock) and module.is_constant:
        return ConstantBlock(module, dtype or module.compute_dtype or module.conv1.weight.dtype)
    if dtype is None or dtype == next(module.parameters()).dtype:
        return module
    lowered: nn.Module = copy.deepcopy(module).to(dtype)
    for weight in lowered.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    for block in lowered.modules():
        if isinstance(block, DenseBlock):
            block.compute_dtype = None
    return lowered
