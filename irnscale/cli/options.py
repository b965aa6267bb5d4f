"""Options that `down` and `up` share, with one spelling and one default."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import click

from irnscale.batch import Output, Selection, place_of
from irnscale.cli import console
from irnscale.errors import UsageError
from irnscale.jobs.backends import BACKENDS
from irnscale.jobs.settings import Message, Settings
from irnscale.noise import HOTTEST

F = TypeVar("F", bound=Callable[..., Any])


class _Path(click.Path):
    """A file or folder. An empty one would be the working folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See `click.Path`. Raises UsageError for an empty one."""
        if value == "":
            where = f"{param.opts[0]}: " if isinstance(param, click.Option) else ""
            raise UsageError(f"{where}an empty file name", "is a shell variable unset?")
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path)
PATH_OR_STREAM = _Path()
"""As text, since "-" may mean a stream."""
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
PRECISION = click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Number format of the convolutions; auto: what the device multiplies natively and the model loses little by.",
)
TILE = click.option(
    "--tile", type=click.IntRange(min=16), help="Positions per side of a tile. Changes memory and speed only."
)
MAX_MEMORY = click.option(
    "--max-memory",
    metavar="SIZE",
    help="Keep within so much memory, such as 800M or 2G, besides that of torch itself.",
)
DEBUG = click.option("--debug", is_flag=True, help="Say what is decided on the way; show errors with their traceback.")
QUALITY = click.option("-q", "--quality", type=int, help="Quality of jpg, webp or avif, up to 100.")
SUBSAMPLING = click.option("--subsampling", metavar="4:4:4|4:2:2|4:2:0", help="Chroma of jpg or avif [default: 4:4:4].")
MODEL = click.option("-m", "--model", metavar="NAME|FILE", help="A model by name or .safetensors file.")
JPEG_RESISTANT = click.option(
    "--jpeg-resistant/--no-jpeg-resistant",
    default=None,
    help="The model whose small images survive JPEG [default: where -f is lossy].",
)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
NO_PROGRESS = click.option("--no-progress", is_flag=True, help="No progress bar.")


def temperature(default: float, help: str) -> Callable[[F], F]:
    """The option --temperature, a standard deviation from 0 on; `help` says of which noise."""
    allowed = click.FloatRange(0, HOTTEST)
    return click.option("--temperature", type=allowed, default=default, show_default=True, help=help)


def seed(help: str) -> Callable[[F], F]:
    """The option --seed, a whole number of 64 bits, 0 where none is given; `help` says of which noise."""
    return click.option("--seed", type=click.IntRange(0, 2**64 - 1), default=0, show_default=True, help=help)


_SHARED = [
    click.argument("inputs", nargs=-1, metavar="INPUT..."),
    click.option(
        "-o",
        "--output",
        metavar="PATH|-",
        help="File, folder, or - for stdout. A new place for several pictures is a folder.",
    ),
    click.option(
        "-f",
        "--format",
        metavar="FORMAT",
        help="png, jpg, webp, tiff or avif [default: by -o, else png].",
    ),
    click.option(
        "--name", metavar="TEMPLATE", help="Names of outputs, of {stem}, {scale}, {ext} and the input's {in_ext}."
    ),
    QUALITY,
    SUBSAMPLING,
    click.option(
        "--depth", type=click.Choice(["8", "16"]), help="Bits per channel of the output [default: 8; 16: png, tiff]."
    ),
    click.option(
        "--strip",
        type=click.Choice(["metadata", "all"]),
        metavar="[=all]",
        help="Drop EXIF, XMP and IPTC; with =all the colour profile too. The record stays.",
    ),
    MODEL,
    JPEG_RESISTANT,
    click.option(
        "-r",
        "--recursive",
        is_flag=True,
        help="Take the pictures in folders; -o repeats the tree. Goes without saying from folders to a folder.",
    ),
    click.option(
        "--files-from", metavar="FILE|-", help="Read names of inputs, one per line; -o repeats their folders."
    ),
    click.option("-0", "null", is_flag=True, help="The names of --files-from end with a null byte, not a line."),
    OVERWRITE,
    click.option(
        "--skip-existing",
        is_flag=True,
        help="Skip inputs whose output was made from them with these settings; with --overwrite, redo the others.",
    ),
    click.option("-n", "--dry-run", is_flag=True, help="Print what would be done, and do nothing."),
    click.option("--fail-fast", is_flag=True, help="Stop at the first input that fails."),
    click.option("--shard", metavar="I/N", help="Of N equal parts of the inputs, take the I-th."),
    click.option(
        "-j",
        "--jobs",
        "threads",
        type=click.IntRange(1, 64),
        default=min(4, os.cpu_count() or 1),
        show_default="CPUs, at most 4",
        help="Threads that read ahead, and as many that write.",
    ),
    click.option(
        "--backend",
        type=click.Choice(BACKENDS),
        default="threads",
        show_default=True,
        help="Who does the work: this process, one for each GPU (without any, several on the CPU), or a Dask cluster.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(1, 1024),
        help="Processes of --backend devices, or of a Dask cluster of its own.",
    ),
    click.option("--scheduler", metavar="tcp://HOST:PORT", help="A running Dask scheduler, for --backend dask."),
    click.option("--json", is_flag=True, help="One JSON object per input on stdout, and a summary."),
    click.option("--report", type=PATH, metavar="FILE", help="The objects of --json to a file."),
    DEVICE,
    PRECISION,
    TILE,
    MAX_MEMORY,
    click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        help="Refuse larger inputs [default: 1000000000, and fewer in suspiciously small files].",
    ),
    click.option(
        "--frames",
        type=click.Choice(["error", "first"]),
        default="error",
        show_default=True,
        help="Animations and files of several pages: refuse them, or take the first.",
    ),
    click.option("-v", "--verbose", is_flag=True, help="Say what is done."),
    click.option("--quiet", is_flag=True, help="Say nothing but errors."),
    NO_PROGRESS,
    DEBUG,
]


class RescaleCommand(click.Command):
    """A command with the shared options. `--strip` may stand alone, which click has no type for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See `click.Command`; a `--strip` that stands alone means metadata."""
        end = args.index("--") if "--" in args else len(args)
        options = ["--strip=metadata" if arg == "--strip" else arg for arg in args[:end]]
        return super().parse_args(ctx, options + args[end:])


@dataclass(frozen=True)
class Common:
    """The shared options, as given: `settings` for those who do the work, the rest for who watches over it."""

    selection: Selection
    settings: Settings
    backend: str
    workers: int | None
    scheduler: str | None
    shard: str | None
    fail_fast: bool
    json: bool
    report: Path | None
    verbose: bool
    quiet: bool
    debug: bool
    progress: bool
    _said: set[str] = field(default_factory=set)

    def say(self, message: str) -> None:
        """What happened, for people who watch: on a terminal, or with -v."""
        if not self.quiet and (self.verbose or sys.stderr.isatty()):
            console.say(message)

    def note(self, message: str) -> None:
        """What was chosen for people who may want otherwise."""
        if not self.quiet:
            console.note(message)

    def warn(self, message: str) -> None:
        """What people should know, as a warning on stderr; nothing with --quiet."""
        if not self.quiet:
            console.warn(message)

    def tell(self, message: Message) -> None:
        """Show a message, and one that is to be shown once not again."""
        if message.once:
            if message.text in self._said:
                return
            self._said.add(message.text)
        {"say": self.say, "note": self.note, "warn": self.warn}[message.level](message.text)


def shared(function: F) -> F:
    """Add the shared options; the command receives them as `common`."""

    def wrapper(**values: Any) -> Any:
        def taken(kind: Any) -> dict[str, Any]:
            """The options that are fields of a dataclass, for it alone."""
            return {field.name: values.pop(field.name) for field in fields(kind) if field.name in values}

        selection = Selection(**taken(Selection))
        values["output"], selection = place_of(values["output"], selection, named=values["name"] is not None)
        values["depth"] = None if values["depth"] is None else int(values["depth"])
        chosen = taken(Common)
        verbose = chosen["verbose"] and not chosen["quiet"]
        settings = Settings(Output(**taken(Output)), verbose=verbose, **taken(Settings))
        progress = not values.pop("no_progress") and not chosen["quiet"] and sys.stderr.isatty()
        return function(common=Common(selection, settings, progress=progress, **chosen), **values)

    wrapper.__name__, wrapper.__doc__ = function.__name__, function.__doc__
    wrapper.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
    decorated: Any = wrapper
    for option in reversed(_SHARED):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def parse_size(text: str | None, option: str = "--size") -> tuple[int, int] | None:
    """ "640x480" as (640, 480). Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text)
    if not match or not int(match[1]) or not int(match[2]):
        raise UsageError(f"{option} {text}: not of the form WIDTHxHEIGHT", f"for example {option} 3000x2000")
    return int(match[1]), int(match[2])
