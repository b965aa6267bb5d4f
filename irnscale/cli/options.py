"""Options that `down` and `up` share, with one spelling and one default, and what they make of the streams."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from irnscale.batch import STREAM, Output
from irnscale.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])

DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
PRECISION = click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Number format of the convolutions; auto takes what the device multiplies natively.",
)
TILE = click.option(
    "--tile", type=click.IntRange(min=16), help="Positions per side of a tile. Changes memory and speed only."
)
DEBUG = click.option("--debug", is_flag=True, help="Show Python's traceback of an error.")

_SHARED = [
    click.option("-o", "--output", metavar="PATH|-", help="File, folder, or - for stdout."),
    click.option(
        "-f",
        "--format",
        "format_",
        metavar="FORMAT",
        help="png, jpg, webp or tiff [default: by -o, else png].",
    ),
    click.option("-q", "--quality", type=int, help="Quality of jpg or webp, up to 100."),
    click.option("--subsampling", metavar="4:4:4|4:2:2|4:2:0", help="Chroma of jpg [default: 4:4:4]."),
    click.option("-m", "--model", metavar="NAME|FILE", help="A model by name or .safetensors file."),
    click.option(
        "--jpeg-resistant/--no-jpeg-resistant",
        default=None,
        help="The model whose small images survive JPEG.",
    ),
    click.option("--overwrite", is_flag=True, help="Replace existing outputs."),
    DEVICE,
    PRECISION,
    TILE,
    click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        default=10**9,
        show_default=True,
        help="Refuse larger inputs.",
    ),
    click.option(
        "--frames",
        type=click.Choice(["error", "first"]),
        default="error",
        show_default=True,
        help="Animations.",
    ),
    click.option("-v", "--verbose", is_flag=True, help="Say what is done."),
    click.option("--quiet", is_flag=True, help="Say nothing but errors."),
    click.option("--no-progress", is_flag=True, help="No progress bar."),
    DEBUG,
]


@dataclass(frozen=True)
class Common:
    """The shared options, as given."""

    files: Output
    model: str | None
    jpeg_resistant: bool | None
    device: str
    precision: str
    tile: int | None
    max_pixels: int
    frames: str
    verbose: bool
    quiet: bool
    progress: bool

    def say(self, message: str) -> None:
        """What happened, for people who watch: on a terminal, or with -v."""
        if not self.quiet and (self.verbose or sys.stderr.isatty()):
            click.echo(message, err=True)

    def warn(self, message: str) -> None:
        """What people should know."""
        if not self.quiet:
            click.echo(f"irnscale: warning: {message}", err=True)


def shared(function: F) -> F:
    """Add the shared options; the command receives them as `common`."""

    def wrapper(**values: Any) -> Any:
        files = Output(
            output=values.pop("output"),
            format=values.pop("format_"),
            quality=values.pop("quality"),
            subsampling=values.pop("subsampling"),
            overwrite=values.pop("overwrite"),
        )
        keys = (
            "model",
            "jpeg_resistant",
            "device",
            "precision",
            "tile",
            "max_pixels",
            "frames",
            "verbose",
            "quiet",
        )
        chosen = {key: values.pop(key) for key in keys}
        progress = not values.pop("no_progress") and not chosen["quiet"] and sys.stderr.isatty()
        values.pop("debug")
        return function(common=Common(files=files, progress=progress, **chosen), **values)

    wrapper.__name__, wrapper.__doc__ = function.__name__, function.__doc__
    wrapper.__click_params__ = list(getattr(function, "__click_params__", []))  # type: ignore[attr-defined]
    decorated: Any = wrapper
    for option in reversed(_SHARED):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """ "640x480" as (640, 480). Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", text)
    if not match or not int(match[1]) or not int(match[2]):
        raise UsageError(f"--size {text}: not of the form WIDTHxHEIGHT", "for example --size 3000x2000")
    return int(match[1]), int(match[2])


@contextmanager
def guarded_stdout(files: Output, inputs: tuple[str, ...]) -> Iterator[int]:
    """The file descriptor for image bytes, with everything else that writes to stdout sent to stderr.

    Outside `-o -` it is stdout itself. Raises UsageError where image bytes would go to a terminal.
    """
    to_stdout = files.output == STREAM or (files.output is None and inputs == (STREAM,))
    if not to_stdout:
        yield 1
        return
    if os.isatty(1):
        raise UsageError("stdout is a terminal", "name a file with -o, or pipe the output on")
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        yield real
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)
