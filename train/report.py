"""A run on one page: its curves as a picture and a Markdown report, from the log alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from irnscale.errors import InputError, OutputError
from irnscale.images.atomic import write_bytes_atomic
from irnscale.train.config import Recipe

Record = dict[str, Any]


def read_log(out: Path) -> list[Record]:
    """The records of a run's `log.jsonl`, without those that a resumed run went over again.

    Raises InputError where there is none. A last line that was cut off is left out.
    """
    records: list[Record] = []
    try:
        lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{out}: no log.jsonl of a training run there", "give the folder named by --out") from error
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if "from_step" in record:
            records = [r for r in records if r.get("step", 0) <= record["from_step"]]
        records.append(record)
    return records


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


def draw_curves(records: list[Record], target: Path, title: str) -> bool:
    """Losses, validation, learning rate and gradient norm by step, as a PNG. False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    panels = [
        ("loss and its terms", ["loss", "guide", "recon", "distr"], "log"),
        ("validation: PSNR, dB", ["psnr_y", "psnr_rgb", "lr_psnr_y", "lr_psnr_rgb"], "linear"),
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
    scores = [r for r in records if "psnr_y" in r]
    runs = [r for r in records if "from_step" in r]
    alerts = [r for r in records if "alert" in r]
    challenging = [r for r in records if "challenging" in r]
    lines = [f"# {recipe.run.name}", ""]
    if runs:
        lines += [f"Run {runs[-1]['run']}, started {len(runs)} time{'s' if len(runs) > 1 else ''}."]
    if steps:
        last = steps[-1]
        lines += [
            f"{last['step']} steps, {last.get('epoch', 0):.1f} epochs, {last['seconds'] / 60:.1f} minutes of training, "
            f"{last.get('bad_steps', 0)} steps skipped for a non-finite loss or gradient."
        ]
    lines += ["", "![curves](curves.png)", ""] if curves else [""]
    if scores:
        names = [n for n in scores[-1] if n not in ("step", "seconds")]
        best = max(scores, key=lambda r: r["psnr_y"] or 0.0)
        chosen = [scores[0], *([best] if best is not scores[0] else [])]
        chosen += [scores[-1]] if scores[-1] not in chosen else []
        lines += ["## Validation", "", "First, best and last, averaged weights.", ""]
        lines += [f"| step | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        lines += [f"| {r['step']} | {' | '.join(_number(r.get(n)) for n in names)} |" for r in chosen] + [""]
    if steps:
        times = {n[5:-3]: sum(r.get(n, 0) for r in steps) / len(steps) for n in steps[-1] if n.startswith("time_")}
        lines += ["## Time", "", "| part | ms per step |", "|---|---|"]
        lines += [f"| {name} | {_number(value)} |" for name, value in times.items()] + [""]
    if alerts or challenging:
        lines += ["## Worth a look", ""]
        lines += [f"- step {r['step']}: {r['alert']}" for r in alerts[-10:]]
        for r in sorted(challenging, key=lambda r: -(r["challenging"]["loss"] or 0))[:10]:
            place = r["challenging"]
            lines += [
                f"- step {r['step']}: loss {_number(place['loss'])} where the mean was {_number(place['mean'])}: "
                f"{place['photograph']} at ({place['left']}, {place['top']})"
            ]
        lines += [""]
    lines += ["## Recipe", "", "```yaml"]
    lines += [f"{name}: {json.dumps(value)}" for name, value in recipe.to_dict().items()] + ["```", ""]
    return "\n".join(lines)


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "-"
