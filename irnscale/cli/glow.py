"""`irnscale evaluate glow`: Glow on 8x8 digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from irnscale.cli.console import say
from irnscale.cli.options import DEBUG, PATH
from irnscale.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from irnscale.train.config import Recipe

SHIPPED = ("glow-freia", "glow-torch")


@click.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--recipe", "names", multiple=True, metavar="NAME|FILE", help="Repeatable [default: glow-freia and glow-torch]."
)
@click.option("--seeds", type=click.IntRange(1, 100), default=5, show_default=True, help="Trainings per recipe.")
@click.option("--budget", help='Of one training: steps ("3000") or time ("60s") [default: the recipe\'s].')
@click.option("--out", type=PATH, default=Path("runs/glow"), show_default=True, help="Folder.")
@click.option(
    "--inception",
    type=PATH,
    metavar="FILE",
    help="torch-fidelity's Inception weights: adds torchmetrics' FID.",
)
@click.option("--json", "as_json", is_flag=True, help="The results of every seed as one JSON object.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@DEBUG
def evaluate(
    overrides: tuple[str, ...],
    names: tuple[str, ...],
    seeds: int,
    budget: str | None,
    out: Path,
    inception: Path | None,
    as_json: bool,
    no_progress: bool,
    debug: bool,
) -> int:
    """Train Glow on 8x8 digits in FrEIA and in PyTorch, and print both side by side.

    Mean and standard deviation over the seeds: log-likelihood of the test pictures in nats (raw values, and with
    uniform dequantisation), bits per dimension, Frechet distance of the samples to the test pictures on the features of
    a small classifier (beside it that of the untrained flow and of the training pictures), milliseconds per picture. An
    interrupted run goes on where it stopped when the command is given again.
    """
    from irnscale.train.glow.compare import check_distinct, compare, table
    from irnscale.train.glow.metrics import check_inception

    recipes = [_recipe(name, overrides, budget) for name in names or SHIPPED]
    check_distinct(recipes)
    if inception is not None:
        check_inception(inception)
    comparison = compare(recipes, seeds=seeds, out=_folder(out), inception=inception, progress=not no_progress, say=say)
    click.echo(json.dumps(comparison.results) if as_json else table(comparison))
    return ExitCode.OK


def _recipe(name: str, overrides: tuple[str, ...], budget: str | None) -> Recipe:
    from irnscale.train.config import load_recipe

    return load_recipe(name, [*overrides, *([f"budget={budget}"] if budget else [])])


def _folder(out: Path) -> Path:
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is not a folder")
    return out
