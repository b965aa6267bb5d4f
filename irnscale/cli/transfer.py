"""`irnscale transfer`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from irnscale.cli import options
from irnscale.cli.console import EPILOG, warn
from irnscale.cli.options import DEBUG, DEVICE, MAX_MEMORY, NO_PROGRESS, PATH_OR_STREAM, QUALITY, SUBSAMPLING, TILE
from irnscale.errors import ExitCode, UsageError, on_command_line

if TYPE_CHECKING:
    from irnscale.batch import Output
    from irnscale.engine.executor import Progress


@click.command(epilog=EPILOG)
@click.argument("pictures", nargs=-1, required=True, type=PATH_OR_STREAM, metavar="SOURCE TARGET")
@click.option(
    "-o",
    "--output",
    type=PATH_OR_STREAM,
    metavar="FILE|-",
    help="File, or - for stdout [default: TARGET_transfer.png beside it].",
)
@click.option("-f", "--format", "format_", metavar="FORMAT", help="png, jpg, webp, tiff or avif [default: by -o].")
@QUALITY
@SUBSAMPLING
@click.option("--depth", type=click.Choice(["8", "16"]), default="8", show_default=True, help="Bits per channel.")
@click.option("-m", "--model", metavar="NAME|FILE", help="A model that draws samples [default: srflow-x4].")
@click.option("-s", "--scale", type=int, help="TARGET is a small picture, to be enlarged so many times first.")
@click.option("--box", metavar="X,Y,W,H", help="What of SOURCE is taken [default: all that fits].")
@click.option("--at", metavar="X,Y", help="Where in TARGET its upper left corner comes [default: as in SOURCE].")
@click.option("--style", is_flag=True, help="Take the textures: what TARGET shows stays, to the small picture.")
@click.option("--restore", is_flag=True, help="Take noise and artefacts out of one picture, or of a box of it.")
@click.option(
    "--normalize",
    type=click.Choice(["local", "spatial", "global", "none"]),
    help="Whose statistics become those of noise: all channels at a place, a channel in all places, everything "
    "[default: local; --restore spatial; --style none].",
)
@options.temperature(0.8, "Standard deviation of that noise, and of a TARGET that is enlarged first.")
@options.seed("Which noise.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output.")
@click.option("--json", "as_json", is_flag=True, help="What was done as one JSON object on stdout.")
@DEVICE
@TILE
@MAX_MEMORY
@click.option("--max-pixels", type=click.IntRange(min=1), help="Refuse larger inputs.")
@NO_PROGRESS
@DEBUG
def command(
    pictures: tuple[str, ...],
    output: str | None,
    format_: str | None,
    quality: int | None,
    subsampling: str | None,
    depth: str,
    model: str | None,
    scale: int | None,
    box: str | None,
    at: str | None,
    style: bool,
    restore: bool,
    normalize: str | None,
    temperature: float,
    seed: int,
    overwrite: bool,
    as_json: bool,
    device: str,
    tile: int | None,
    max_memory: str | None,
    max_pixels: int | None,
    no_progress: bool,
    debug: bool,
) -> int:
    """Set a part of SOURCE into TARGET, and let SRFlow make one picture of both.

    The box is pasted, and what the network finds unlikely there is redrawn; beyond its reach every pixel of TARGET
    stays. With --style the details of SOURCE replace those of TARGET, whose small picture stays; with --restore there
    is one picture, whose own details are made likely. Where SOURCE is transparent, TARGET shows.

    What it makes agrees with the small picture of TARGET, and is a matter of taste: try several --temperature,
    --normalize and --seed.
    """
    from irnscale import batch
    from irnscale.cli.progress import guarded_stdout
    from irnscale.images.atomic import check_writable
    from irnscale.images.read import read_picture
    from irnscale.jobs.transfer import Editing, transferred

    if style and restore:
        raise UsageError("--style and --restore are two things", "leave one of them out")
    if len(pictures) != (1 if restore else 2):
        what = "--restore takes one picture" if restore else "a SOURCE and a TARGET are needed"
        raise UsageError(f"{what}, and {len(pictures)} are given", "see `irnscale transfer --help`")
    chosen = batch.Output(output=output, format=format_)
    path = _path(chosen, pictures[-1], "_restored" if restore else "_transfer")
    settings = Editing(
        "restore" if restore else "style" if style else "content",
        _numbers(box, "--box", "X,Y,W,H"),  # type: ignore[arg-type]
        _numbers(at, "--at", "X,Y"),  # type: ignore[arg-type]
        normalize,
        temperature,
        seed,
        scale,
        model,
        chosen.resolve_format(),
        quality,
        subsampling,
        int(depth),
        device,
        tile,
        max_memory,
        max_pixels,
    )
    items = batch.collect(batch.Selection(pictures)).items
    if path is not None:
        batch.check_apart(path, items)
        if chosen.folder is not None:
            batch.Targets.open_folder(path)
        check_writable(path, overwrite=overwrite)
    with guarded_stdout(image=path is None, events=as_json) as stdout:
        files = [batch.read_source(item, searched=False) for item in items]
        read = [read_picture(data, item.label, max_pixels=max_pixels) for item, data in zip(items, files, strict=True)]
        done = transferred(read[0], read[-1], settings, progress=None if no_progress else _bar())
        for item, notes in zip((items[0], items[-1]), (done.of_source, done.warnings), strict=True):
            for note in notes:
                warn(f"{item.label}: {on_command_line(note)}")
        batch.write_target(done.data, path, overwrite=overwrite, stdout=stdout)
        if as_json:
            facts = {"output": str(path), "width": done.size[0], "height": done.size[1], "mode": settings.mode}
            facts |= {"model": done.model, "digest": done.digest, "temperature": temperature, "seed": seed}
            batch.write_target((json.dumps(facts) + "\n").encode(), None, overwrite=False, stdout=stdout)
    return ExitCode.OK


def _path(chosen: Output, target: str, suffix: str) -> Path | None:
    """The file to write; None: stdout."""
    from irnscale import batch

    if chosen.output == batch.STREAM or (chosen.output is None and target == batch.STREAM):
        return None
    stem = "stdin" if target == batch.STREAM else Path(target).stem
    name = f"{stem}{suffix}.{chosen.resolve_format()}"
    if chosen.output is None:
        return Path(target).with_name(name)
    return Path(chosen.output) if chosen.folder is None else chosen.folder / name


def _numbers(text: str | None, option: str, form: str) -> tuple[int, ...] | None:
    """ "8,16" as (8, 16). Raises UsageError."""
    if text is None:
        return None
    count = form.count(",") + 1
    if not re.fullmatch(r"\s*\d{1,9}\s*(,\s*\d{1,9}\s*)" + f"{{{count - 1}}}", text):
        raise UsageError(
            f"{option} {text}: not of the form {form}", f"whole numbers of pixels, as in {option} " + _LIKE[option]
        )
    return tuple(int(part) for part in text.split(","))


_LIKE = {"--box": "16,32,200,150", "--at": "16,32"}


def _bar() -> Progress | None:
    """A bar on stderr, where that is a terminal."""
    if not sys.stderr.isatty():
        return None
    from tqdm import tqdm

    bar = tqdm(total=1, unit="px", unit_scale=True, dynamic_ncols=True, leave=False, file=sys.stderr)

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()

    return show
