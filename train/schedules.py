"""What changes in the course of a run: the learning rate and the decay of the averaged weights."""

from __future__ import annotations

import math

from irnscale.train.config import Recipe


def learning_rate(recipe: Recipe, fraction: float, step: int = 0) -> float:
    """The rate of the step after `step` others, with `fraction` of the budget used.

    "cosine": linear warm-up, then a cosine from `initial_lr` to `final_lr` of it, by the fraction.
    "milestones": `initial_lr` times `lr_gamma` for each of `lr_milestones` that `step` has reached.
    """
    if recipe.schedule == "constant":
        return recipe.initial_lr
    if recipe.schedule == "milestones":
        return recipe.initial_lr * recipe.lr_gamma ** sum(step >= m for m in recipe.lr_milestones)
    if fraction < recipe.warmup:
        return recipe.initial_lr * max(fraction / recipe.warmup, 0.01)
    done = min(1.0, (fraction - recipe.warmup) / max(1e-9, 1 - recipe.warmup))
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return recipe.initial_lr * (recipe.final_lr + (1 - recipe.final_lr) * cosine)


def ema_decay(recipe: Recipe, step: int) -> float:
    """The decay of the averaged weights at the `step`-th step.

    From scratch the average starts short, so that early validations do not show the initial weights.
    """
    return recipe.ema if recipe.init is not None else min(recipe.ema, step / (step + 9))
