"""Summaries as a table for people, as JSON objects and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from irnscale.evaluation.loop import Summary
from irnscale.evaluation.ruler import FIELDS, Ruler

_COLUMNS = {
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
_WORDS = ("set", "scale", "method", "stored")


def digits(key: str) -> int:
    """Decimals that a field is shown with."""
    return 4 if "ssim" in key else 0 if key == "bytes" else 2


def shown(key: str, value: float) -> str:
    """A field's value for people."""
    return "-" if math.isnan(value) else f"{value:.{digits(key)}f}"


def _head(summary: Summary) -> list[str]:
    return [summary.set, f"x{summary.scale}", summary.method.name, summary.stored]


def table(results: Sequence[Summary]) -> str:
    """Aligned columns of means, a blank line between sets and scales; below, the spread of random methods."""
    detailed = any(not math.isnan(summary.mean["detail_psnr_y"]) for summary in results)
    columns = {key: title for key, title in _COLUMNS.items() if detailed or not key.startswith("detail")}
    lines: list[list[str]] = [[*_WORDS, *columns.values()]]
    for summary in results:
        head = _head(summary)
        if len(lines) > 1 and lines[-1] and lines[-1][:2] != head[:2]:
            lines.append([])
        lines.append(head + [shown(key, summary.mean[key]) for key in columns])
    widths = [max(len(line[i]) for line in lines if line) for i in range(len(lines[0]))]

    def aligned(line: list[str]) -> str:
        cells = [cell.ljust(w) for cell, w in zip(line[: len(_WORDS)], widths, strict=False)]
        return "  ".join(cells + [c.rjust(w) for c, w in zip(line[4:], widths[4:], strict=False)])

    text = [aligned(line) for line in lines]
    random = [summary for summary in results if summary.spread]
    if random:
        text += ["", "standard deviation over draws of the means above:"]
    for summary in random:
        spread = ", ".join(f"{name} {summary.spread[key]:.5f}" for key, name in _SPREAD.items())
        text.append(f"  {' '.join(_head(summary))}, {summary.method.draws} draws: {spread}")
    return "\n".join(text)


_SPREAD = {"psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y", "psnr_rgb": "PSNR-RGB", "ssim_rgb": "SSIM-RGB"}


def record(summary: Summary, ruler: Ruler) -> dict[str, Any]:
    """The object of `--json`: means, extremes, spread over draws. JSON knows no NaN: what has no value is null."""

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
        "photographs": sorted(summary.rows),
    }


def rows_as_csv(results: Sequence[Summary]) -> bytes:
    """A line per photograph, method and codec."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([*_WORDS, "photograph", *FIELDS])
    for summary in results:
        head = [summary.set, summary.scale, summary.method.name, summary.stored]
        for name, row in summary.rows.items():
            writer.writerow([*head, name, *(getattr(row, key) for key in FIELDS)])
    return text.getvalue().encode()
