"""`irnscale check`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irnscale import batch
from irnscale.cli.console import fail, note, warn
from irnscale.cli.detailing import ATTACH, DETAIL
from irnscale.cli.options import (
    DEBUG,
    DEVICE,
    JPEG_RESISTANT,
    MODEL,
    NO_PROGRESS,
    OVERWRITE,
    PATH,
    PRECISION,
    QUALITY,
    SUBSAMPLING,
    TILE,
)
from irnscale.cli.scoring import LPIPS, METRICS, NIQE, chosen_scores
from irnscale.errors import ExitCode, InputError, UsageError
from irnscale.jobs.model_choice import Wanted

if TYPE_CHECKING:
    from irnscale.batch import Item
    from irnscale.engine.rescaler import Rescaler
    from irnscale.evaluation.check import Checked
    from irnscale.evaluation.curves import Curve
    from irnscale.metrics.scores import Chosen


@click.command()
@click.argument("inputs", nargs=-1, metavar="IMAGE...")
@click.option("-r", "--recursive", is_flag=True, help="Take the pictures in folders.")
@click.option("-s", "--scale", type=int, help="2, 3, 4, 8 or 16 [default: 4, or that of -m].")
@MODEL
@JPEG_RESISTANT
@click.option("-f", "--format", "format_", default="png", show_default=True, help="What the small image is stored as.")
@QUALITY
@SUBSAMPLING
@DETAIL
@ATTACH
@METRICS
@NIQE
@LPIPS
@click.option("--picture", type=PATH, help="Side by side as PNG: a file, or a folder for several inputs.")
@click.option("--plot", type=PATH, help="Quality over bytes, beside JPEG, WebP and AVIF: svg, png or pdf.")
@click.option("--report", type=PATH, help="A self-contained HTML page.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per input on stdout.")
@OVERWRITE
@NO_PROGRESS
@DEVICE
@PRECISION
@TILE
@DEBUG
def command(
    inputs: tuple[str, ...],
    recursive: bool,
    scale: int | None,
    model: str | None,
    jpeg_resistant: bool | None,
    format_: str,
    quality: int | None,
    subsampling: str | None,
    detail: str | None,
    attach: str | None,
    metrics: str,
    niqe: Path | None,
    lpips: Path | None,
    picture: Path | None,
    plot: Path | None,
    report: Path | None,
    as_json: bool,
    overwrite: bool,
    no_progress: bool,
    device: str,
    precision: str,
    tile: int | None,
    debug: bool,
) -> int:
    """What would photographs lose? Both ways in memory, through the file that `down` would write.

    PSNR (dB) and SSIM of luma: of what the network alone restores, of what `up` makes with the detail that the file
    carries, of a bicubic round trip for comparison, and of the small picture against bicubic (LR). Bytes of the input
    and of the small file. Nothing is written unless asked for.

    --plot also measures JPEG, WebP and AVIF of the whole photographs at the same number of bytes, which takes a while;
    needs matplotlib (pip install 'irnscale[plots]').
    """
    from irnscale.images.formats import canonical_format, is_lossy
    from irnscale.images.write import check_options

    format_ = canonical_format(format_)
    check_options(format_, quality, subsampling)
    items = batch.collect(batch.Selection(inputs, recursive=recursive)).items
    sheets = _sheets(picture, items)
    targets = [*sheets.values(), *(path for path in (plot, report) if path)]
    batch.check_outputs(targets, items, overwrite=overwrite)
    if plot is not None:
        _check_plot(plot)
    if plot is not None and any(item.source is None for item in items):
        raise UsageError("--plot reads its inputs twice, which stdin does not allow", "save it to a file first")
    chosen = chosen_scores(metrics, niqe, lpips)
    if of_sets := [score.name for score in chosen.more if score.of_set is not None]:
        what = f"{of_sets[0]} is of a set of photographs, and none of them has it"
        raise UsageError(what, "measure a folder with `irnscale evaluate`")
    wanted, lossy = Wanted(scale, model, jpeg_resistant), is_lossy(format_, quality)
    models = wanted.models(lossy=lossy)
    said = wanted.chosen_for_loss(format_, models)
    if said is not None:
        note(said)

    from irnscale.engine.memory import keep_freed_memory
    from irnscale.engine.rescaler import Rescaler
    from irnscale.evaluation.check import check
    from irnscale.evaluation.trip import Storage
    from irnscale.images.atomic import write_bytes_atomic
    from irnscale.jobs.amounts import detail_bits, parse_attach
    from irnscale.zoo import combined_scale

    keep_freed_memory()
    resistant = any(m.card.jpeg_resistant for m in models)
    bits = detail_bits(detail, combined_scale(models), lossy=lossy, jpeg_resistant=resistant)
    storage = Storage(format_, quality, subsampling, bits, parse_attach(attach), detail == "exact")
    rescaler = Rescaler(models, device=device, precision=precision, tile=tile)
    if lossy and not rescaler.jpeg_resistant:
        warn(f"{rescaler.name} is not made for {format_}, which destroys much of what its small images hide")
    results: list[Checked] = []
    crops, failures = [], []
    for item in _progress(items, shown=not no_progress and sys.stderr.isatty()):
        try:
            data = batch.read_source(item)
            result = check(rescaler, data, item.label, storage, chosen.more)
        except InputError as error:
            failures.append(error)
            fail(error)
            continue
        for found in result.notes:
            warn(f"{item.label}: {found}")
        if picture is not None:
            write_bytes_atomic(result.sheet(), sheets[item.label], overwrite=overwrite)
        if report is not None:
            crops.append(result.crop())
        result.pixels.clear()
        results.append(result)
        if as_json:
            by = {score.key: score.by for score in chosen.more if score.by}
            click.echo(json.dumps(result.record() | ({"by": by} if by else {})))
    if results and not as_json:
        click.echo(_table(results, chosen))
    curves: list[Curve] = []
    if plot is not None and results:
        curves = _plot(plot, [item.source for item in items if item.source], rescaler, subsampling, overwrite)
    if report is not None and results:
        from irnscale.evaluation.check_report import check_report

        write_bytes_atomic(check_report(results, crops, curves, chosen), report, overwrite=overwrite)
    return ExitCode.INPUT if failures else ExitCode.OK


def _sheets(picture: Path | None, items: Sequence[Item]) -> dict[str, Path]:
    """By the input's label, where its sheet goes: to `picture`, or below that where there are several inputs."""
    if picture is None:
        return {}
    if len(items) == 1:
        return {items[0].label: picture}
    if not picture.is_dir():
        raise UsageError(f"--picture {picture}: is no folder, and there are several inputs", "create the folder")
    sheets: dict[str, Path] = {}
    inputs: dict[Path, str] = {}
    for item in items:
        sheet = picture / f"{Path(item.label).stem or 'stdin'}_check.png"
        if sheet in inputs:
            what = f"{sheet}: the sheets of {inputs[sheet]} and {item.label} would both be written there"
            raise UsageError(what, "check them one after the other, each with a --picture of its own")
        sheets[item.label], inputs[sheet] = sheet, item.label
    return sheets


def _check_plot(plot: Path) -> None:
    from irnscale.evaluation.plot import check_format, require_matplotlib

    check_format(_plot_format(plot))
    require_matplotlib()


def _plot_format(path: Path) -> str:
    return path.suffix.removeprefix(".").lower() or "svg"


def _plot(
    path: Path, sources: Sequence[Path], rescaler: Rescaler, subsampling: str | None, overwrite: bool
) -> list[Curve]:
    from irnscale.evaluation.cache import Cache
    from irnscale.evaluation.curves import detailed_methods, measured_curves, verdict
    from irnscale.evaluation.loop import Watch
    from irnscale.evaluation.methods import model_method
    from irnscale.evaluation.plot import rate_distortion
    from irnscale.images.atomic import write_bytes_atomic

    watch = Watch(skipped=lambda error: warn(f"left out of the plot: {error.line}"))
    curves = measured_curves(
        "your photographs",
        sources,
        [model_method(rescaler)],
        detailed=detailed_methods(rescaler, subsampling or "4:4:4"),
        subsampling=subsampling or "4:4:4",
        cache=Cache(None),
        watch=watch,
    )
    title = sources[0].name if len(sources) == 1 else f"{len(sources)} photographs"
    write_bytes_atomic(rate_distortion(curves, title, _plot_format(path)), path, overwrite=overwrite)
    click.echo(verdict(curves), err=True)
    return curves


def _table(results: Sequence[Checked], chosen: Chosen) -> str:
    from statistics import fmean

    from irnscale.columns import aligned
    from irnscale.evaluation.check import columns_of, exact
    from irnscale.evaluation.tables import shown

    columns = columns_of(chosen)
    rows = [["", "size", "model", *columns.values(), "input", "small file", "s"]]
    for r in results:
        cells = [exact(r.value(key)) if "psnr" in key else shown(key, r.value(key), chosen) for key in columns]
        sizes = [str(r.original_bytes), f"{r.small_bytes} {r.stored}", f"{r.seconds:.2f}"]
        rows.append([r.label, f"{r.width}x{r.height}", r.model, *cells, *sizes])
    if len(results) > 1:

        def mean(key: str) -> str:
            values = [value for r in results if (value := r.value(key)) == value]
            return shown(key, fmean(values), chosen) if values else "-"

        totals = [str(sum(r.original_bytes for r in results)), str(sum(r.small_bytes for r in results))]
        seconds = f"{sum(r.seconds for r in results):.2f}"
        rows.append(["mean; bytes in all", "", "", *(mean(key) for key in columns), *totals, seconds])
    return "\n".join([*aligned(rows, words=3), *(["", chosen.by] if chosen.by else [])])


def _progress(items: Sequence[batch.Item], *, shown: bool) -> Any:
    if not shown or len(items) < 2:
        return items
    from tqdm import tqdm

    return tqdm(items, unit="img", dynamic_ncols=True, leave=False, file=sys.stderr)
