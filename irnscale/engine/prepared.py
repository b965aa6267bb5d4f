"""A network made ready to run: its half-steps in order, and its subnets in the precision of the convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from irnscale.engine.cuda import GraphedSubnets, wants_graphs
from irnscale.engine.fused import FusedSubnets, fuses
from irnscale.engine.packed import PackedSubnets, packs
from irnscale.engine.subnets import ModuleSubnets, Subnets
from irnscale.freia import InvertibleModule
from irnscale.networks import DenseBlock, EnhancedAffineCoupling, HaarTransform, UnshuffleMatrix
from irnscale.networks.network import IMAGE_CHANNELS, Flow


@dataclass
class Prepared:
    """`net` has float32 (or float64) weights on the device; the trunk is kept in their dtype.

    `dtype` is that of the convolutions (None: the weights'). Where a tile comes out not finite in a lower
    precision, `net` itself is what it is computed with again.
    """

    net: Flow
    dtype: torch.dtype | None = None
    subnets: dict[EnhancedAffineCoupling, Subnets] = field(default_factory=dict)
    costs: dict[EnhancedAffineCoupling, tuple[int, int]] = field(default_factory=dict)
    """Multiplications per position of p, and of s and t."""

    def __post_init__(self) -> None:
        pool = torch.cuda.graph_pool_handle() if wants_graphs(self.device) else None
        for module in self.net.module_list:
            if isinstance(module, EnhancedAffineCoupling):
                dtype = self.dtype or self.trunk_dtype
                subnets: Subnets
                if packs(module, dtype):
                    subnets = PackedSubnets(module, dtype)
                elif fuses(module, dtype):
                    subnets = FusedSubnets(module, dtype)
                else:
                    subnets = ModuleSubnets(module, self.dtype)
                self.costs[module] = _cost(module.p), _cost(module.s) + _cost(module.t)
                self.subnets[module] = subnets if pool is None else GraphedSubnets(subnets, pool)

    @property
    def trunk_dtype(self) -> torch.dtype:
        """The dtype of the state."""
        dtype: torch.dtype = next(self.net.parameters()).dtype
        return dtype

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        device: torch.device = next(self.net.parameters()).device
        return device

    @property
    def lowered(self) -> bool:
        """Whether the convolutions have a lower precision than the trunk."""
        return self.dtype is not None and self.dtype != self.trunk_dtype


@dataclass(frozen=True)
class Step:
    """One half-step of a coupling (`affine`: the second), or a module without spatial context (no subnets).

    `exact` are the subnets in the trunk's precision, where `subnets` have a lower one; `cost` is the number of
    multiplications per position.
    """

    module: InvertibleModule
    affine: bool = False
    subnets: Subnets | None = None
    exact: Subnets | None = None
    cost: int = 1


def factor_of(module: InvertibleModule | None) -> int:
    """By how much a module shrinks each side; 1 for those that keep the size, and for none."""
    if isinstance(module, HaarTransform):
        return 2
    return module.scale if isinstance(module, UnshuffleMatrix) else 1


@dataclass(frozen=True)
class Segment:
    """What a network does at one level: modules that keep the size, between two resamplings.

    ratio: the level's sides to those of the small image. channels: of its whole state. before, after: the
    resampling modules on either side, None where the image or the small image itself is.
    """

    modules: list[InvertibleModule]
    ratio: int
    channels: int
    before: InvertibleModule | None
    after: InvertibleModule | None


def segments(net: Flow, rev: bool) -> list[Segment]:
    """The levels in the order of work. In reverse, all of the network; forward, what downscaling runs."""
    found: list[Segment] = []
    modules: list[InvertibleModule] = []
    before: InvertibleModule | None = None
    ratio, channels = (1, IMAGE_CHANNELS * net.scale**2) if rev else (net.scale, IMAGE_CHANNELS)
    for module in [*(reversed(list(net.module_list)) if rev else net.down_modules), None]:
        if module is not None and factor_of(module) == 1:
            modules.append(module)
            continue
        if modules or (before is not None and module is not None):  # between two resamplings there may be none
            found.append(Segment(modules, ratio, channels, before, module))
        modules, before, factor = [], module, factor_of(module)
        ratio, channels = (ratio * factor, channels // factor**2) if rev else (ratio // factor, channels * factor**2)
    return found


def steps_of(prepared: Prepared, modules: Sequence[InvertibleModule], rev: bool) -> list[Step]:
    """The half-steps of the modules, in order."""
    steps = []
    for module in modules:
        if not isinstance(module, EnhancedAffineCoupling):
            steps.append(Step(module))
            continue
        subnets = prepared.subnets[module]
        exact = ModuleSubnets(module) if prepared.lowered else None
        p, st = prepared.costs[module]
        halves = [Step(module, True, subnets, exact, cost=st)]
        if module.p is not None:
            halves.insert(0, Step(module, False, subnets, exact, cost=p))
        steps.extend(reversed(halves) if rev else halves)
    return steps


def _cost(net: nn.Module | None) -> int:
    """Multiplications per position, and one for the arithmetic."""
    if net is None:
        return 0
    return 1 + (net.multiplications if isinstance(net, DenseBlock) else sum(w.numel() for w in net.parameters()))


def steps_of_modules(modules: Sequence[InvertibleModule]) -> int:
    """How many steps they make."""
    return sum(2 if isinstance(module, EnhancedAffineCoupling) and module.p is not None else 1 for module in modules)


def work_of(prepared: Prepared, height: int, width: int, rev: bool) -> int:
    """Multiplications for a large image of this size: what `Sweep` reports its progress in."""
    total, net = 0, prepared.net
    for part in segments(net, rev):
        positions = (height // net.scale * part.ratio) * (width // net.scale * part.ratio)
        for module in part.modules:
            total += positions * (sum(prepared.costs[module]) if isinstance(module, EnhancedAffineCoupling) else 1)
    return total
