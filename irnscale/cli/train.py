"""`irnscale train RECIPE`, `irnscale train recipes|pack|sweep|report|compare`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click

from irnscale.cli import features
from irnscale.cli.console import say
from irnscale.cli.options import DEBUG, DEVICE, PATH
from irnscale.errors import ExitCode, UsageError

DATA_HELP = "Folder or .tar of photographs; repeatable. Or one pack. Required, except for the glow-* recipes."


class RecipeOrCommand(click.Group):
    """`train pack ...` is a command; any other first word is a recipe and means `train run RECIPE ...`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert the command where it is left out."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=RecipeOrCommand, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Train a network from RECIPE, a shipped recipe's name or a YAML file, with KEY=VALUE changes.

    \b
      irnscale train recipes                                                  what there is to train
      irnscale train recipes irn-x4                                           every KEY=VALUE of a recipe
      irnscale train irn-x4-budget --data PHOTOS --val OTHERS --budget 75m    train for 75 minutes
      irnscale train irn-x4-budget --data PHOTOS --budget 75m --resume        go on after Ctrl-C or a crash
      irnscale train run --help                                               all options

    `irnscale models export` makes a usable model of a run.
    """


@command.command("run")
@click.argument("recipe")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--data", multiple=True, type=PATH, help=DATA_HELP)
@click.option("--val", multiple=True, type=PATH, help="Folder to validate on; repeatable.")
@click.option("--out", type=PATH, help="Folder of the run [default: runs/<recipe name>].")
@click.option("--budget", help='Wall-clock of the whole run ("20m", "1.5h") or steps ("5000").')
@click.option(
    "--resume",
    is_flag=False,
    flag_value="",
    metavar="[RUN]",
    help="Go on from the newest checkpoint in --out; where there is none, say so and start anew. With RUN, a run's id "
    "or folder: from that run's, which must be there.",
)
@click.option("--track", multiple=True, type=click.Choice(["tensorboard", "wandb"]), help="Report there, too.")
@DEVICE
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@DEBUG
def run_command(
    recipe: str,
    overrides: tuple[str, ...],
    data: tuple[Path, ...],
    val: tuple[Path, ...],
    out: Path | None,
    budget: str | None,
    resume: str | None,
    track: tuple[str, ...],
    device: str,
    no_progress: bool,
    debug: bool,
) -> int:
    """Train a network from RECIPE with KEY=VALUE changes, until the budget is used up or Ctrl-C.

    Both leave a checkpoint, from which --resume goes on, and so do SIGTERM and SIGHUP; Ctrl-C again, a second later or
    more, ends at once without one. Under torchrun (`torchrun --nproc-per-node 2 -m irnscale.train
    RECIPE ...`) the processes share every batch. The recipes glow-* train on 8x8 digits, without --data.
    """
    from irnscale.engine.device import choose_device
    from irnscale.train.checkpoints import find_run
    from irnscale.train.config import load_recipe
    from irnscale.train.loop import run

    changes = [*overrides, *([f"budget={budget}"] if budget else [])]
    chosen = load_recipe(recipe, changes)
    folder = out or Path("runs") / chosen.run.name
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: is not a folder")
    if resume and out is not None and (found := find_run(resume, out)).resolve() != out.resolve():
        raise UsageError(f"--resume {resume} goes on in {found}, not in --out {out}", "leave --out out")
    final = run(
        chosen,
        data=list(data),
        val=list(val) or None,
        out=folder,
        device=choose_device(device),
        resume=resume or resume is not None,
        track=track,
        progress=not no_progress,
        say=say,
    )
    if os.environ.get("RANK", "0") == "0":  # torchrun's; the other processes leave the talking to this one
        click.echo(str(final))
    return ExitCode.OK


@command.command("recipes")
@click.argument("recipe", required=False)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@DEBUG
def recipes_command(recipe: str | None, overrides: tuple[str, ...], debug: bool) -> int:
    """List the recipes that come with irnscale, with a line about each; or every KEY=VALUE of one RECIPE."""
    from irnscale.train import config

    if recipe is not None:
        settings = config.load_recipe(recipe, list(overrides)).to_dict()
        words = {key: value if isinstance(value, str) else json.dumps(value) for key, value in settings.items()}
        click.echo("\n".join(f"{key}={word}" for key, word in words.items()))
        return ExitCode.OK
    lines = [(name, config.describe(config.RECIPES / f"{name}.yaml")) for name in config.recipe_names()]
    width = max(len(name) for name, _ in lines)
    click.echo("\n".join(f"{name.ljust(width)}  {about}" for name, about in lines))
    return ExitCode.OK


@command.command("pack")
@click.argument("sources", nargs=-1, required=True, type=PATH, metavar="SOURCE...")
@click.option("-o", "--output", required=True, type=PATH, help="The pack, NAME.pack.")
@click.option("--minimum", default=1, show_default=True, type=click.IntRange(min=1), help="Smallest side to take.")
@click.option("--overwrite", is_flag=True, help="Replace a pack of that name.")
@DEBUG
def pack_command(sources: tuple[Path, ...], output: Path, minimum: int, overwrite: bool, debug: bool) -> int:
    """Pack the photographs of folders and .tar archives into one file of pixels with an index.

    A pack starts at once and need not fit the memory: workers read the crops from the disk.
    """
    from irnscale.train.pack import write_pack

    index, unreadable = write_pack(list(sources), output, minimum=minimum, overwrite=overwrite)
    for line in unreadable:
        say(f"unreadable: {line}")
    say(
        f"{output}: {len(index.names)} photographs, {index.bytes >> 20} MiB; {index.skipped} too small, "
        f"{len(unreadable)} unreadable"
    )
    return ExitCode.OK


@command.command("sweep")
@click.argument("file", type=PATH, metavar="SWEEP.yaml")
@DEVICE
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@DEBUG
def sweep_command(file: Path, device: str, no_progress: bool, debug: bool) -> int:
    """Search hyper-parameters with many short runs of one recipe, by a grid or by Bayesian optimisation.

    Run the same command several times at once (say, as a Slurm array) and the processes share the trials. SWEEP.yaml:

    \b
      recipe: irn-x4-budget          a shipped recipe or a YAML file
      data: [PHOTOS]
      val: [OTHER_PHOTOS]
      out: runs/sweep                the trials' runs, and the study that processes share
      budget: 10m                    of each trial
      method: bayesian               or grid
      trials: 20                     by all processes; a grid has its own number
      goal: psnr_y                   the validation score to maximise
      parameters:
        initial_lr: {low: 1e-4, high: 3e-3, log: true}
        clamp_activation: [sigmoid, tanh]
      fixed: {batch_size: 4}
    """
    from irnscale.engine.device import choose_device
    from irnscale.train.sweep import load_sweep, run_sweep

    table = run_sweep(load_sweep(file), device=choose_device(device), progress=not no_progress, say=say)
    click.echo(table)
    return ExitCode.OK


@command.command("report")
@click.argument("run", type=PATH)
@DEBUG
def report_command(run: Path, debug: bool) -> int:
    """Draw the curves and write the page of a RUN again, finished or not."""
    from irnscale.train.config import recipe_from_dict
    from irnscale.train.report import read_log, write_report

    recipes: list[dict[str, Any]] = [record["recipe"] for record in read_log(run) if "recipe" in record]
    if not recipes:
        raise UsageError(f"{run}: its log.jsonl names no recipe")
    write_report(run, recipe_from_dict(recipes[-1]), say)
    click.echo(str(run / "report.md"))
    return ExitCode.OK


@command.command("compare")
@click.argument("runs", nargs=-1, required=True, type=PATH, metavar="RUN...")
@click.option("--score", default="psnr_y", show_default=True, help="A number of their logs, such as lr_psnr_y, loss.")
@click.option("--plot", type=PATH, help="The curves over epochs on a logarithmic axis: svg, png or pdf.")
@click.option("--json", "as_json", is_flag=True, help="The table as one JSON object per recipe.")
@click.option("--csv", "csv_path", type=PATH, help="Every point of every run to a file.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@DEBUG
def compare_command(
    runs: tuple[Path, ...],
    score: str,
    plot: Path | None,
    as_json: bool,
    csv_path: Path | None,
    overwrite: bool,
    debug: bool,
) -> int:
    """Compare RUNs, finished or still running, by a score on their validation photographs.

    Runs that differ in their seed alone are one row and one curve: mean and standard deviation (N - 1) over the runs,
    at every epoch that all have; between two validations a run's curve is linear in the logarithm of epochs.

    \b
    last, best     after the last epoch that all runs of the row have, and where the mean is best
    after E        after as many epochs as every row has
    epochs to S    until the mean is as good as S, the best that every row reaches

    Of losses and bits, lower is better; of everything else, higher.
    """
    from irnscale.batch import check_outputs
    from irnscale.images.atomic import write_bytes_atomic
    from irnscale.train import compare

    check_outputs([path for path in (plot, csv_path) if path is not None], [], overwrite=overwrite)
    if plot is not None:
        from irnscale.train.compare_plot import check_plot

        check_plot(plot.suffix[1:].lower())
    if len({path.resolve() for path in runs}) < len(runs):
        raise UsageError("a run is named twice", "a repetition is a run of another seed")
    groups = compare.groups_of([compare.curve_of(run, score) for run in runs])
    rows = compare.rows_of(groups)
    if as_json:
        click.echo("\n".join(json.dumps({"score": score, **row}) for row in rows))
    else:
        click.echo(compare.table(rows, score))
    if csv_path is not None:
        write_bytes_atomic(compare.points_as_csv(groups, score), csv_path, overwrite=overwrite)
    if plot is not None:
        from irnscale.train.compare_plot import draw

        write_bytes_atomic(draw(groups, score, plot.suffix[1:].lower()), plot, overwrite=overwrite)
    return ExitCode.OK


command.add_command(features.command)
