"""A network's dense blocks on parameters that are packed once per training step, see `kernels.DensePacking`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from irnscale.kernels import DensePacking
from irnscale.networks.dense_block import DenseBlock, on_kernels
from irnscale.networks.network import Flow, Network

Blocks = tuple[DenseBlock, ...]


class PackedNetwork:
    """Those dense blocks of a network that run on the kernels, in the groups that run together, inside `packed`."""

    def __init__(self, groups: Sequence[Blocks], values: Tensor, grads: Tensor) -> None:
        first = groups[0][0]
        dtype = first.compute_dtype or first.conv1.weight.dtype
        parameters = [[block.parameter_list for block in blocks] for blocks in groups]
        self._groups = list(groups)
        self._packing = DensePacking(values, grads, parameters, dtype)

    @contextmanager
    def packed(self) -> Iterator[None]:
        """Inside, the blocks compute with `values` as they are at the beginning; at the end gradients are in `grads`.

        The network must not be used by another thread meanwhile.
        """
        self._packing.pack()
        for blocks, group in zip(self._groups, self._packing.groups, strict=True):
            blocks[0].packed = blocks, group
        try:
            yield
        finally:
            for blocks in self._groups:
                blocks[0].packed = None
        self._packing.unpack()


def packed_network(net: Network, values: Tensor, grads: Tensor) -> PackedNetwork | None:
    """The blocks of `net` whose parameters are views of the vector `values`; None where none runs on the kernels."""
    if not isinstance(net, Flow):
        return None
    steps = [step for rev in (False, True) for level in net.program(rev).levels for step in level.steps]
    probe, mine = torch.empty(1), values.untyped_storage().data_ptr()
    groups: dict[Blocks, None] = {}
    for step in steps:
        running = [net for net in step.subnets if isinstance(net, DenseBlock) and not net.fixed]
        together = len(running) > 1 and on_kernels(running, probe)
        for blocks in [running] if together else [[block] for block in running]:
            own = all(p.untyped_storage().data_ptr() == mine for block in blocks for p in block.parameters())
            if own and on_kernels(blocks, probe):
                groups[tuple(blocks)] = None
    dtypes = {block.compute_dtype for blocks in groups for block in blocks}
    return PackedNetwork(list(groups), values, grads) if len(dtypes) == 1 else None
