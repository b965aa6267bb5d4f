"""A tiny recipe and what the training tests do with it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from irnscale.train.checkpoints import checkpoints, load_state
from irnscale.train.config import Recipe
from irnscale.train.data import Photographs
from irnscale.train.loop import run

CPU = torch.device("cpu")
TINY = Recipe.of(
    name="tiny",
    scale=2,
    inv_per_ds=1,
    growth=4,
    batch_size=2,
    img_size=16,
    initial_lr=2e-3,
    ema=0.9,
    budget="6",
    precision="float32",
)


def train(out: Path, photos: Path, recipe: Recipe = TINY, **options) -> Path:
    """Run `recipe` on a folder of photographs into `out`."""
    options = {"device": CPU, "progress": False, "report": False} | options
    return run(recipe, data=[photos], out=out, **options)


def records(out: Path) -> list[dict]:
    """The log of a run."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def batch(photos: Path, size: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """HR and LR of some crops."""
    return Photographs([photos], scale=2, crop=16).batch(size, seed=0, step=0)


def names(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in folder.iterdir())


def kept(out: Path) -> list[int]:
    """The steps of the checkpoints of a run."""
    return [load_state(path)["step"] for path in checkpoints(out)]
