"""What `irnscale evaluate` does with its options."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irnscale.cli.console import fail, say
from irnscale.cli.evaluate_request import Request, codecs_of, methods_of, numbers, rescalers_of
from irnscale.cli.scoring import chosen_scores
from irnscale.errors import ExitCode, InputError, IrnscaleError, UsageError

if TYPE_CHECKING:
    from irnscale.batch import Item
    from irnscale.engine.rescaler import Rescaler
    from irnscale.evaluation.codecs import Codec
    from irnscale.evaluation.loop import Summary
    from irnscale.evaluation.methods import Method
    from irnscale.evaluation.ruler import Ruler
    from irnscale.metrics.scores import Chosen


NEW_PAGE = "# Quality over bytes\n\n<!-- curves: begin -->\n<!-- curves: end -->\n"


def run(request: Request) -> int:
    """Measure, print and write. Returns the exit code."""
    if not request.folders and not request.readme:
        raise UsageError("no folder is given", "add --data DIR")
    _check_names(request)
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
        rescalers = rescalers_of(request)
        methods = methods_of(request, rescalers, chosen)
        ruler = _ruler(request, rescalers, chosen)
        results, failed = _measure(request, methods, codecs_of(request, rescalers), ruler)
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


def _check_names(request: Request) -> None:
    """Sets are told apart by their names, in tables, cards and reports."""
    from irnscale.evaluation.pictures import set_name

    names = [set_name(folder) for folder in request.folders]
    for folder, name in zip(request.folders, names, strict=True):
        if names.count(name) > 1:
            raise UsageError(f"--data {folder}: {names.count(name)} sets are called {name}", "rename a folder")


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
        from irnscale.evaluation.pictures import set_name
        from irnscale.evaluation.report import report

        crops = []
        for folder in request.folders if request.crops else ():
            of_set = [summary for summary in results if summary.set == set_name(folder)]
            crops += crops_of(folder, of_set, request.crops, request.crop_to)
        write_bytes_atomic(report(results, crops, ruler, chosen), request.report, overwrite=request.overwrite)


def _fit_niqe(request: Request, path: Path) -> int:
    """Only a model of NIQE, of all photographs that can be read."""
    from irnscale.batch import check_outputs
    from irnscale.evaluation.pictures import files_of, load
    from irnscale.images.atomic import write_bytes_atomic
    from irnscale.metrics import as_8bit, niqe

    check_outputs([path], _inputs(request), overwrite=request.overwrite)
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
    say(f"{path}: model {model.digest} of {len(paths)} photographs")
    return ExitCode.INPUT if bar.failed else ExitCode.OK


def _check_outputs(request: Request) -> None:
    """Before hours of work: that what is asked for can be written, and replaces none of what is read."""
    from irnscale.batch import check_outputs
    from irnscale.evaluation.scores import page_with_block
    from irnscale.images.atomic import check_writable

    paths = [path for path in (request.csv_path, request.report) if path is not None]
    check_outputs(paths, _inputs(request), overwrite=request.overwrite)
    if request.readme is not None:
        page_with_block(request.readme, "models")
        check_writable(request.readme, overwrite=True)


def _inputs(request: Request) -> list[Item]:
    """The files that are read: photographs, and the numbers of scores."""
    from irnscale.batch import Item
    from irnscale.evaluation.pictures import files_of

    numbers = [path for path in (request.niqe, request.lpips) if path is not None]
    return [Item(str(path), path) for folder in request.folders for path in files_of(folder)] + [
        Item(str(path), path) for path in numbers
    ]


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
        model = rescaler.assistant or rescaler.completion or rescaler.models[0]
        update_card(model, results, rescaler.digest, chosen.more)
        say(f"{model.weights.with_suffix('.json')}: scores written")


def _write_readme(path: Path) -> None:
    from irnscale.evaluation.scores import model_tables, replace_block
    from irnscale.zoo import models, newest

    cards = [model.card for model in newest(model for model in models({}) if model.shipped)]
    replace_block(path, model_tables(cards), "models")
    say(f"{path}: tables of {len(cards)} models written")


def _rate_distortion(request: Request, path: Path) -> int:
    """Only the curves: to the page's block, and beside the page as SVG and CSV. Begins a page that is not there."""
    from irnscale.batch import check_outputs
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
    from irnscale.evaluation.pictures import files_of, set_name
    from irnscale.evaluation.plot import rate_distortion, require_matplotlib
    from irnscale.evaluation.scores import page_with_block, with_block
    from irnscale.images.atomic import write_bytes_atomic

    if len(request.folders) != 1:
        raise UsageError("--rate-distortion is of one set", "give --data once")
    require_matplotlib()
    picture, table = path.with_suffix(".svg"), path.with_suffix(".csv")
    if path in (picture, table):
        raise UsageError(f"--rate-distortion {path}: is the name of what stands beside the page", "name it .md")
    begun = path.exists()
    page = page_with_block(path, "curves") if begun else NEW_PAGE
    check_outputs([path, picture, table], _inputs(request), overwrite=begun or request.overwrite)
    rescalers = [rescaler for rescaler in rescalers_of(request) if rescaler.assistant is None and rescaler.shrinks]
    methods = [model_method(rescaler) for rescaler in rescalers]
    if not request.no_baselines:
        for scale in sorted({rescaler.scale for rescaler in rescalers}):
            methods.append(replace(baselines(scale)[0], name=f"bicubic x{scale}"))
    (folder,) = request.folders
    name = set_name(folder)
    paths = files_of(folder)[: request.limit]
    bar = _Bar(not request.no_progress and sys.stderr.isatty())
    options: dict[str, Any] = {"subsampling": request.subsampling, "watch": bar.watch}
    if request.jpeg is not None:
        options["qualities"] = numbers("--jpeg", request.jpeg, range(1, 101))
    cache = open_cache(request.cache, kept=not request.no_cache)
    detailed = {name: of for each in rescalers for name, of in detailed_methods(each, request.subsampling).items()}
    try:
        curves = measured_curves(name, paths, methods, detailed=detailed, cache=cache, **options)
        exact = exact_table(exact_rates(name, paths, rescalers, cache=cache, watch=bar.watch))
    finally:
        bar.close()
    title = f"{name}, {len(paths)} photographs"
    block = f"![{title}]({path.stem}.svg)\n\n{title}. {verdict(curves)}\n\n{as_markdown(curves)}\n{exact}"
    write_bytes_atomic(rate_distortion(curves, title), picture, overwrite=True)
    write_bytes_atomic(as_csv(curves), table, overwrite=True)
    write_bytes_atomic(with_block(page, block, "curves").encode(), path, overwrite=True)
    say(f"{path}: curves written, and beside it .svg and .csv")
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
        if str(error) in self._said:  # each curve goes over the set once more
            return
        self._said.add(str(error))
        if self._bar is not None:
            self._bar.clear()
        fail(error)
