"""`irnscale train`."""

from __future__ import annotations

from pathlib import Path

import click

from irnscale.cli.options import DEBUG, DEVICE
from irnscale.errors import ExitCode, UsageError


@click.command()
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder or .tar; repeatable; needed but by glow-*.",
)
@click.option("--val", multiple=True, type=click.Path(path_type=Path), help="Folder to validate on; repeatable.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run [default: runs/<recipe name>].")
@click.option("--budget", help='Wall-clock of the whole run ("20m", "1.5h") or steps ("5000").')
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --out.")
@DEVICE
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@DEBUG
def command(
    recipe: str,
    overrides: tuple[str, ...],
    data: tuple[Path, ...],
    val: tuple[Path, ...],
    out: Path | None,
    budget: str | None,
    resume: bool,
    device: str,
    no_progress: bool,
    debug: bool,
) -> int:
    """Train a network from RECIPE, a shipped recipe's name or a YAML file, with KEY=VALUE changes.

    Stops when the budget is used up, or on Ctrl-C after saving; --resume goes on. `irnscale models export` makes a
    usable model of a run. The recipes glow-freia and glow-torch train on 8x8 digits, without --data.
    """
    if Path(recipe).name.startswith("glow-"):
        from irnscale.cli import glow

        unused: dict[str, object] = {"--data": data, "--val": val}
        bar = not no_progress
        return glow.train(
            recipe, overrides, unused=unused, out=out, budget=budget, resume=resume, device=device, progress=bar
        )
    if not data:
        raise UsageError("Missing option '--data'", "name a folder or .tar of photographs")
    from irnscale.engine.device import choose_device
    from irnscale.train.config import load_recipe
    from irnscale.train.loop import run

    changes = [*overrides, *([f"budget={budget}"] if budget else [])]
    chosen = load_recipe(recipe, changes)
    folder = out or Path("runs") / chosen.name
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: is not a folder")
    final = run(
        chosen,
        data=list(data),
        val=list(val) or None,
        out=folder,
        device=choose_device(device),
        resume=resume,
        progress=not no_progress,
        say=lambda message: click.echo(message, err=True),
    )
    click.echo(str(final))
    return ExitCode.OK
