"""`irnscale strip`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from irnscale.cli.console import fail, note
from irnscale.cli.options import DEBUG, OVERWRITE
from irnscale.errors import ExitCode, IrnscaleError, OutputError, UsageError

if TYPE_CHECKING:
    from irnscale.batch import Job, Targets


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "-o",
    "--output",
    metavar="PATH|-",
    help="File, folder, or - for stdout [default: NAME_stripped beside it; stdout for stdin].",
)
@OVERWRITE
@DEBUG
def command(files: tuple[str, ...], output: str | None, overwrite: bool, debug: bool) -> int:
    """Remove the coded detail from small images: what they show stays, what they contain beside it is gone.

    The last digits of the pixels become neutral and attached blocks are dropped; `up` then restores by the network
    alone. A JPEG, AVIF or lossy WebP is not compressed again. FILE may be - for stdin.
    """
    from irnscale import batch
    from irnscale.cli.progress import guarded_stdout

    output, selection = batch.place_of(output, batch.Selection(files), named=False)
    options = batch.Output(output=output)
    # a folder is no input here, and says so when it is read
    items = batch.collect(replace(selection, recursive=False)).items
    jobs = batch.plan(items, options, _Names("" if options.folder else "_stripped"))
    targets = batch.Targets(batch.Inputs.of(jobs), overwrite=overwrite)
    codes = set()
    to_stdout = any(job.folder is None and job.target is None for job in jobs)
    with guarded_stdout(image=to_stdout, events=False) as stdout:
        for job in jobs:
            try:
                _strip(job, targets, overwrite=overwrite, stdout=stdout)
            except IrnscaleError as error:
                if isinstance(error, UsageError) and len(jobs) == 1:
                    raise
                fail(error)
                codes.add(error.exit_code)
    return ExitCode.OK if not codes else codes.pop() if len(codes) == 1 else ExitCode.INPUT


@dataclass(frozen=True)
class _Names:
    """The input's name, with `suffix` behind its stem and, of stdin, which has none, the extension `ext`."""

    suffix: str
    ext: str = ""

    def __call__(self, stem: str, scale: int, in_ext: str = "", *, apart: int = 0, sample: int = 1) -> str:
        ext = in_ext or self.ext
        return f"{stem}{self.suffix}" + (f".{ext}" if ext else "")


def _strip(job: Job, targets: Targets, *, overwrite: bool, stdout: int) -> None:
    from irnscale import batch
    from irnscale.detail.stripping import stripped
    from irnscale.images.inspect import format_of

    data, found = stripped(batch.read_source(job.item, searched=False), job.label)
    if job.item.source is None and job.folder is not None:
        job = replace(job, name=_Names("", format_of(data)))
    target = targets.place(job, 1)
    if found:
        note(f"{job.label}: {found}")
    if target is not None:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"{target.parent}: cannot be made a folder: {error.strerror}"
            raise OutputError(what, "choose another -o") from error
    batch.write_target(data, target, overwrite=overwrite, stdout=stdout)
