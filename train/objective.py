"""What a recipe trains and what it minimises; how the minimum is searched is the loop's affair."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from irnscale.errors import UsageError
from irnscale.images.bicubic import bicubic_down
from irnscale.networks.network import Network
from irnscale.train.config import Recipe, find_objective
from irnscale.train.groups import Crops, Data, Dataset, ObjectiveConfig, Optim
from irnscale.train.pictures import samples, strip
from irnscale.train.validate import validate

Draws = dict[str, Tensor]
"""The random and scheduled numbers of a step: every tensor's first dimension is the batch."""
SAMPLES = 4
"""Examples in the pictures of a validation."""


@dataclass(frozen=True)
class Player:
    """Parameters that make the term `loss` small together, with an optimiser and a schedule of their own.

    Every player's gradients are of its own term alone; where there are several, they move at once.
    """

    name: str
    parameters: dict[str, nn.Parameter]
    optim: Optim
    loss: str = "loss"
    undecayed: Collection[str] = ()
    """Names of parameters that weight decay leaves alone where it is decoupled, as that of "adamw"."""


class Objective(nn.Module):
    """The loss of a recipe as a module around the network that is trained, `net`.

    Config, Data: its own group of a recipe's keys, and that of what it is trained on. trains: the class of networks.
    """

    Config: ClassVar[type[ObjectiveConfig]]
    Data: ClassVar[type[Data]] = Crops
    trains: ClassVar[type[Network]] = Network

    config: ObjectiveConfig
    net: Network
    makes_lr = False
    """Whether `downscale` is the network's; else it is bicubic."""
    base_digest: str | None = None
    """That of the frozen model beside `net`, without which the trained weights are worth nothing."""

    def __init__(self, recipe: Recipe, net: Network | None = None) -> None:
        super().__init__()
        self.config, self.scale = recipe.objective, recipe.scale
        self.data, self.optim, self.seed = recipe.data, recipe.optim, recipe.run.seed
        self.net = net if net is not None else recipe.family.build(recipe.network)
        if not isinstance(self.net, self.trains):
            what = f"objective={self.config.name} trains a {self.trains.__name__}"
            raise UsageError(f"{what}; the family {recipe.family.kind} has none", "choose another family or objective")

    @property
    def graphable(self) -> bool:
        """Whether a step can be one CUDA graph: inverting the matrix of scale 3 may wait for the host."""
        return self.scale != 3

    def players(self) -> list[Player]:
        """Who is trained. The first is the network, whose weights are averaged, validated and exported."""
        return [Player("", dict(self.net.named_parameters()), self.optim)]

    def initialise(self, *batch: Tensor) -> None:
        """Set what depends on data before the first step of a run from scratch; `batch` as in `forward`."""

    def draw(
        self,
        count: int,
        *,
        step: int,
        epochs: float = 0.0,
        fraction: float = 1.0,
        device: torch.device | str = "cpu",
    ) -> Draws:
        """All that a step of `count` crops needs beside its crops; a function of the recipe's seed and `step`.

        A process that computes a part of the batch draws for the whole batch and takes its slice of every
        tensor. `epochs` is how many times the data has been seen, in fractions; `fraction` how much of the budget is
        used.
        """
        # torch's CPU generator keeps the low 32 bits of a seed alone, so the two numbers are mixed into 32.
        mixed = int(np.random.SeedSequence((self.seed, step)).generate_state(1)[0])
        return self.draws(count, torch.Generator(device).manual_seed(mixed), epochs, fraction)

    def draws(self, count: int, generator: torch.Generator, epochs: float, fraction: float) -> Draws:
        """See `draw`; all randomness from the generator, on its device."""
        return {}

    def downscale(self, hr: Tensor) -> Tensor:
        """HR (N, 3, H, W) -> the LR of this objective, unquantised, for validation and samples."""
        return bicubic_down(hr, self.scale)

    def upscale(self, lr: Tensor) -> Tensor:
        """LR as stored (N, 3, h, w) -> HR, with z = 0, for validation and samples."""
        raise NotImplementedError

    def damaged(self, lr: Tensor) -> dict[str, Tensor]:
        """LR as stored with loss, in the ways that validation should see; by what the names of the scores end with."""
        return {}

    def scores(self, hr: Tensor, lr: Tensor) -> dict[str, float]:
        """Further scores of validation, of one picture: HR (1, 3, H, W) and LR as stored."""
        return {}

    def show(self, *example: Tensor) -> Tensor:
        """One example of a batch -> a picture of what is made of it, (3, H, W) uint8."""
        return strip(self, *example)

    def examine(self, validation: list[Tensor], data: Dataset, device: torch.device) -> tuple[dict[str, float], Tensor]:
        """Scores on the photographs `validation`, where there are any, and a picture of what the network does to
        some of them, else to some of the data.
        """
        if validation:
            return validate(self, validation, device), samples(self, validation[:SAMPLES], device)
        batch = data.batch(SAMPLES, seed=self.seed, step=0)
        return {}, torch.cat([self.show(*example) for example in zip(*batch, strict=True)], dim=1)

    def conclude(self, data: Dataset, out: Path) -> dict[str, float]:
        """What is measured once, after the last step; may leave pictures in `out`. Raises OutputError."""
        return {}

    def forward(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        """HR (N, 3, H, W) and bicubic LR (N, 3, H/s, W/s) in [0, 1] -> the terms, each per crop, (N,).

        "loss" is their weighted sum, whose mean over the global batch is minimised; the others are unweighted.
        """
        raise NotImplementedError


def objective_of(recipe: Recipe, net: Network | None = None) -> Objective:
    """What the recipe minimises, around `net` or an untrained network. Raises ModelError, UsageError."""
    made: Objective = find_objective(recipe.objective.name)(recipe, net)
    return made
