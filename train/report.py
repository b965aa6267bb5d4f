"""A run on one page: its curves as a picture and a Markdown report, from the log alone."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from irnscale.errors import InputError, OutputError
from irnscale.images.atomic import write_bytes_atomic
from irnscale.jsontext import is_count, is_real, parsed
from irnscale.train.config import Recipe

Record = dict[str, Any]
_KINDS = {"run": str, "alert": str, "recipe": dict, "challenging": dict}
"""What is no number in a record."""
FINAL = "final_"
"""What the names of numbers begin with that are measured once, at the end of a run."""


def read_log(out: Path) -> list[Record]:
    """The records of a run's `log.jsonl`, without those that a resumed run went over again.

    Raises InputError where there is none. A line that was cut off, or is no record of a run, is left out.
    """
    records: list[Record] = []
    try:
        lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{out}: no log.jsonl of a training run there", "give a run's folder") from error
    for line in lines:
        try:
            record = parsed(line)
        except ValueError:
            continue
        if not _is_record(record):
            continue
        if "from_step" in record:
            records = [r for r in records if r.get("step", 0) <= record["from_step"]]
        records.append(record)
    return records


def _is_record(record: Any) -> bool:
    """Whether it is what a run writes: of its start, or of a step."""
    if not isinstance(record, dict):
        return False
    if not all(isinstance(record[name], kind) for name, kind in _KINDS.items() if name in record):
        return False
    numbers = {name: value for name, value in record.items() if name not in _KINDS}
    if "from_step" in record:
        return numbers.keys() == {"from_step"} and is_count(record["from_step"])
    if "challenging" in record:
        numbers |= {f"challenging {name}": record["challenging"].get(name, "") for name in ("loss", "mean")}
    return is_count(record.get("step")) and all(v is None or is_real(v) for v in numbers.values())


def write_report(out: Path, recipe: Recipe, say: Callable[[str], None]) -> None:
    """Write `curves.png` and `report.md` into a run's folder. What cannot be written is said, not raised."""
    records = read_log(out)
    try:
        drawn = draw_curves(records, out / "curves.png", recipe.run.name)
        if not drawn:
            say("curves.png needs matplotlib: pip install 'irnscale[train]'")
        write_bytes_atomic(markdown(records, recipe, drawn).encode(), out / "report.md", overwrite=True)
    except (OSError, OutputError) as error:
        say(f"warning: the report could not be written: {error}")


def series(records: list[Record], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one number in the log, where it has one."""
    pairs = [(r["step"], r[name]) for r in records if isinstance(r.get(name), int | float)]
    return [step for step, _ in pairs], [value for _, value in pairs]


def validations(records: list[Record]) -> list[Record]:
    """The records of validations: numbers of a step that are neither its loss nor the run's last ones."""
    other = {"loss", "recipe", "alert", "challenging"}
    return [r for r in records if "step" in r and not other & r.keys() and not any(n.startswith(FINAL) for n in r)]


def score_names(scores: list[Record]) -> list[str]:
    """What is measured in validations."""
    return [name for name in scores[-1] if name not in ("step", "seconds")] if scores else []


def term_names(records: list[Record]) -> list[str]:
    """The loss and its terms, which stand before the norm of the gradients in a record of steps."""
    names = next((list(r) for r in reversed(records) if "loss" in r and "grad_norm" in r), [])
    return [name for name in names[: names.index("grad_norm")] if name != "step"] if names else []


def draw_curves(records: list[Record], target: Path, title: str) -> bool:
    """Losses, validation, learning rate and gradient norm by step, as a PNG. False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    measured = score_names(validations(records))
    psnr = [name for name in measured if "psnr" in name]
    panels = [
        ("loss and its terms", term_names(records), "log"),
        ("validation: PSNR, dB" if psnr else "validation", psnr or measured, "linear"),
        ("learning rate", ["rate"], "linear"),
        ("gradient norm", ["grad_norm"], "log"),
    ]
    figure = Figure(figsize=(11, 7), layout="constrained")
    figure.suptitle(title)
    for axes, (name, curves, scale) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for curve in curves:
            steps, values = series(records, curve)
            if values:
                axes.plot(steps, values, label=curve, linewidth=1, marker="." if len(values) < 50 else None)
        if axes.lines:
            axes.legend(fontsize=8)
            if scale == "log" and min(min(line.get_ydata()) for line in axes.lines) > 0:
                axes.set_yscale("log")
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.grid(alpha=0.3)
    figure.savefig(target, dpi=110)
    return True


def markdown(records: list[Record], recipe: Recipe, curves: bool) -> str:
    """A run's page in Markdown, of the `records` of its log; `curves`: whether a picture of them is beside it."""
    steps = [r for r in records if "loss" in r]
    scores = validations(records)
    runs = [r for r in records if "from_step" in r]
    alerts = [r for r in records if "alert" in r]
    challenging = [r for r in records if "challenging" in r]
    lines = [f"# {recipe.run.name}", ""]
    if runs:
        lines += [f"Run {runs[-1].get('run', '')}, started {len(runs)} time{'s' if len(runs) > 1 else ''}."]
    if steps:
        last = steps[-1]
        minutes = (last.get("seconds") or 0) / 60
        lines += [
            f"{last['step']} steps, {last.get('epoch') or 0:.1f} epochs, {minutes:.1f} minutes of training, "
            f"{last.get('bad_steps') or 0} steps skipped for a non-finite loss or gradient."
        ]
    lines += ["", "![curves](curves.png)", ""] if curves else [""]
    if scores:
        names = score_names(scores)
        best = max(scores, key=lambda r: -math.inf if r.get(names[0]) is None else r[names[0]])
        chosen = [scores[0], *([best] if best is not scores[0] else [])]
        chosen += [scores[-1]] if scores[-1] not in chosen else []
        lines += ["## Validation", "", "First, best and last, averaged weights.", ""]
        lines += [f"| step | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        lines += [f"| {r['step']} | {' | '.join(_number(r.get(n)) for n in names)} |" for r in chosen] + [""]
    if final := {n.removeprefix(FINAL): r[n] for r in records for n in r if n.startswith(FINAL)}:
        lines += ["## At the end", "", "| measured | |", "|---|---|"]
        lines += [f"| {name} | {_number(value)} |" for name, value in final.items()] + [""]
    if steps:
        times = {n[5:-3]: sum(r.get(n) or 0 for r in steps) / len(steps) for n in steps[-1] if n.startswith("time_")}
        lines += ["## Time", "", "| part | ms per step |", "|---|---|"]
        lines += [f"| {name} | {_number(value)} |" for name, value in times.items()] + [""]
    if alerts or challenging:
        lines += ["## Worth a look", ""]
        lines += [f"- step {r['step']}: {r['alert']}" for r in alerts[-10:]]
        for r in sorted(challenging, key=lambda r: -(r["challenging"]["loss"] or 0))[:10]:
            loss, mean, place = (part := dict(r["challenging"])).pop("loss"), part.pop("mean"), part
            where = ", ".join(f"{name} {value}" for name, value in place.items())
            lines += [f"- step {r['step']}: loss {_number(loss)} where the mean was {_number(mean)}: {where}"]
        lines += [""]
    lines += ["## Recipe", "", "```yaml"]
    lines += [f"{name}: {json.dumps(value)}" for name, value in recipe.to_dict().items()] + ["```", ""]
    return "\n".join(lines)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "-"
