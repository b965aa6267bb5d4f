"""`irnscale down`."""

from __future__ import annotations

import click

from irnscale.cli.console import EPILOG
from irnscale.cli.detailing import ATTACH, DETAIL, EFFORT
from irnscale.cli.options import Common, RescaleCommand, shared


@click.command(cls=RescaleCommand, epilog=EPILOG)
@click.option("-s", "--scale", type=int, help="2, 4, 8 or 16, or 3 with -m [default: 4, or that of -m].")
@DETAIL
@ATTACH
@EFFORT
@click.option(
    "--gray",
    type=click.Choice(["keep", "color"]),
    default="keep",
    show_default=True,
    help="Small images of gray photographs: one channel, or three, almost gray, in which several dB more find room.",
)
@shared
def command(scale: int | None, detail: str | None, attach: str | None, effort: int, gray: str, common: Common) -> int:
    """Shrink photographs to ordinary small images from which `up` restores them.

    INPUT is a picture file, a folder (with -r), or - for stdin. The output is photo_down4x.png beside the input, or
    -o. The small image carries a record (model, original size) that `up` reads, and in the last bits of its pixels
    what the network alone would lose: it contains more than it shows (`irnscale strip` removes that).
    """
    from irnscale.cli.rescale import execute
    from irnscale.jobs.down import Down

    return execute(common, Down(common.settings, scale, detail, attach, effort, gray))
