"""`irnscale strip`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from irnscale.cli.options import DEBUG
from irnscale.errors import ExitCode, IrnscaleError, OutputError, UsageError, one_line


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "-o", "--output", metavar="PATH|-", help="File, folder, or - for stdout [default: NAME_stripped beside it]."
)
@click.option("--overwrite", is_flag=True, help="Replace existing outputs.")
@DEBUG
def command(files: tuple[str, ...], output: str | None, overwrite: bool, debug: bool) -> int:
    """Remove the coded detail from small images: what they show stays, what they contain beside it is gone.

    The last digits of the pixels become neutral and attached blocks are dropped; `up` then restores by the network
    alone. A JPEG, AVIF or lossy WebP is not compressed again.
    """
    from irnscale.cli.main import fail
    from irnscale.detail.stripping import stripped
    from irnscale.images.opening import read_bytes

    folder = output is not None and output != "-" and (output.endswith("/") or Path(output).is_dir())
    if len(files) > 1 and output is not None and not folder:
        raise UsageError(f"-o {output} takes a single input", "give a folder, ending with /")
    codes = set()
    for name in files:
        try:
            path = Path(name)
            data, note = stripped(read_bytes(path, name), name)
            if note:
                click.echo(one_line(f"irnscale: {name}: {note}"), err=True)
            _write(data, _target(path, output, folder=folder), overwrite=overwrite)
        except IrnscaleError as error:
            fail(error.line)
            codes.add(error.exit_code)
    return ExitCode.OK if not codes else codes.pop() if len(codes) == 1 else ExitCode.INPUT


def _target(path: Path, output: str | None, *, folder: bool) -> Path | None:
    """Where the output goes; None: stdout."""
    if output == "-":
        return None
    if output is None:
        return path.with_name(f"{path.stem}_stripped{path.suffix}")
    return Path(output) / path.name if folder else Path(output)


def _write(data: bytes, target: Path | None, *, overwrite: bool) -> None:
    from irnscale.images.atomic import write_bytes_atomic

    if target is None:
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise OutputError(f"stdout: could not write: {error.strerror}", "use -o FILE") from error
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{target.parent}: cannot be made a folder: {error.strerror}", "choose another -o") from error
    write_bytes_atomic(data, target, overwrite=overwrite)
