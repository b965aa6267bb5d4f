"""Small trainings of the variants of a recipe, each with several seeds, which experiments share and go on with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from irnscale.experiments.base import Scores, Setting, TableRow
from irnscale.images.atomic import write_bytes_atomic
from irnscale.networks import IRNConfig
from irnscale.networks.network import RescalingNetwork
from irnscale.train.budget import Budget
from irnscale.train.checkpoints import checkpoints, export
from irnscale.train.config import Recipe, load_recipe
from irnscale.train.groups import Crops
from irnscale.train.loop import run
from irnscale.train.objectives.rescaling import Rescaling
from irnscale.train.validate import validate, validation_images

SMALL = (
    "growth=8",
    "inv_per_ds=1",
    "batch_size=4",
    "img_size=32",
    "schedule=cosine",
    "initial_lr=2e-3",
    "final_lr=0.05",
    "beta2=0.99",
    "weight_decay=0",
    "zerosample=true",
    "ema=0.9",
    "precision=float32",
    "challenge_factor=null",
)
"""What makes of a published recipe one that one processor core trains in a minute: a fiftieth of the work per pixel."""
SMALL_STEPS = 250
POINTS = 4
"""Validations of a training at equal distances, besides those after powers of two."""
CPU = torch.device("cpu")


def variant(setting: Setting, recipe: str, changes: Sequence[str] = (), *, seed: int) -> Recipe:
    """A recipe with changes, small or as published."""
    keys = load_recipe(recipe, list(changes)).to_dict()
    small = () if setting.full else [change for change in SMALL if change.split("=")[0] in keys]
    chosen = load_recipe(recipe, [*small, *changes, f"seed={seed}", "validate_steps=1"])
    budget = setting.budget or (chosen.run.budget if setting.full else str(SMALL_STEPS))
    steps = Budget.parse(budget).steps
    every = max(1, steps // POINTS) if steps else None
    return chosen.but(budget=budget, validate_steps=every, validate_limit=setting.limit if setting.full else 1)


def folder_of(setting: Setting, label: str, seed: int) -> Path:
    """Where a run is, for every experiment that has this variant."""
    return setting.out / "runs" / ("full" if setting.full else "small") / f"{label}-seed{seed}"


def trained(setting: Setting, label: str, recipe: Recipe) -> Path:
    """The folder of the finished run; begun, gone on with or found finished. Raises what `train.loop.run` raises."""
    out = folder_of(setting, label, recipe.run.seed)
    setting.say(f"{out}: {'going on' if checkpoints(out) else 'training'}, budget {recipe.run.budget}")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data, val = list(setting.data), list(setting.val)
    run(recipe, data=data, val=val, out=out, device=device, resume=True, report=False, progress=False)
    return out


def network(out: Path, recipe: Recipe) -> RescalingNetwork:
    """The averaged weights of a run, on the CPU."""
    net = Rescaling(recipe).net
    tensors, _ = export(out)
    net.load_state_dict(tensors)
    return net.eval()


def pictures(setting: Setting, scale: int) -> list[Tensor]:
    """What is measured on: up to `limit` of the photographs of `val`."""
    return validation_images(list(setting.val), scale=scale, limit=setting.limit)


def middles(setting: Setting, scale: int, side: int, count: int) -> dict[str, Tensor]:
    """The middle side x side pixels, or fewer where one is smaller, of the first `count`: (1, 3, H, W) in [0, 1]."""
    images = pictures(setting, scale)[:count]
    side = min(side, *(n for image in images for n in image.shape[1:]))
    side -= side % scale
    found = {}
    for number, image in enumerate(images):
        top, left = ((n - side) // 2 for n in image.shape[1:])
        found[str(number)] = image[None, :, top : top + side, left : left + side].float() / 255
    return found


def scores(setting: Setting, out: Path, recipe: Recipe, *, task: str = "rescaling") -> Scores:
    """Of a run's averaged weights on `val`, by `validate`. Kept in the run's folder.

    task: "rescaling"; "jpeg", with psnr_y_q90 and psnr_y_q50; or "sr", from bicubic small pictures.
    """
    kept = _scores_file(setting, out, task)
    state = str(checkpoints(out)[-1].name)
    if kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["checkpoint"] == state and found["val"] == [str(v) for v in setting.val]:
            return dict(found["scores"])
    measured = recipe.but(compression_mode=task == "jpeg", sr_mode=task == "sr")
    objective = Rescaling(measured, network(out, recipe)).eval()
    result = validate(objective, pictures(setting, recipe.scale), CPU)
    record = {"checkpoint": state, "val": [str(v) for v in setting.val], "scores": result}
    write_bytes_atomic(json.dumps(record).encode(), kept, overwrite=True)
    return result


def _scores_file(setting: Setting, out: Path, task: str) -> Path:
    return out / f"scores-{task}-{setting.limit}.json"


def kept_scores(setting: Setting, out: Path, task: str = "rescaling") -> Scores:
    """What `scores` kept of a run."""
    found: Scores = json.loads(_scores_file(setting, out, task).read_text(encoding="utf-8"))["scores"]
    return found


def rows_of(
    setting: Setting, variants: dict[str, tuple[str, str, Sequence[str]]], *, task: str = "rescaling"
) -> tuple[list[TableRow], dict[str, list[Path]]]:
    """A row per variant, {name: (folder's label, recipe, changes)}, over the seeds; and the folders of its runs."""
    rows: list[TableRow] = []
    folders: dict[str, list[Path]] = {}
    for name, (label, recipe, changes) in variants.items():
        found = []
        for seed in range(10, 10 + setting.seeds):
            chosen = variant(setting, recipe, changes, seed=seed)
            out = trained(setting, label, chosen)
            found.append(scores(setting, out, chosen, task=task))
            folders.setdefault(name, []).append(out)
        rows.append(TableRow.of_seeds(name, found))
    return rows, folders


def differs(setting: Setting, what: str = "") -> str:
    """The line about data, steps and size."""
    measured = (
        f"measured on {', '.join(v.name for v in setting.val)} (at most {setting.limit} pictures), not DIV2K's 100"
    )
    if setting.full:
        return f"trained on {', '.join(d.name for d in setting.data)}, not DIV2K; {measured}"
    recipe = variant(setting, "irn-x4", seed=10)
    network, crops = recipe.network, recipe.data
    assert isinstance(network, IRNConfig)
    assert isinstance(crops, Crops)
    size = f"{network.inv_per_ds} coupling a level, of growth {network.growth}, instead of 8 of 32"
    return (
        f"{size}; {recipe.run.budget} steps of {crops.batch_size} crops of {crops.img_size} instead of 500,000 of 16 "
        f"of 144; trained on {', '.join(d.name for d in setting.data)}; {measured}" + (f"; {what}" if what else "")
    )
