"""What `irnscale evaluate` does with its options."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irnscale.cli.scoring import chosen_scores
from irnscale.errors import ExitCode, InputError, IrnscaleError, ModelError, UsageError, one_line

if TYPE_CHECKING:
    from irnscale.engine.rescaler import Rescaler
    from irnscale.evaluation.codecs import Codec
    from irnscale.evaluation.loop import Summary
    from irnscale.evaluation.methods import Method
    from irnscale.evaluation.ruler import Ruler
    from irnscale.evaluation.trip import Storage
    from irnscale.metrics.scores import Chosen


NEW_PAGE = "# Quality over bytes\n\n<!-- curves: begin -->\n<!-- curves: end -->\n"


@dataclass(frozen=True)
class Request:
    """The options, as given; `evaluate --help` says what they mean."""

    folders: tuple[Path, ...]
    scales: str
    names: tuple[str, ...]
    jpeg: str | None
    subsampling: str
    detail: str | None
    attach: str | None
    sr: bool
    temperature: str | None
    draws: int
    seed: int
    no_baselines: bool
    luma: str
    fast: bool
    metrics: str
    niqe: Path | None
    lpips: Path | None
    limit: int | None
    crop_to: int | None
    cache: Path | None
    no_cache: bool
    as_json: bool
    csv_path: Path | None
    report: Path | None
    crops: int
    update_card: bool
    precision_costs: bool
    fit_niqe: Path | None
    readme: Path | None
    rate_distortion: Path | None
    overwrite: bool
    no_progress: bool
    device: str
    precision: str


def run(request: Request) -> int:
    """Measure, print and write. Returns the exit code."""
    if not request.folders and not request.readme:
        raise UsageError("no folder is given", "add --data DIR")
    if request.fit_niqe is not None:
        return _fit_niqe(request, request.fit_niqe)
    if request.rate_distortion is not None:
        return _rate_distortion(request, request.rate_distortion)
    if request.update_card and not _is_for_cards(request):
        what = "--update-card is for whole sets, by the default protocol, and models named with -m"
        raise UsageError(what, "leave --limit, --luma, --crop-to and --fast out")
    _check_outputs(request)
    chosen = chosen_scores(request.metrics, request.niqe, request.lpips)
    code = ExitCode.OK
    if request.folders:
        rescalers = _rescalers(request)
        methods = _methods(request, rescalers, chosen)
        ruler = _ruler(request, rescalers, chosen)
        results, failed = _measure(request, methods, _codecs(request, rescalers), ruler)
        code = ExitCode.INPUT if failed else ExitCode.OK
        if request.fast:
            _report_fast(request, methods, ruler)
        _print(results, ruler, chosen, request.as_json)
        _write_files(request, results, ruler, chosen)
        if request.update_card:
            _update_cards(rescalers, results, chosen)
    if request.readme is not None:
        _write_readme(request.readme)
    return code


def _is_for_cards(request: Request) -> bool:
    other = request.limit or request.luma == "rounded" or request.crop_to or request.fast
    return bool(request.folders and request.names and not other)


def _ruler(request: Request, rescalers: Sequence[Rescaler], chosen: Chosen) -> Ruler:
    from irnscale.engine.device import choose_device
    from irnscale.evaluation.ruler import Ruler

    device = rescalers[0].device if rescalers else choose_device(request.device)
    return Ruler(request.luma == "rounded", device if request.fast else None, scores=chosen.more)


def _measure(
    request: Request, methods: Sequence[Method], codecs: Sequence[Codec], ruler: Ruler
) -> tuple[list[Summary], bool]:
    """Summaries of all sets, and whether a photograph could not be read."""
    from irnscale.evaluation.cache import open_cache
    from irnscale.evaluation.loop import evaluate

    cache = open_cache(request.cache, kept=not request.no_cache)
    bar = _Bar(not request.no_progress and sys.stderr.isatty())
    options: dict[str, Any] = {"limit": request.limit, "multiple": request.crop_to, "watch": bar.watch}
    results: list[Summary] = []
    try:
        for folder in request.folders:
            results += evaluate(folder, methods, codecs, cache=cache, ruler=ruler, **options)
    finally:
        bar.close()
    return results, bar.failed


def _write_files(request: Request, results: Sequence[Summary], ruler: Ruler, chosen: Chosen) -> None:
    from irnscale.images.atomic import write_bytes_atomic

    if request.csv_path is not None:
        from irnscale.evaluation.tables import rows_as_csv

        write_bytes_atomic(rows_as_csv(results), request.csv_path, overwrite=request.overwrite)
    if request.report is not None:
        from irnscale.evaluation.crops import crops_of
        from irnscale.evaluation.report import report

        crops = []
        for folder in request.folders if request.crops else ():
            of_set = [summary for summary in results if summary.set == folder.name]
            crops += crops_of(folder, of_set, request.crops, request.crop_to)
        write_bytes_atomic(report(results, crops, ruler, chosen), request.report, overwrite=request.overwrite)


def _fit_niqe(request: Request, path: Path) -> int:
    """Only a model of NIQE, of all photographs that can be read."""
    from irnscale.evaluation.pictures import files_of, load
    from irnscale.images.atomic import check_writable, write_bytes_atomic
    from irnscale.metrics import as_8bit, niqe

    check_writable(path, overwrite=request.overwrite)
    paths = [path for folder in request.folders for path in files_of(folder)[: request.limit]]
    bar = _Bar(not request.no_progress and sys.stderr.isatty())
    bar.watch.begin("NIQE", len(paths))

    def pictures() -> Iterator[Any]:
        for path in paths:
            bar.watch.step(path.name)
            try:
                yield as_8bit(load(path, 1).pixels)[0].permute(1, 2, 0).numpy()
            except InputError as error:
                bar.watch.skipped(error)

    try:
        model = niqe.fit(pictures())
    finally:
        bar.close()
    write_bytes_atomic(model.to_json().encode(), path, overwrite=request.overwrite)
    click.echo(one_line(f"{path}: model {model.digest} of {len(paths)} photographs"), err=True)
    return ExitCode.INPUT if bar.failed else ExitCode.OK


def _check_outputs(request: Request) -> None:
    """Before hours of work: that what is asked for can be written."""
    from irnscale.evaluation.scores import page_with_block
    from irnscale.images.atomic import check_writable

    for path in (request.csv_path, request.report):
        if path is not None:
            check_writable(path, overwrite=request.overwrite)
    if request.readme is not None:
        page_with_block(request.readme, "models")
        check_writable(request.readme, overwrite=True)


def _numbers(option: str, text: str, allowed: Sequence[int]) -> list[int]:
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not set(found) <= set(allowed):
        few = ", ".join(map(str, allowed)) if len(allowed) < 10 else f"{allowed[0]} to {allowed[-1]}"
        raise UsageError(f"{option} {text}: not numbers of {few}, joined by commas", f"for example {option} 2,4")
    return found


def _codecs(request: Request, rescalers: Sequence[Rescaler]) -> list[Codec]:
    """PNG, and JPEG as asked for; cards of JPEG-resistant models want their qualities unasked."""
    from irnscale.evaluation.codecs import Codec
    from irnscale.evaluation.scores import JPEG_QUALITIES

    if request.jpeg is not None:
        qualities: Sequence[int] = _numbers("--jpeg", request.jpeg, range(1, 101))
    else:
        wanted = request.update_card and any(rescaler.jpeg_resistant for rescaler in rescalers)
        qualities = JPEG_QUALITIES if wanted else ()
    return [Codec(), *(Codec(q, chroma.strip()) for chroma in request.subsampling.split(",") for q in qualities)]


def _rescalers(request: Request) -> list[Rescaler]:
    """Those named; else all that are installed, and for x8 and x16 the shipped ones in a row where none is trained.

    With --sr, the assistants of these too, and where none are named the networks for super-resolution.
    """
    from irnscale.cli.models import report_broken
    from irnscale.engine.memory import keep_freed_memory
    from irnscale.engine.rescaler import Rescaler
    from irnscale.zoo import base_of, compose, find_all, models

    keep_freed_memory()
    scales, assistants = _scales(request), []
    if request.names:
        named = [find_all(name) for name in request.names]
        chosen = [several for several in named if several[0].card.kind in ("irn", "sr")]
        assistants = [model for several in named for model in several if model.card.kind == "assistant"]
    else:
        broken: dict[Path, ModelError] = {}
        kinds = ("irn", "sr") if request.sr else ("irn",)
        chosen = [[m] for m in models(broken) if m.card.kind in kinds and m.card.scale in scales]
        report_broken(broken)
        trained = {model.card.scale for (model,) in chosen if model.card.kind == "irn"}
        chosen += [list(compose(scale)) for scale in scales if scale > 4 and scale not in trained]
    options: dict[str, Any] = {"device": request.device, "precision": request.precision}
    found = [Rescaler(several, **options) for several in chosen]
    if request.sr:
        digests = {rescaler.digest for rescaler in found}
        given = {model.card.name for model in assistants}
        assistants += [m for m in models({}) if m.card.base_digest in digests and m.card.name not in given]
    found += [Rescaler([base_of(model)], assistant=model, **options) for model in assistants]
    return sorted(found, key=lambda rescaler: rescaler.scale)


def _scales(request: Request) -> list[int]:
    return _numbers("-s", request.scales, (2, 3, 4, 8, 16))


def _methods(request: Request, rescalers: Sequence[Rescaler], chosen: Chosen) -> list[Method]:
    """By scale: baselines, then the models and what they are asked for besides."""
    from irnscale.evaluation.methods import (
        baselines,
        full_size,
        model_method,
        published_bicubic,
        sampled,
        super_resolution,
        with_detail,
    )

    temperatures = _temperatures(request.temperature)
    found: list[Method] = []
    if any(score.no_reference for score in chosen.more) and not request.no_baselines and not request.update_card:
        found.append(full_size())
    compared = _compared(rescalers) if request.precision_costs else {}
    for scale in sorted({rescaler.scale for rescaler in rescalers}) if request.names else _scales(request):
        if not request.no_baselines and not request.update_card:
            found += [published_bicubic(scale)] if request.luma == "rounded" else []
            found += baselines(scale)
        for rescaler in rescalers:
            if rescaler.scale == scale and rescaler.shrinks and rescaler.assistant is None:
                found.append(model_method(rescaler))
                found += [with_detail(rescaler, storage) for storage in _storages(request, scale)]
                found += [sampled(rescaler, t, draws=request.draws, seed=request.seed) for t in temperatures]
            if rescaler.scale == scale and (request.sr or rescaler.assistant is not None or not rescaler.shrinks):
                found.append(super_resolution(rescaler))
            if rescaler.scale == scale:
                found += compared.get(rescaler, [])
    if not found:
        raise UsageError("nothing to measure", "leave --no-baselines out, or choose a model with -m")
    return found


def _compared(rescalers: Sequence[Rescaler]) -> dict[Rescaler, list[Method]]:
    """The same models in float32 and bfloat16, each as its main method."""
    from irnscale.engine.rescaler import Rescaler
    from irnscale.evaluation.methods import in_precision, model_method, super_resolution

    found: dict[Rescaler, list[Method]] = {}
    for rescaler in rescalers:
        make = model_method if rescaler.assistant is None and rescaler.shrinks else super_resolution
        for precision in ("float32", "bfloat16"):
            other = Rescaler(
                rescaler.models, assistant=rescaler.assistant, device=str(rescaler.device), precision=precision
            )
            found.setdefault(rescaler, []).append(in_precision(make(other), other))
    return found


def _storages(request: Request, scale: int) -> list[Storage]:
    """The files of --detail and --attach, as `down` would write them."""
    from irnscale.cli.detailing import detail_bits, parse_attach
    from irnscale.evaluation.trip import Storage

    found = []
    for part in (request.detail or "").split(",") if request.detail is not None else ():
        if part.strip() not in ("1", "2", "3", "exact"):
            raise UsageError(f"--detail {request.detail}: not 1, 2, 3 or exact", "for example --detail 1,2")
        bits = detail_bits(part.strip(), scale, lossy=False, jpeg_resistant=False)
        found.append(Storage(bits=bits, exact=part.strip() == "exact"))
    qualities = [] if request.jpeg is None else _numbers("--jpeg", request.jpeg, range(1, 101))
    for part in (request.attach or "").split(",") if request.attach is not None else ():
        amount = parse_attach(part.strip())
        found += [
            Storage("jpg", quality, chroma.strip(), amount=amount)
            for chroma in request.subsampling.split(",")
            for quality in qualities
        ] or [Storage(amount=amount)]
    return found


def _temperatures(text: str | None) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")] if text is not None else []
    except ValueError as error:
        raise UsageError(f"--temperature {text}: not numbers", "for example --temperature 0.5,1") from error
    return found


def _report_fast(request: Request, methods: Sequence[Method], ruler: Ruler) -> None:
    """Say how far float32 on the device is from float64 on the CPU, on the first photograph of each set."""
    from irnscale.evaluation.ruler import compare_rulers

    ratio, likeness, photographs = compare_rulers(request.folders, methods, ruler, request.crop_to)
    click.echo(
        f"--fast: float32 on {ruler.device} differs from float64 by at most {ratio:.2g} dB and {likeness:.2g} of SSIM "
        f"({photographs} photographs, all methods)",
        err=True,
    )


def _print(results: Sequence[Summary], ruler: Ruler, chosen: Chosen, as_json: bool) -> None:
    from irnscale.evaluation.tables import record, table

    if as_json:
        for summary in results:
            click.echo(json.dumps(record(summary, ruler)))
    else:
        click.echo(table(results, chosen))


def _update_cards(rescalers: Sequence[Rescaler], results: Sequence[Summary], chosen: Chosen) -> None:
    from irnscale.evaluation.scores import update_card

    for rescaler in rescalers:
        if len(rescaler.models) > 1:
            raise UsageError(f"{rescaler.name}: several models in a row have no card", "name them one by one")
        model = rescaler.assistant or rescaler.models[0]
        update_card(model, results, rescaler.digest, chosen.more)
        click.echo(one_line(f"{model.weights.with_suffix('.json')}: scores written"), err=True)


def _write_readme(path: Path) -> None:
    from irnscale.evaluation.scores import model_tables, replace_block
    from irnscale.zoo import models, newest

    cards = [model.card for model in newest(model for model in models({}) if model.shipped)]
    replace_block(path, model_tables(cards), "models")
    click.echo(one_line(f"{path}: tables of {len(cards)} models written"), err=True)


def _rate_distortion(request: Request, path: Path) -> int:
    """Only the curves: to the page's block, and beside the page as SVG and CSV. Begins a page that is not there."""
    from irnscale.evaluation.cache import open_cache
    from irnscale.evaluation.curves import (
        as_csv,
        as_markdown,
        detailed_methods,
        exact_rates,
        exact_table,
        measured_curves,
        verdict,
    )
    from irnscale.evaluation.methods import baselines, model_method
    from irnscale.evaluation.pictures import files_of
    from irnscale.evaluation.plot import rate_distortion, require_matplotlib
    from irnscale.evaluation.scores import page_with_block, with_block
    from irnscale.images.atomic import check_writable, write_bytes_atomic

    if len(request.folders) != 1:
        raise UsageError("--rate-distortion is of one set", "give --data once")
    require_matplotlib()
    picture, table = path.with_suffix(".svg"), path.with_suffix(".csv")
    if path in (picture, table):
        raise UsageError(f"--rate-distortion {path}: is the name of what stands beside the page", "name it .md")
    begun = path.exists()
    page = page_with_block(path, "curves") if begun else NEW_PAGE
    for output in (path, picture, table):
        check_writable(output, overwrite=begun or request.overwrite)
    rescalers = [rescaler for rescaler in _rescalers(request) if rescaler.assistant is None and rescaler.shrinks]
    methods = [model_method(rescaler) for rescaler in rescalers]
    if not request.no_baselines:
        for scale in sorted({rescaler.scale for rescaler in rescalers}):
            methods.append(replace(baselines(scale)[0], name=f"bicubic x{scale}"))
    (folder,) = request.folders
    paths = files_of(folder)[: request.limit]
    bar = _Bar(not request.no_progress and sys.stderr.isatty())
    options: dict[str, Any] = {"subsampling": request.subsampling, "watch": bar.watch}
    if request.jpeg is not None:
        options["qualities"] = _numbers("--jpeg", request.jpeg, range(1, 101))
    cache = open_cache(request.cache, kept=not request.no_cache)
    detailed = {name: of for each in rescalers for name, of in detailed_methods(each, request.subsampling).items()}
    try:
        curves = measured_curves(folder.name, paths, methods, detailed=detailed, cache=cache, **options)
        exact = exact_table(exact_rates(folder.name, paths, rescalers, cache=cache, watch=bar.watch))
    finally:
        bar.close()
    title = f"{folder.name}, {len(paths)} photographs"
    block = f"![{title}]({path.stem}.svg)\n\n{title}. {verdict(curves)}\n\n{as_markdown(curves)}\n{exact}"
    write_bytes_atomic(rate_distortion(curves, title), picture, overwrite=True)
    write_bytes_atomic(as_csv(curves), table, overwrite=True)
    write_bytes_atomic(with_block(page, block, "curves").encode(), path, overwrite=True)
    click.echo(one_line(f"{path}: curves written, and beside it .svg and .csv"), err=True)
    return ExitCode.INPUT if bar.failed else ExitCode.OK


class _Bar:
    """A bar per set on stderr, and the photographs that could not be read."""

    def __init__(self, shown: bool) -> None:
        from irnscale.evaluation.loop import Watch

        self._shown = shown
        self._bar: Any = None
        self._said: set[str] = set()
        self.watch = Watch(self._begin, self._step, self._skipped)

    @property
    def failed(self) -> bool:
        """Whether a photograph could not be read."""
        return bool(self._said)

    def close(self) -> None:
        """End the bar of the last set."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _begin(self, name: str, steps: int) -> None:
        self.close()
        if self._shown:
            from tqdm import tqdm

            self._bar = tqdm(total=steps, desc=name, dynamic_ncols=True, leave=False, file=sys.stderr)

    def _step(self, text: str) -> None:
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update()

    def _skipped(self, error: IrnscaleError) -> None:
        from irnscale.cli.main import fail

        if str(error) in self._said:  # each curve goes over the set once more
            return
        self._said.add(str(error))
        if self._bar is not None:
            self._bar.clear()
        fail(error.line)
