"""`irnscale evaluate`."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from irnscale.cli.options import DEBUG, DEVICE, PRECISION
from irnscale.errors import ExitCode, IrnscaleError, UsageError

if TYPE_CHECKING:
    from irnscale.evaluation.loop import Summary
    from irnscale.evaluation.methods import Method

COLUMNS = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb", "lr_psnr_y", "lr_ssim_y", "bytes", "seconds")
_DIGITS = {"ssim_y": 4, "ssim_rgb": 4, "lr_ssim_y": 4, "bytes": 0}


@click.command()
@click.option("--data", "folders", type=click.Path(path_type=Path), multiple=True, required=True, metavar="DIR")
@click.option("-s", "--scale", "scales", default="2,4", show_default=True, help="Scales, joined by commas.")
@click.option("-m", "--model", "names", multiple=True, metavar="NAME|FILE", help="Instead of the shipped models.")
@click.option("--jpeg", "qualities", multiple=True, type=int, metavar="QUALITY", help="Store the LR as JPEG too.")
@click.option("--subsampling", default="4:2:0", show_default=True, help="Chroma of --jpeg.")
@click.option("--sr", is_flag=True, help="Also the models on bicubic small pictures: super-resolution.")
@click.option("--no-baselines", is_flag=True, help="Without bicubic and Lanczos.")
@click.option("--luma", type=click.Choice(["unrounded", "rounded"]), default="unrounded", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many photographs of a folder.")
@click.option("--cache", type=click.Path(path_type=Path), help="Keep results here [default: the user's cache folder].")
@click.option("--no-cache", is_flag=True, help="Measure everything anew, and keep nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per set, method and codec on stdout.")
@click.option("--csv", "csv_path", type=click.Path(path_type=Path), help="A row per photograph to a file.")
@click.option("--overwrite", is_flag=True, help="Replace the file of --csv.")
@DEVICE
@PRECISION
@DEBUG
def command(
    folders: tuple[Path, ...],
    scales: str,
    names: tuple[str, ...],
    qualities: tuple[int, ...],
    subsampling: str,
    sr: bool,
    no_baselines: bool,
    luma: str,
    limit: int | None,
    cache: Path | None,
    no_cache: bool,
    as_json: bool,
    csv_path: Path | None,
    overwrite: bool,
    device: str,
    precision: str,
    debug: bool,
) -> int:
    """Measure models and ordinary resizers on folders of photographs, side by side.

    PSNR (dB) and SSIM of the restored picture against the original (HR), and of the small one against bicubic (LR),
    means over a folder. Photographs are cropped to multiples of the scale; `scale` pixels are cut off every side before
    comparing HR. A photograph that cannot be read is named, left out, and makes the exit code 1.
    """
    from irnscale.evaluation.loop import Cache, evaluate
    from irnscale.evaluation.methods import Codec

    if csv_path is not None and csv_path.exists() and not overwrite:
        raise UsageError(f"--csv {csv_path}: exists", "add --overwrite to replace it")
    methods = _methods(_scales(scales), names, sr, not no_baselines, device, precision)
    codecs = [Codec(), *(Codec(quality, subsampling) for quality in qualities)]
    bar = _Line()
    results: list[Summary] = []
    failures: list[IrnscaleError] = []

    def skipped(error: IrnscaleError) -> None:
        from irnscale.cli.main import fail

        bar.clear()
        fail(str(error))
        failures.append(error)

    kept = Cache(None if no_cache else (cache or _cache_folder()) / "evaluate.ndjson")
    for folder in folders:
        results += evaluate(
            folder,
            methods,
            codecs,
            cache=kept,
            limit=limit,
            rounded_luma=luma == "rounded",
            progress=bar.show,
            skipped=skipped,
        )
    bar.clear()
    if as_json:
        for summary in results:
            click.echo(json.dumps(_record(summary, luma)))
    else:
        click.echo(_table(results))
    if csv_path is not None:
        _write_csv(csv_path, results, overwrite)
    return ExitCode.INPUT if failures else ExitCode.OK


def _scales(text: str) -> list[int]:
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not set(found) <= {2, 4, 8, 16}:
        raise UsageError(f"-s {text}: not scales of 2, 4, 8, 16 joined by commas", "for example -s 2,4")
    return found


def _methods(
    scales: Sequence[int], names: Sequence[str], sr: bool, with_baselines: bool, device: str, precision: str
) -> list[Method]:
    """Baselines of every scale, then the models: those named, or the shipped ones of these scales."""
    from irnscale.engine.rescaler import Rescaler
    from irnscale.evaluation.methods import baselines, model_method, super_resolution
    from irnscale.zoo import combined_scale, find_all, models

    chosen = [find_all(name) for name in names] if names else [[m] for m in models({}) if m.shipped]
    if names:
        scales = sorted({combined_scale(several) for several in chosen})
    found: list[Method] = []
    for scale in scales:
        if with_baselines:
            found += baselines(scale)
        for several in chosen:
            if combined_scale(several) == scale:
                rescaler = Rescaler(several, device=device, precision=precision)
                found.append(model_method(rescaler))
                found += [super_resolution(rescaler)] if sr else []
    if not found:
        raise UsageError("nothing to measure", "leave --no-baselines out, or choose a model with -m")
    return found


def _cache_folder() -> Path:
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "irnscale"


def _record(summary: Summary, luma: str) -> dict[str, object]:
    """JSON knows no NaN: what has no value is null."""
    fields = asdict(summary)
    rows = fields.pop("rows")
    head = {key: fields[key] for key in ("set", "method", "codec", "scale", "images")}
    means = {key: _number(value) for key, value in fields["mean"].items()}
    spread = {kind: {key: _number(v) for key, v in fields[kind].items()} for kind in ("min", "max")}
    return {**head, "luma": luma, **means, **spread, "photographs": sorted(rows)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _text(key: str, value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.{_DIGITS.get(key, 2)}f}"


def _table(results: Sequence[Summary]) -> str:
    """Aligned columns, a blank line between the sets."""
    titles = ["set", "scale", "method", "stored", "HR PSNR-Y", "SSIM-Y", "PSNR-RGB", "SSIM-RGB", "LR PSNR-Y", "SSIM-Y"]
    titles += ["bytes", "s"]
    lines: list[list[str]] = [titles]
    for summary in results:
        start = [summary.set, f"x{summary.scale}", summary.method, summary.codec]
        if len(lines) > 1 and lines[-1] and lines[-1][:2] != start[:2]:
            lines.append([])
        lines.append(start + [_text(key, summary.mean[key]) for key in COLUMNS])
    widths = [max(len(line[i]) for line in lines if line) for i in range(len(titles))]
    left = 4  # the first columns are words
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=False))
        )
        for line in lines
    )


def _write_csv(path: Path, results: Sequence[Summary], overwrite: bool) -> None:
    from irnscale.images.atomic import write_bytes_atomic

    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["set", "scale", "method", "stored", "photograph", *COLUMNS])
    for summary in results:
        for name, row in summary.rows.items():
            values = [getattr(row, key) for key in COLUMNS]
            writer.writerow([summary.set, summary.scale, summary.method, summary.codec, name, *values])
    write_bytes_atomic(text.getvalue().encode(), path, overwrite=overwrite)


class _Line:
    """What is being measured, on one line of a terminal."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()

    def show(self, text: str) -> None:
        if self._on:
            click.echo(f"\r\x1b[K{text[:100]}", err=True, nl=False)

    def clear(self) -> None:
        self.show("")
