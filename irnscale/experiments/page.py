"""docs/dissertation.md from what the experiments left: claim by claim, with the run that says so."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from irnscale.evaluation.published import Published
from irnscale.experiments.base import Experiment, Result, number
from irnscale.experiments.registry import EXPERIMENTS

HEAD = """# The dissertation's experiments, one by one

McGuinness, *Image Rescaling using Invertible Neural Networks, by Probabilistic Disentanglement* (Cambridge, 2022):
every table and figure of chapter 4, and what the appendices claim. This page is made by `irnscale evaluate experiment
--page` of what `irnscale evaluate experiment NAME` left; `--list` names the experiments. Published numbers are of DIV2K
and of days of a GPU. Ours, unless a line says otherwise, are of small networks and few steps: they test a claim's
direction, not its size. Where several seeds were trained, **confirmed** means that the difference has the claimed sign
and is more than two standard errors over the seeds; else the numbers beside it are the reason. **Not confirmed** is not
refuted: with two seeds and few steps only a large difference shows, and of many claims judged so one or two are
confirmed by chance. What counts as far in `rescaling`, 1 dB, was set when its numbers were known.
"""


def page(out: Path) -> str:
    """The whole text. Raises InputError for a damaged result."""
    results = {e.name: Result.load(out, f"{e.name}-full") or Result.load(out, e.name) for e in EXPERIMENTS}
    lines = [HEAD, "| where | claim | verdict | by |", "|---|---|---|---|"]
    for experiment in EXPERIMENTS:
        result = results[experiment.name]
        by = f"[{experiment.name}](#{experiment.name})"
        if result is None:
            lines += [f"| {experiment.where} | {claim} | not run here | {by} |" for claim in experiment.claims]
            continue
        lines += [f"| {experiment.where} | {one.claim} | {one.verdict} | {by} |" for one in result.judged]
    lines += [f"| {one['where']} | {one['claim']} | {one['verdict']} | {one['why']} |" for one in elsewhere()]
    for experiment in EXPERIMENTS:
        lines += ["", *_section(experiment, results[experiment.name])]
    return "\n".join(lines) + "\n"


def is_page(path: Path) -> bool:
    """Whether a file is such a page, of any version: whether it begins with the same heading."""
    title = HEAD.partition("\n")[0].encode() + b"\n"
    try:
        with path.open("rb") as file:
            return file.read(len(title)) == title
    except OSError:
        return False


def elsewhere() -> list[dict[str, str]]:
    """Claims that no experiment is about, and why; from `assets/dissertation.json`."""
    text = (resources.files("irnscale") / "assets" / "dissertation.json").read_text(encoding="utf-8")
    found: list[dict[str, str]] = json.loads(text)
    return found


def _section(experiment: Experiment, result: Result | None) -> list[str]:
    lines = [f"## {experiment.name}", "", f"{experiment.title} ({experiment.where}).", ""]
    if result is None:
        needs = [f"--{name} {what}" for name, what in experiment.needs.items()]
        command = " ".join(["irnscale evaluate experiment", experiment.name, *needs])
        return [*lines, f"Not run here: `{command}`."]
    lines += [
        f"`{result.command}`, irnscale {result.version}; {result.seconds / 60:.1f} minutes besides trainings.",
        "",
    ]
    lines += [*_table(result, experiment.rows()), ""]
    lines += [f"{note}." for note in result.notes] + ([""] if result.notes else [])
    lines += [f"- **{one.verdict}**: {one.claim}. {one.because}." for one in result.judged]
    return [*lines, "", f"Differs from the dissertation: {result.differs}."]


def _table(result: Result, theirs: Sequence[Published]) -> list[str]:
    titles = list(result.columns.values())
    lines = ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
    for row in result.rows:
        cells = []
        for key in result.columns:
            spread = row.deviations.get(key, math.nan)
            cells.append(
                number(key, row.scores.get(key))
                + ("" if math.isnan(spread) or row.seeds < 2 else f" ± {number(key, spread)}")
            )
        name = row.method + (f", {row.seeds} seeds" if row.seeds > 1 else "")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    for other in theirs:
        where = f"{other.set} x{other.scale}" + ("" if other.codec == "png" else f", {other.codec}")
        cells = [number(key, other.scores.get(key)) for key in result.columns]
        if any(cell != "-" for cell in cells):
            lines.append(f"| published, {where}: {other.method} | " + " | ".join(cells) + " |")
    return lines
