"""Dense blocks on CUDA in the kernels' own layout: weights packed once, s and t in one launch per layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from irnscale.engine.subnets import Border
from irnscale.kernels import DenseWeights, fits_dense, use_triton
from irnscale.kernels.dispatch import REDUCED
from irnscale.networks import DenseBlock, EnhancedAffineCoupling
from irnscale.networks.dense_block import SLOPE


class FusedSubnets:
    """p, s and t of one coupling as `engine.subnets.Subnets`. A block that is constant is not run.

    Results are slices of the kernels' padded buffers, which the coupling's arithmetic reads where they lie.
    """

    def __init__(self, coupling: EnhancedAffineCoupling, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._p = _packed([coupling.p], dtype)
        self._s, self._t = (_constant(block) for block in (coupling.s, coupling.t))
        running = [block for block in (coupling.s, coupling.t) if _constant(block) is None]
        self._st = _packed(running, dtype)

    def p(self, source: Tensor, border: Border) -> Tensor:
        """See `Subnets`."""
        assert self._p is not None
        return border.crop(self._p(source)[0])

    def st(self, source: Tensor, border: Border) -> tuple[Tensor, Tensor]:
        """See `Subnets`."""
        found = iter([] if self._st is None else self._st(source))
        s, t = (next(found) if block is None else self._spread(block, source) for block in (self._s, self._t))
        return border.crop(s), border.crop(t)

    def _spread(self, block: DenseBlock, source: Tensor) -> Tensor:
        return block.constant(source.shape[0], source.shape[2], source.shape[3], self._dtype)


def _constant(block: nn.Module) -> DenseBlock | None:
    return block if isinstance(block, DenseBlock) and block.is_constant else None


def _packed(blocks: list[nn.Module | None] | list[nn.Module], dtype: torch.dtype) -> DenseWeights | None:
    parameters = [block.parameter_list for block in blocks if isinstance(block, DenseBlock)]
    return DenseWeights.pack(parameters, dtype, SLOPE) if parameters else None


def fuses(coupling: EnhancedAffineCoupling, dtype: torch.dtype) -> bool:
    """Whether a coupling's subnets can be run this way, and in `dtype` are faster so: in 16 bits on CUDA."""
    nets = [net for net in (coupling.p, coupling.s, coupling.t) if net is not None]
    fit = all(isinstance(net, DenseBlock) and fits_dense(net.parameter_list) for net in nets)
    on_cuda = all(w.is_cuda for net in nets for w in net.parameters())
    return fit and on_cuda and dtype in REDUCED and use_triton(next(coupling.parameters()))
