"""`irnscale up`."""

from __future__ import annotations

import click

from irnscale.cli import options
from irnscale.cli.console import EPILOG
from irnscale.cli.options import Common, RescaleCommand, parse_size, shared


@click.command(cls=RescaleCommand, epilog=EPILOG)
@click.option("-s", "--scale", type=int, help="2, 4, 8 or 16, or 3 with -m; only where the file has no record.")
@click.option("--size", metavar="WxH", help="The original's size, where the file has no record.")
@options.temperature(
    0.0, "Standard deviation of the noise given for the lost detail; the paper's is 1, SRFlow's 0.8 or 0.9."
)
@options.seed("Which noise --temperature draws.")
@click.option(
    "--samples",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="How many pictures to draw of each input, by seeds from --seed on; {sample} is their number in --name.",
)
@click.option("--ignore-provenance", is_flag=True, help="Trust the options rather than the file's record.")
@click.option("--require-provenance", is_flag=True, help="Refuse files without a record.")
@click.option(
    "--detail",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="none: restore by the network alone, without the coded layer that the file carries.",
)
@click.option("--sr", is_flag=True, help="For small images that `down` did not make: super-resolution.")
@shared
def command(
    scale: int | None,
    size: str | None,
    temperature: float,
    seed: int,
    samples: int,
    detail: str,
    sr: bool,
    ignore_provenance: bool,
    require_provenance: bool,
    common: Common,
) -> int:
    """Restore small images MADE BY `irnscale down` to their original size.

    INPUT is a picture file, a folder (with -r), or - for stdin. The model and the size are read from the file's
    record, so that no option is needed. In small images that `down` did not make there is nothing to restore: they come
    out much as from an ordinary resizer, sharpened ones worse; --sr (with -s) is for them.
    """
    from irnscale.cli.rescale import execute
    from irnscale.jobs.up import Up

    wanted = parse_size(size)
    task = Up(
        common.settings,
        scale,
        wanted,
        ignore_provenance,
        require_provenance,
        sr,
        temperature,
        seed,
        with_detail=detail == "auto",
        samples=samples,
    )
    return execute(common, task)
