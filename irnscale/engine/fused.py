"""Dense blocks on CUDA in the kernels' own layout: weights packed once, s and t in one launch per layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from irnscale.engine.precision import result_of
from irnscale.engine.subnets import Border, Results, as_dense
from irnscale.kernels import DenseWeights, fits_dense, use_triton
from irnscale.kernels.dispatch import REDUCED
from irnscale.networks import DenseBlock
from irnscale.networks.dense_block import SLOPE


class FusedSubnets:
    """Dense blocks that read the same x as `engine.subnets.Subnets`. A block that is constant is not run.

    Results are slices of the kernels' padded buffers, which the coupling's arithmetic reads where they lie.
    """

    def __init__(self, blocks: Sequence[DenseBlock], dtype: torch.dtype) -> None:
        self._dtype = result_of(blocks[0].out_channels, dtype)
        self._constants = [block if block.is_constant else None for block in blocks]
        running = [block.parameter_list for block in blocks if not block.is_constant]
        self._weights = DenseWeights.pack(running, dtype, SLOPE, result=self._dtype) if running else None

    def __call__(self, source: Tensor, border: Border) -> Results:
        """See `Subnets`."""
        found = iter([] if self._weights is None else self._weights(source))
        return tuple(
            border.crop(next(found) if block is None else self._spread(block, source)) for block in self._constants
        )

    def _spread(self, block: DenseBlock, source: Tensor) -> Tensor:
        return block.constant(source.shape[0], source.shape[2], source.shape[3], self._dtype)


def fuses(modules: Sequence[nn.Module], dtype: torch.dtype) -> bool:
    """Whether subnets can be run this way, and in `dtype` are faster so: in 16 bits on CUDA."""
    blocks = as_dense(modules)
    fit = bool(blocks) and all(fits_dense(block.parameter_list) for block in blocks)
    on_cuda = all(w.is_cuda for net in modules for w in net.parameters())
    return fit and on_cuda and dtype in REDUCED and use_triton(next(modules[0].parameters()))
