"""A Glow run's state on disk: one safetensors file, complete or not there, from which a run goes on exactly."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from irnscale.errors import InputError, UsageError
from irnscale.images.atomic import write_bytes_atomic
from irnscale.networks.glow import Glow
from irnscale.train.glow.recipe import GlowRecipe

NAME = "state.safetensors"


@dataclass
class Progress:
    """Where a run stands. points: (step, training nats, raw test nats, dequantised test nats) of the curves."""

    step: int = 0
    seconds: float = 0.0
    bad_steps: int = 0
    points: list[list[float]] = field(default_factory=list)


def save_state(out: Path, recipe: GlowRecipe, progress: Progress, flow: Glow, optimizer: torch.optim.Optimizer) -> None:
    """Replace `out/state.safetensors`. Raises OutputError."""
    tensors = {f"weights.{k}": v for k, v in flow.state_dict().items()}
    steps = 0.0
    for name, parameter in flow.named_parameters():
        if entry := optimizer.state.get(parameter):
            tensors[f"m.{name}"], tensors[f"v.{name}"] = entry["exp_avg"], entry["exp_avg_sq"]
            steps = float(entry["step"])
    head = {"recipe": recipe.to_dict(), "optimizer_steps": steps, **progress.__dict__}
    data = save({k: v.detach().contiguous().clone() for k, v in tensors.items()}, {"irnscale": json.dumps(head)})
    write_bytes_atomic(data, out / NAME, overwrite=True)


def load_state(
    out: Path, recipe: GlowRecipe, flow: Glow, optimizer: torch.optim.Optimizer | None = None, *, budget: bool = False
) -> Progress:
    """Put the state in `out` into `flow` and `optimizer`.

    Raises UsageError where it was made with other settings (the budget only if asked to), InputError where it is
    damaged.
    """
    path = out / NAME
    remedy = "remove it to start anew, or choose another --out"
    try:
        with safe_open(path, "pt") as file:
            head: dict[str, Any] = json.loads(file.metadata()["irnscale"])
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no mapping
        progress = Progress(*(head[key] for key in ("step", "seconds", "bad_steps", "points")))
        made_with, steps = dict(head["recipe"]), head["optimizer_steps"]
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged: {str(error) or type(error).__name__}", remedy) from error
    ignored = {"name", "temperature", "evaluate_steps"} | (set() if budget else {"budget"})
    for key, value in recipe.to_dict().items():
        if key not in ignored and made_with.get(key) != value:
            raise UsageError(f"{path}: was made with {key}={made_with.get(key)}, this run has {value}", remedy)
    try:
        flow.load_state_dict({k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")})
        if optimizer is not None and steps:
            for name, parameter in flow.named_parameters():
                if f"m.{name}" in tensors:
                    moments = {"exp_avg": tensors[f"m.{name}"], "exp_avg_sq": tensors[f"v.{name}"]}
                    optimizer.state[parameter] = {"step": torch.tensor(steps), **moments}
    except (KeyError, RuntimeError) as error:
        raise InputError(f"{path}: damaged: {str(error).splitlines()[0]}", remedy) from error
    return progress
