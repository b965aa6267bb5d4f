"""Summaries as a table for people, as JSON objects and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from irnscale.columns import aligned
from irnscale.evaluation.loop import Summary
from irnscale.evaluation.ruler import FIELDS, Ruler
from irnscale.metrics.scores import Chosen

_FIELDS = {
    "psnr_y": "HR PSNR-Y",
    "ssim_y": "SSIM-Y",
    "psnr_rgb": "PSNR-RGB",
    "ssim_rgb": "SSIM-RGB",
    "detail_psnr_y": "with detail",
    "detail_ssim_y": "SSIM-Y",
    "lr_psnr_y": "LR PSNR-Y",
    "lr_ssim_y": "SSIM-Y",
    "lr_psnr_rgb": "PSNR-RGB",
    "lr_ssim_rgb": "SSIM-RGB",
    "bytes": "bytes",
    "seconds": "s",
}
DEFAULT = Chosen()
"""The field's protocol alone."""
_WORDS = ("set", "scale", "method", "stored")


def columns_of(chosen: Chosen, *, detailed: bool) -> dict[str, str]:
    """Keys and titles of what a table shows: bytes and seconds always, detail where there is some."""
    fields = {
        key: title for key, title in _FIELDS.items() if chosen.shows(key) and (detailed or not key.startswith("detail"))
    }
    ends = {key: fields.pop(key) for key in ("bytes", "seconds")}
    return fields | {score.key: score.title for score in chosen.more} | ends


def digits(key: str, chosen: Chosen = DEFAULT) -> int:
    """Decimals that a field or a score is shown with."""
    for score in chosen.more:
        if score.key == key:
            return score.digits
    return 4 if "ssim" in key else 0 if key == "bytes" else 2


def shown(key: str, value: float, chosen: Chosen = DEFAULT) -> str:
    """A field's or a score's value for people."""
    return "-" if math.isnan(value) else f"{value:.{digits(key, chosen)}f}"


def shown_mean(key: str, summary: Summary, chosen: Chosen = DEFAULT) -> str:
    """A summary's mean for people; with its deviation, where it is of the set and has one."""
    deviation = summary.deviation.get(key, math.nan)
    plain = shown(key, summary.mean[key], chosen)
    return plain if math.isnan(deviation) else f"{plain} ± {shown(key, deviation, chosen)}"


def floors(results: Sequence[Summary], chosen: Chosen) -> list[str]:
    """A line for each set and scale with scores of the set: what they read where nothing is amiss."""
    found = []
    for (name, scale), halves in {(summary.set, summary.scale): summary.halves for summary in results}.items():
        of_set = [score for score in chosen.more if score.key in halves]
        values = ", ".join(f"{score.title} {shown(score.key, halves[score.key].value, chosen)}" for score in of_set)
        if values:
            found.append(f"{name} x{scale}, half of the photographs' patches against the other half: {values}")
    return found


def gaps(results: Sequence[Summary], columns: dict[str, str]) -> list[str]:
    """A line for each set and scale of which some photographs are too small for a score: it has no mean then."""
    found = []
    for place in dict.fromkeys((summary.set, summary.scale) for summary in results):
        rows = [s.rows for s in results if (s.set, s.scale) == place]
        lacking = {
            photograph: None
            for of_method in rows
            for key in columns
            if not all(math.isnan(row.get(key, math.nan)) for row in of_method.values())
            for photograph, row in of_method.items()
            if math.isnan(row.get(key, math.nan))
        }
        if lacking:
            names = ", ".join(lacking) if len(lacking) < 4 else f"{len(lacking)} photographs"
            found.append(f"{place[0]} x{place[1]}: {names}: too small for what is - above; means are of all or none")
    return found


def _head(summary: Summary) -> list[str]:
    return [summary.set, f"x{summary.scale}", summary.method.name, summary.stored]


def table(results: Sequence[Summary], chosen: Chosen = DEFAULT) -> str:
    """Aligned columns of means, a blank line between sets and scales.

    Below: the spread of random methods, `floors`, and what the scores look with.
    """
    detailed = any(not math.isnan(summary.mean["detail_psnr_y"]) for summary in results)
    columns = columns_of(chosen, detailed=detailed)
    lines: list[list[str]] = [[*_WORDS, *columns.values()]]
    for summary in results:
        head = _head(summary)
        if len(lines) > 1 and lines[-1] and lines[-1][:2] != head[:2]:
            lines.append([])
        lines.append(head + [shown_mean(key, summary, chosen) for key in columns])
    text = aligned(lines, words=len(_WORDS))
    random = [summary for summary in results if summary.spread]
    if random:
        text += ["", "standard deviation over draws of the means above:"]
    for summary in random:
        names = {key: title for key, title in _SPREAD.items() if chosen.shows(key)}
        names |= {score.key: score.title for score in chosen.more if score.of_draws is None}
        spread = ", ".join(f"{name} {summary.spread[key]:.5f}" for key, name in names.items())
        text.append(f"  {' '.join(_head(summary))}, {summary.method.draws} draws: {spread}")
    if said := [*gaps(results, columns), *floors(results, chosen), *([chosen.by] if chosen.by else [])]:
        text += ["", *said]
    return "\n".join(text)


_SPREAD = {"psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y", "psnr_rgb": "PSNR-RGB", "ssim_rgb": "SSIM-RGB"}


def record(summary: Summary, ruler: Ruler) -> dict[str, Any]:
    """The object of `--json`: means, extremes, spread over draws, and what scores of sets have besides.

    JSON knows no NaN: what has no value is null.
    """

    def numbers(values: dict[str, float]) -> dict[str, float | None]:
        return {key: None if math.isnan(value) else value for key, value in values.items()}

    return {
        "set": summary.set,
        "method": summary.method.name,
        "task": summary.method.task,
        "codec": summary.stored,
        "scale": summary.scale,
        "images": summary.images,
        "luma": ruler.name,
        "arithmetic": "float64" if ruler.device is None else f"float32 on {ruler.device}",
        **numbers(summary.mean),
        "min": numbers(summary.min),
        "max": numbers(summary.max),
        "draws": summary.method.draws,
        "spread": numbers(summary.spread),
        "deviation": numbers(summary.deviation),
        "halves": numbers({key: estimate.value for key, estimate in summary.halves.items()}),
        "by": {score.key: score.by for score in ruler.scores if score.by},
        "photographs": sorted(summary.rows),
    }


def rows_as_csv(results: Sequence[Summary]) -> bytes:
    """A line per photograph, method and codec."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    rows = (row for summary in results for row in summary.rows.values())
    keys = list(dict.fromkeys(key for row in rows for key in row)) or list(FIELDS)
    writer.writerow([*_WORDS, "photograph", *keys])
    for summary in results:
        head = [summary.set, summary.scale, summary.method.name, summary.stored]
        for name, row in summary.rows.items():
            writer.writerow([*head, name, *(row[key] for key in keys)])
    return text.getvalue().encode()
