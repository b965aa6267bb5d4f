"""What a network does, step by step: what each step reads, how far around a place, and what it changes.

The engine runs any network by its program, tile by tile and in a window that moves along the image; it knows no layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from irnscale.freia import SameShape

Run = Callable[[Sequence[Tensor], Sequence[Tensor]], None]
"""(planes that are changed, what the subnets made), (N, C, h, w) each: changes the planes in place."""


class Plane(NamedTuple):
    """Some channels of the state between two steps, which lie together in memory."""

    name: str
    channels: int


@dataclass(frozen=True, eq=False)
class Step:
    """Changes some planes at each place by what `subnets` make of others around it.

    planes: how the step cuts the channels of the state, in order; none: as the others do. reads: the planes that the
    subnets are given, one after the other, each a module (N, C, h, w) -> (N, C', h, w) that pads with zeros.
    changes: planes; none: all. halo: positions on each side that a result depends on. channels_alive: those in memory
    at once while a subnet runs, at most.
    """

    run: Run
    planes: tuple[Plane, ...] = ()
    reads: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    subnets: tuple[nn.Module, ...] = ()
    halo: int = 0
    channels_alive: int = 0

    def __post_init__(self) -> None:
        if self.reads and (not self.changes or set(self.reads) & set(self.changes)):
            raise ValueError("a step cannot read around a place what it changes there: it needs another plane")

    @cached_property
    def cost(self) -> int:
        """Multiplications per position, and one for the arithmetic on what each subnet makes. May look at weights."""
        return sum(1 + _multiplications(net) for net in self.subnets) or 1


def step_of_subnets(
    run: Run,
    subnets: Sequence[nn.Module],
    *,
    planes: Sequence[Plane],
    reads: Sequence[str],
    changes: Sequence[str],
) -> Step:
    """A step whose halo and memory are what its subnets say.

    They must have `support`, the positions on each side that they see, and may have `multiplications`, per position
    (else: one for each parameter), and `channels_alive` (else: those of all convolutions). Raises TypeError.
    """
    for net in subnets:
        if not isinstance(getattr(net, "support", None), int):
            raise TypeError(f"{type(net).__name__} must say by `support` how many positions around each it sees")
    return Step(
        run,
        tuple(planes),
        tuple(reads),
        tuple(changes),
        tuple(subnets),
        halo=max(int(net.support) for net in subnets),  # type: ignore[arg-type]
        channels_alive=max(_channels_alive(net) for net in subnets),
    )


def _multiplications(net: nn.Module) -> int:
    own = getattr(net, "multiplications", None)
    return own if isinstance(own, int) else sum(weight.numel() for weight in net.parameters())


def _channels_alive(net: nn.Module) -> int:
    own = getattr(net, "channels_alive", None)
    if isinstance(own, int):
        return own
    return sum(conv.in_channels + conv.out_channels for conv in net.modules() if isinstance(conv, nn.Conv2d))


class Layer(SameShape):
    """A layer that the engine can run, as FrEIA has them: `forward((x,), c, rev, jac)` -> ((y,), log-determinant).

    It keeps the shape unless it says otherwise. factor: by how much it shrinks each side. takes_levels: whether forward
    reads grey levels, uint8, as the image in [0, 1] that they are of, and `to_levels` is its inverse rounded to them.
    """

    factor = 1
    takes_levels = False

    def steps(self, rev: bool) -> list[Step]:
        """What it does, forwards or in reverse, where it keeps the size; here: itself at each place alone."""
        return [Step(lambda changing, _: self._at_each_place(changing, rev))]

    def to_levels(self, y: Tensor) -> Tensor:
        """The inverse of the layer, rounded to 8 bits: y -> uint8 grey levels."""
        raise NotImplementedError

    def _at_each_place(self, changing: Sequence[Tensor], rev: bool) -> None:
        x = torch.cat(tuple(changing), dim=1) if len(changing) > 1 else changing[0]
        (y,), _ = self((x,), rev=rev, jac=False)
        for plane, part in zip(changing, torch.split(y, [plane.shape[1] for plane in changing], dim=1), strict=True):
            plane.copy_(part)


@dataclass(frozen=True, eq=False)
class Level:
    """What a network does between two resamplings.

    planes: the state, cut. ratio: the level's sides to those of the small image. layers: how many made the steps.
    before, after: the resampling layers on either side, None where the image or the small image itself is.
    """

    steps: tuple[Step, ...]
    planes: tuple[Plane, ...]
    ratio: int
    layers: int
    before: Layer | None
    after: Layer | None

    @property
    def channels(self) -> int:
        """Channels of all planes of the state together."""
        return sum(plane.channels for plane in self.planes)

    @cached_property
    def gaps(self) -> list[int]:
        """How many rows each step stays behind the one before: those that it reads beyond a place, which must be done,
        and those that the one before has still to read, which must not be changed yet.
        """
        halos = [0, *(step.halo for step in self.steps)]
        return [max(before, own) for before, own in pairwise(halos)]

    @property
    def last_halo(self) -> int:
        """Rows before those that all steps are done with that the last one still reads."""
        return self.steps[-1].halo if self.steps else 0

    def rows(self, band: int) -> int:
        """Rows that must be in memory where `band` rows come in at once: also the gaps, and what waits to go on."""
        return sum(self.gaps) + self.last_halo + band + factor_of(self.after)


@dataclass(frozen=True, eq=False)
class Program:
    """What a network does in one direction. scale: of the large image's sides to the small one's."""

    levels: tuple[Level, ...]
    scale: int
    rev: bool

    @property
    def halo(self) -> int:
        """Positions around a place that any of its steps reads, at most."""
        return max((step.halo for level in self.levels for step in level.steps), default=0)

    @property
    def channels_alive(self) -> int:
        """The most channels that any of its steps has in memory for each position."""
        return max((step.channels_alive for level in self.levels for step in level.steps), default=0)

    def work(self, height: int, width: int) -> int:
        """Multiplications for a large image of this size."""
        small = (height // self.scale) * (width // self.scale)
        return sum(small * level.ratio**2 * step.cost for level in self.levels for step in level.steps)


def factor_of(layer: Layer | None) -> int:
    """By how much a layer shrinks each side; 1 where there is none."""
    return 1 if layer is None else layer.factor


def program_of(layers: Sequence[Layer], *, rev: bool, scale: int, channels: int) -> Program:
    """The program of layers in the order in which they run. `channels`: of the large image.

    Raises ValueError where the layers of one level cut its state in different ways.
    """
    found: list[Level] = []
    members: list[Layer] = []
    before: Layer | None = None
    ratio, state = (1, channels * scale**2) if rev else (scale, channels)
    for layer in [*layers, None]:
        if layer is not None and layer.factor == 1:
            members.append(layer)
            continue
        if members or (before is not None and layer is not None):  # between two resamplings there may be none
            steps = tuple(step for member in members for step in member.steps(rev))
            found.append(Level(steps, _cut(steps, state), ratio, len(members), before, layer))
        members, before, factor = [], layer, factor_of(layer)
        ratio, state = (ratio * factor, state // factor**2) if rev else (ratio // factor, state * factor**2)
    return Program(tuple(found), scale, rev)


def _cut(steps: Sequence[Step], channels: int) -> tuple[Plane, ...]:
    cuts = {step.planes for step in steps if step.planes} or {(Plane("state", channels),)}
    planes = cuts.pop()
    if cuts or sum(plane.channels for plane in planes) != channels:
        raise ValueError(f"the steps of a level cut its {channels} channels in different ways")
    names = {plane.name for plane in planes}
    if unknown := {name for step in steps for name in (*step.reads, *step.changes)} - names:
        raise ValueError(f"a step names the plane {min(unknown)!r}, the planes are {', '.join(sorted(names))}")
    return planes
