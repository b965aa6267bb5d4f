"""`irnscale evaluate experiment`."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import asdict
from pathlib import Path

import click

from irnscale.cli.console import say
from irnscale.cli.options import DEBUG, PATH
from irnscale.errors import ExitCode, OutputError, UsageError


@click.command()
@click.argument("name", required=False)
@click.option("--list", "listed", is_flag=True, help="The experiments, what they claim, and what they need.")
@click.option("--data", multiple=True, type=PATH, help="Photographs to train on: folders, .tar, or one pack.")
@click.option("--val", multiple=True, type=PATH, help="Folders to measure on; repeatable.")
@click.option(
    "-o", "--output", type=PATH, default=Path("runs/experiments"), show_default=True, help="Folder of runs and results."
)
@click.option("--full", is_flag=True, help="The recipes as published: days of a GPU.")
@click.option("--budget", help="Of each training, steps or time, instead of the experiment's own.")
@click.option("--seeds", type=click.IntRange(1, 100), default=2, show_default=True, help="Trainings of each variant.")
@click.option("--limit", type=click.IntRange(1), default=8, show_default=True, help="Photographs to measure on.")
@click.option("--again", is_flag=True, help="Measure anew what has a result; finished trainings stay.")
@click.option("--json", "as_json", is_flag=True, help="The result as one JSON object.")
@click.option("--page", type=PATH, metavar="PAGE.md", help="Instead: a page of all results in -o, claim by claim.")
@DEBUG
def evaluate(
    name: str | None,
    listed: bool,
    data: tuple[Path, ...],
    val: tuple[Path, ...],
    output: Path,
    full: bool,
    budget: str | None,
    seeds: int,
    limit: int,
    again: bool,
    as_json: bool,
    page: Path | None,
    debug: bool,
) -> int:
    """Run the experiment NAME of the dissertation: what it claims, our numbers beside the published ones, a verdict.

    Small by default: networks of two couplings and 250 steps, a minute or so of one core for each training (a pack of
    `irnscale train pack` starts at once), all with several seeds; a difference counts where it is more than two
    standard errors. Trainings are shared by experiments. An interrupted command goes on when it is given again; a
    result that is there is shown, with the command that made it.

    \b
      irnscale evaluate experiment --list
      irnscale evaluate experiment irn-2t --data PHOTOS --val OTHERS
      irnscale evaluate experiment --page docs/dissertation.md
    """
    from irnscale.experiments.base import Result, Setting, shown
    from irnscale.experiments.registry import EXPERIMENTS, find_experiment

    if page is not None:
        from irnscale.experiments.page import is_page
        from irnscale.experiments.page import page as text
        from irnscale.images.atomic import write_bytes_atomic

        if page.exists() and not is_page(page):
            raise OutputError(f"{page}: exists and is no page of experiments", "choose another name with --page")
        write_bytes_atomic(text(output).encode(), page, overwrite=True)
        click.echo(str(page))
        return ExitCode.OK
    if listed:
        lines: list[str] = []
        for one in EXPERIMENTS:
            needs = " ".join(f"--{name} {what}" for name, what in one.needs.items())
            lines.append(f"{one.name}: {one.title} ({one.where})" + (f"; needs {needs}" if needs else ""))
            lines += [f"    {claim}" for claim in one.claims]
        click.echo("\n".join(lines))
        return ExitCode.OK
    if name is None:
        raise UsageError("no experiment is named", "`irnscale evaluate experiment --list` has them")
    experiment = find_experiment(name)
    kept = f"{name}-full" if full else name
    result = None if again else Result.load(output, kept)
    if result is None:
        setting = Setting(output, data, val, full, budget, seeds, limit, say)
        started = time.monotonic()
        result = experiment.run(setting)
        result.command, result.seconds = _command(name, setting), round(time.monotonic() - started, 1)
        result.name = kept
        result.save(output)
    else:
        say(f"{Result.path(output, kept)}: from an earlier run, {result.command}; --again measures anew")
    click.echo(json.dumps(asdict(result)) if as_json else shown(result, experiment.rows()))
    return ExitCode.OK


def _command(name: str, setting: object) -> str:
    """What was run, without the places of its folders."""
    from irnscale.experiments.base import Setting

    assert isinstance(setting, Setting)
    words = ["irnscale", "evaluate", "experiment", name]
    for option, folders in (("--data", setting.data), ("--val", setting.val)):
        for folder in folders:
            words += [option, folder.name]
    words += ["--full"] if setting.full else []
    words += ["--budget", setting.budget] if setting.budget else []
    words += ["--seeds", str(setting.seeds), "--limit", str(setting.limit)]
    return shlex.join(words)
