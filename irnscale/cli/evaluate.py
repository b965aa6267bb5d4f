"""`irnscale evaluate`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irnscale.cli.options import DEBUG, DEVICE, PRECISION
from irnscale.errors import ExitCode, InputError, IrnscaleError, UsageError

if TYPE_CHECKING:
    from irnscale.engine.rescaler import Rescaler
    from irnscale.evaluation.loop import Summary
    from irnscale.evaluation.methods import Codec, Method
    from irnscale.evaluation.ruler import Ruler

PATH = click.Path(path_type=Path)


class EvaluateCommand(click.Command):
    """`irnscale evaluate glow ...` is a command of its own, without --data."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args and args[0] == "glow":
            from irnscale.cli.glow import evaluate

            return evaluate.make_context(f"{info_name} glow", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=EvaluateCommand)
@click.option("--data", "folders", type=PATH, multiple=True, metavar="DIR", help="A set: a folder of photographs.")
@click.option("-s", "--scale", "scales", default="2,4", show_default=True, help="Scales, joined by commas.")
@click.option("-m", "--model", "names", multiple=True, metavar="NAME|FILE", help="Instead of all installed models.")
@click.option("--jpeg", metavar="QUALITIES", help="Store the LR as JPEG too, at qualities joined by commas.")
@click.option("--subsampling", default="4:2:0", show_default=True, help="Chroma of --jpeg, joined by commas.")
@click.option("--sr", is_flag=True, help="Also the models on bicubic small pictures: super-resolution.")
@click.option("--no-baselines", is_flag=True, help="Without bicubic and Lanczos.")
@click.option("--luma", type=click.Choice(["unrounded", "rounded"]), default="unrounded", show_default=True)
@click.option("--fast", is_flag=True, help="Compare in float32 on the device, and say what that changes.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many photographs of a folder.")
@click.option("--crop-to", type=click.IntRange(min=1), help="Crop to multiples of this [default: of the scale].")
@click.option("--cache", type=PATH, help="Keep results in this folder [default: the user's cache folder].")
@click.option("--no-cache", is_flag=True, help="Measure everything anew, and keep nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per set, method and codec on stdout.")
@click.option("--csv", "csv_path", type=PATH, help="A row per photograph to a file.")
@click.option("--update-card", is_flag=True, help="Write the scores on the models' cards.")
@click.option("--readme", type=PATH, help="Put the tables of the shipped models' cards into this Markdown file.")
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@click.option("--no-progress", is_flag=True, help="No progress bar.")
@DEVICE
@PRECISION
@DEBUG
def command(
    folders: tuple[Path, ...],
    scales: str,
    names: tuple[str, ...],
    jpeg: str | None,
    subsampling: str,
    sr: bool,
    no_baselines: bool,
    luma: str,
    fast: bool,
    limit: int | None,
    crop_to: int | None,
    cache: Path | None,
    no_cache: bool,
    as_json: bool,
    csv_path: Path | None,
    update_card: bool,
    readme: Path | None,
    overwrite: bool,
    no_progress: bool,
    device: str,
    precision: str,
    debug: bool,
) -> int:
    """Measure models and ordinary resizers on folders of photographs, side by side.

    PSNR (dB) and SSIM of the restored picture against the original (HR), and of the small one against bicubic (LR),
    means over a folder. Photographs are cropped to multiples of the scale; `scale` pixels are cut off every side before
    comparing HR. A photograph that cannot be read is named, left out, and makes the exit code 1.

    \b
    With --luma rounded, luma is in whole numbers and gray pictures are compared as they are: how the
    published rows of bicubic were made.

    --update-card keeps HR and LR luma of the models named with -m; those that are JPEG-resistant are measured through
    JPEG 30, 50, 70, 80 and 90 too, unless --jpeg says otherwise.

    `irnscale evaluate glow --help` tells about the flows on 8x8 digits.
    """
    from irnscale.evaluation.cache import Cache, default_folder
    from irnscale.evaluation.ruler import Ruler

    if not folders and not readme:
        raise UsageError("no folder is given", "add --data DIR")
    if update_card and (limit or luma == "rounded" or crop_to or fast or not names or not folders):
        what = "--update-card is for whole sets, by the default protocol, and models named with -m"
        raise UsageError(what, "leave --limit, --luma, --crop-to and --fast out")
    _refuse_existing([("--csv", csv_path)], overwrite)
    results: list[Summary] = []
    failed = False
    if folders:
        rescalers = _rescalers(_whole_numbers("-s", scales, (2, 4, 8, 16)), names, device, precision)
        if update_card and jpeg is None and any(rescaler.jpeg_resistant for rescaler in rescalers):
            jpeg = "30,50,70,80,90"
        assisted = _assisted(rescalers, device, precision) if sr else []
        methods = _methods(rescalers, assisted, scales, sr, not no_baselines and not update_card, luma, bool(names))
        codecs = _codecs(jpeg, subsampling)
        kept = Cache(None if no_cache else (cache or default_folder()) / "evaluate.ndjson")
        watch = _Bar(not no_progress and sys.stderr.isatty())
        ruler = Ruler(luma == "rounded", rescalers[0].device if fast and rescalers else None)
        from irnscale.evaluation.loop import evaluate

        try:
            for folder in folders:
                results += evaluate(
                    folder, methods, codecs, cache=kept, ruler=ruler, limit=limit, multiple=crop_to, watch=watch.watch
                )
        finally:
            watch.close()
        failed = watch.failed
        if fast:
            _report_fast(folders, methods, ruler, crop_to)
        _print(results, ruler, as_json)
    if csv_path is not None:
        from irnscale.evaluation.tables import rows_as_csv
        from irnscale.images.atomic import write_bytes_atomic

        write_bytes_atomic(rows_as_csv(results), csv_path, overwrite=overwrite)
    if update_card:
        _update_cards(rescalers, results)
    if readme is not None:
        _write_readme(readme)
    return ExitCode.INPUT if failed else ExitCode.OK


def _refuse_existing(paths: Sequence[tuple[str, Path | None]], overwrite: bool) -> None:
    for option, path in paths:
        if path is not None and path.exists() and not overwrite:
            raise UsageError(f"{option} {path}: exists", "add --overwrite to replace it")


def _whole_numbers(option: str, text: str, allowed: Sequence[int]) -> list[int]:
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not set(found) <= set(allowed):
        few = ", ".join(map(str, allowed)) if len(allowed) < 10 else f"{allowed[0]} to {allowed[-1]}"
        raise UsageError(f"{option} {text}: not numbers of {few}, joined by commas", f"for example {option} 2,4")
    return found


def _codecs(jpeg: str | None, subsampling: str) -> list[Codec]:
    from irnscale.evaluation.methods import Codec

    qualities = _whole_numbers("--jpeg", jpeg, range(1, 101)) if jpeg is not None else []
    return [Codec(), *(Codec(q, chroma.strip()) for chroma in subsampling.split(",") for q in qualities)]


def _rescalers(scales: Sequence[int], names: Sequence[str], device: str, precision: str) -> list[Rescaler]:
    """Those named; else all that are installed, and for x8 and x16 the shipped ones in a row where none is trained."""
    from irnscale.engine.rescaler import Rescaler
    from irnscale.zoo import combined_scale, compose, find_all, models

    if names:
        chosen = [find_all(name) for name in names]
    else:
        chosen = [[m] for m in models({}) if m.card.kind == "irn" and m.card.scale in scales]
        trained = {model.card.scale for (model,) in chosen}
        chosen += [list(compose(scale)) for scale in scales if scale > 4 and scale not in trained]
    found = [Rescaler(several, device=device, precision=precision) for several in chosen]
    return sorted(found, key=lambda rescaler: combined_scale(rescaler.models))


def _assisted(rescalers: Sequence[Rescaler], device: str, precision: str) -> list[Rescaler]:
    """Those of the models again that have a super-resolution assistant, with it."""
    from irnscale.engine.rescaler import Rescaler
    from irnscale.zoo import models

    bases = {rescaler.digest: rescaler.models for rescaler in rescalers}
    return [
        Rescaler(bases[m.card.base_digest], assistant=m, device=device, precision=precision)
        for m in models({})
        if m.card.kind == "assistant" and m.card.base_digest in bases
    ]


def _methods(
    rescalers: Sequence[Rescaler],
    assisted: Sequence[Rescaler],
    scales: str,
    sr: bool,
    with_baselines: bool,
    luma: str,
    named: bool,
) -> list[Method]:
    """By scale: baselines, then the models."""
    from irnscale.evaluation.methods import baselines, model_method, published_bicubic, super_resolution

    asked = _whole_numbers("-s", scales, (2, 4, 8, 16))
    found: list[Method] = []
    for scale in sorted({rescaler.scale for rescaler in rescalers}) if named else asked:
        if with_baselines:
            found += [published_bicubic(scale)] if luma == "rounded" else []
            found += baselines(scale)
        for rescaler in rescalers:
            if rescaler.scale == scale:
                found.append(model_method(rescaler))
                found += [super_resolution(rescaler)] if sr else []
        found += [super_resolution(rescaler) for rescaler in assisted if rescaler.scale == scale]
    if not found:
        raise UsageError("nothing to measure", "leave --no-baselines out, or choose a model with -m")
    return found


def _report_fast(folders: Sequence[Path], methods: Sequence[Method], ruler: Ruler, multiple: int | None) -> None:
    """Say how far float32 on the device is from float64 on the CPU, on the first photograph of each set."""
    from irnscale.evaluation.ruler import compare_rulers

    ratio, likeness, photographs = compare_rulers(folders, methods, ruler, multiple)
    click.echo(
        f"--fast: float32 on {ruler.device} differs from float64 by at most {ratio:.2g} dB and {likeness:.2g} of SSIM "
        f"({photographs} photographs, all methods)",
        err=True,
    )


def _print(results: Sequence[Summary], ruler: Ruler, as_json: bool) -> None:
    from irnscale.evaluation.tables import record, table

    if as_json:
        for summary in results:
            click.echo(json.dumps(record(summary, ruler)))
    else:
        click.echo(table(results))


def _update_cards(rescalers: Sequence[Rescaler], results: Sequence[Summary]) -> None:
    from irnscale.evaluation.scores import update_card

    for rescaler in rescalers:
        if len(rescaler.models) > 1:
            raise UsageError(f"{rescaler.name}: several models in a row have no card", "name them one by one")
        (model,) = rescaler.models
        update_card(model, results)
        click.echo(f"{model.weights.with_suffix('.json')}: scores written", err=True)


def _write_readme(path: Path) -> None:
    from irnscale.evaluation.scores import model_tables, with_tables
    from irnscale.images.atomic import write_bytes_atomic
    from irnscale.zoo import models

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}", "give a Markdown file") from error
    cards = [model.card for model in models({}) if model.shipped and model.card.kind == "irn"]
    try:
        text = with_tables(text, model_tables(cards))
    except UsageError as error:
        raise UsageError(f"{path}: {error.what}", error.hint) from error
    write_bytes_atomic(text.encode(), path, overwrite=True)
    click.echo(f"{path}: tables of {len(cards)} models written", err=True)


class _Bar:
    """A bar per set on stderr, and the photographs that could not be read."""

    def __init__(self, shown: bool) -> None:
        from irnscale.evaluation.loop import Watch

        self._shown = shown
        self._bar: Any = None
        self.failed = False
        self.watch = Watch(self._begin, self._step, self._skipped)

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

        self.failed = True
        if self._bar is not None:
            self._bar.clear()
        fail(str(error))
