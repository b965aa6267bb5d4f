"""What changes in the course of a run: the learning rate and the decay of the averaged weights."""

from __future__ import annotations

import math

from irnscale.train.config import Recipe
from irnscale.train.groups import Optim


def learning_rate(optim: Optim, fraction: float, step: int = 0) -> float:
    """The rate of the step after `step` others, with `fraction` of the budget used.

    "cosine": linear warm-up, then a cosine from `initial_lr` to `final_lr` of it, by the fraction.
    "milestones": `initial_lr` times `lr_gamma` for each of `lr_milestones` that `step` has reached.
    """
    if optim.schedule == "constant":
        return optim.initial_lr
    if optim.schedule == "milestones":
        return optim.initial_lr * optim.lr_gamma ** sum(step >= m for m in optim.lr_milestones)
    if fraction < optim.warmup:
        return optim.initial_lr * max(fraction / optim.warmup, 0.01)
    done = min(1.0, (fraction - optim.warmup) / max(1e-9, 1 - optim.warmup))
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return optim.initial_lr * (optim.final_lr + (1 - optim.final_lr) * cosine)


def ema_decay(recipe: Recipe, step: int) -> float:
    """The decay of the averaged weights at the `step`-th step.

    From scratch the average starts short, so that early validations do not show the initial weights.
    """
    return recipe.optim.ema if recipe.run.init is not None else min(recipe.optim.ema, step / (step + 9))
