"""A network made ready to run: its program in both directions, and its subnets in the precision of the convolutions."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field

import torch
from torch import nn

from irnscale.engine.cuda import GraphedSubnets, GraphPool, wants_graphs
from irnscale.engine.fused import FusedSubnets, fuses
from irnscale.engine.packed import PackedSubnets, packs
from irnscale.engine.subnets import ModuleSubnets, Subnets, as_dense
from irnscale.kernels import use_triton
from irnscale.logs import logger
from irnscale.networks.network import Flow
from irnscale.networks.step import Program

_log = logger(__name__)

Modules = tuple[nn.Module, ...]


@dataclass
class Prepared:
    """`net` has float32 (or float64) weights on the device; the trunk is kept in their dtype.

    `dtype` is that of the convolutions (None: the weights'). Where a tile comes out not finite in a lower
    precision, `net` itself is what it is computed with again.
    """

    net: Flow
    dtype: torch.dtype | None = None
    programs: dict[bool, Program] = field(init=False)
    """By whether it is run in reverse."""
    subnets: dict[Modules, Subnets] = field(default_factory=dict)
    """By `Step.subnets`; both directions have the same."""
    exact: dict[Modules, Subnets] = field(default_factory=dict)
    """The same in the trunk's precision, where that of the convolutions is lower."""

    def __post_init__(self) -> None:
        self.programs = {rev: self.net.program(rev) for rev in (False, True)}
        pool = GraphPool(torch.cuda.graph_pool_handle()) if wants_graphs(self.device) else None
        steps = [step for program in self.programs.values() for level in program.levels for step in level.steps]
        for modules in {step.subnets: None for step in steps if step.subnets}:
            subnets = self._subnets(modules)
            self.subnets[modules] = subnets if pool is None else GraphedSubnets(subnets, pool)
            if self.lowered:
                self.exact[modules] = ModuleSubnets(modules)
        for way, count in Counter(type(subnets).__name__ for subnets in self.subnets.values()).items():
            _log.debug("%s on %s: %d groups of subnets as %s", type(self.net).__name__, self.device, count, way)
        if _log.isEnabledFor(logging.DEBUG):
            kernels = "Triton" if use_triton(next(self.net.parameters())) else "plain torch"
            _log.debug("%s on %s: kernels in %s", type(self.net).__name__, self.device, kernels)

    def _subnets(self, modules: Modules) -> Subnets:
        dtype = self.dtype or self.trunk_dtype
        if packs(modules, dtype):
            return PackedSubnets(as_dense(modules), dtype)
        if fuses(modules, dtype):
            return FusedSubnets(as_dense(modules), dtype)
        return ModuleSubnets(modules, self.dtype)

    @property
    def trunk_dtype(self) -> torch.dtype:
        """The dtype of the state."""
        dtype: torch.dtype = next(self.net.parameters()).dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """The device that the weights are on, where it runs."""
        device: torch.device = next(self.net.parameters()).device
        return device

    @property
    def lowered(self) -> bool:
        """Whether the convolutions have a lower precision than the trunk."""
        return self.dtype is not None and self.dtype != self.trunk_dtype
