"""The settings of a Glow run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from irnscale.errors import UsageError
from irnscale.networks.glow import GlowConfig
from irnscale.train.budget import Budget
from irnscale.train.config import recipe_names, recipe_text
from irnscale.train.keys import parse_dataclass

RECIPES = resources.files("irnscale.train.glow") / "recipes"
PREFIX = "glow-"


@dataclass(frozen=True)
class GlowRecipe:
    """What `irnscale train glow-...` trains, and how.

    backend to clamp: see `GlowConfig`. budget: steps ("3000") or time ("90s") of the whole run; the rate is initial_lr,
    annealed to final_lr of it by a cosine over the budget (1: constant, as in the dissertation). weight_decay:
    decoupled (AdamW), of the subnets alone: a mixing or an ActNorm that shrinks would be paid for in the
    log-determinant. dequantize: train on x + u with u uniform on [-1/2, 1/2), the proper likelihood of whole numbers;
    without it the raw values 0 to 16 are taken for a density, which has no upper bound. temperature: of the sample
    grids. evaluate_steps: steps between two points of the curves.
    """

    name: str = "glow"
    backend: str = "torch"
    steps: int = 20
    hidden: int = 128
    subnet: str = "fc"
    mixing: str = "permutation"
    clamp: str = "behrmann"
    batch_size: int = 64
    initial_lr: float = 1e-3
    final_lr: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 1.0
    clip_norm_max_g: float = 100.0
    dequantize: bool = True
    temperature: float = 1.0
    seed: int = 0
    budget: str = "1200"
    evaluate_steps: int = 100

    def __post_init__(self) -> None:
        """Raise UsageError for values that cannot be trained with."""
        for name, value in asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{name}={value} is not a number to train with")
        if not 2 <= self.batch_size <= 1617:
            raise UsageError(f"batch_size={self.batch_size} must be from 2 to 1617, the training pictures")
        if self.evaluate_steps < 1:
            raise UsageError(f"evaluate_steps={self.evaluate_steps} must be at least 1")
        for name in ("initial_lr", "clip_norm_max_g"):
            if (value := getattr(self, name)) <= 0:
                raise UsageError(f"{name}={value} must be above 0")
        for name in ("weight_decay", "temperature", "seed"):
            if (value := getattr(self, name)) < 0:
                raise UsageError(f"{name}={value} must not be negative")
        for name in ("beta1", "beta2"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise UsageError(f"{name}={value} must be at least 0 and below 1")
        if not 0 <= self.final_lr <= 1:
            raise UsageError(f"final_lr={self.final_lr} is a fraction of initial_lr, from 0 to 1")
        try:
            self.network()
        except ValueError as error:
            raise UsageError(str(error)) from error
        Budget.parse(self.budget)

    def network(self) -> GlowConfig:
        """The flow that the recipe trains."""
        return GlowConfig(**{f.name: getattr(self, f.name) for f in fields(GlowConfig) if f.name != "size"})

    def learning_rate(self, fraction: float) -> float:
        """The rate when `fraction` of the budget is used."""
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, fraction)))
        return self.initial_lr * (self.final_lr + (1 - self.final_lr) * cosine)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def is_glow(recipe: str) -> bool:
    """Whether `irnscale train RECIPE` means one of these: a name or a YAML file that starts with `glow-`."""
    return Path(recipe).name.startswith(PREFIX)


def glow_recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return recipe_names(RECIPES)


def load_glow_recipe(source: str, overrides: list[str]) -> GlowRecipe:
    """A recipe by name or YAML file, with `key=value` overrides. Raises InputError, UsageError naming what is wrong."""
    listed_by = f"irnscale train recipes {source}"
    return parse_dataclass(GlowRecipe, source, recipe_text(source, RECIPES), overrides, listed_by=listed_by)
