"""The options of `down` and `check` that say what coded detail a small file carries."""

from __future__ import annotations

import click

from irnscale.jobs.amounts import DETAILS, MOST_EFFORT

DETAIL = click.option(
    "--detail",
    type=click.Choice(DETAILS),
    help="Bits of each stored sample that carry a coded layer of what the network loses; exact: also attach what is "
    "missing to the original bit for bit [default: 1 at x2, else 2; none in lossy formats and with --jpeg-resistant].",
)
ATTACH = click.option(
    "--attach",
    metavar="SIZE|QUALITY",
    help="Attach detail to the file beside its pixels: so many bytes (40K), or a quality from 0 to 100. For files that "
    "are kept as they are written.",
)
EFFORT = click.option(
    "--effort",
    type=click.IntRange(0, MOST_EFFORT),
    default=0,
    show_default=True,
    metavar="N",
    help="Steps of optimisation that make the small image restore better, each as long as some rescalings: some "
    "tenths of a dB for 5, a little more for 20.",
)
