"""`irnscale evaluate metrics`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from irnscale.cli.console import say
from irnscale.cli.options import DEBUG, PATH
from irnscale.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@click.command()
@click.option("--data", required=True, type=PATH, metavar="DIR", help="A folder of photographs.")
@click.option("-s", "--scale", type=click.Choice(["2", "3", "4"]), default="2", show_default=True, help="Of the LR.")
@click.option("-m", "--model", "names", multiple=True, metavar="NAME|FILE", help="Also the small pictures of a model.")
@click.option("--limit", type=click.IntRange(min=2), help="At most so many photographs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per row.")
@DEBUG
def evaluate(data: Path, scale: str, names: tuple[str, ...], limit: int | None, as_json: bool, debug: bool) -> int:
    """Show that scores can be cheated: bad pictures that read well, made of the photographs and measured.

    \b
    luma           a picture of exactly the same luma whose colours are as far off as 8 bits allow, and a gray one:
                   PSNR-Y and SSIM-Y take them for perfect
    no reference   for each photograph the small picture of another one, and every scale-th pixel: NIQE and PIQE see
                   good photographs. PIQE and NIQE: less is better

    After the dissertation's sections 4.2.2 and 4.2.3. Photographs are cut to the middle that all have.
    """
    from irnscale.columns import aligned
    from irnscale.evaluation import cheating

    factor = int(scale)
    photographs = cheating.of_one_size(data, limit, factor, say)
    luma = cheating.luma_cheats(photographs)
    small = cheating.small_cheats(photographs, factor, _models(names, factor))
    if as_json:
        for kind, cheats in (("luma", luma), ("no reference", small)):
            for cheat in cheats:
                click.echo(json.dumps({"cheats": kind, "made": cheat.name, "scale": factor, **cheat.scores}))
        return ExitCode.OK
    lines = aligned(cheating.table(luma, cheating.LUMA_TITLES), words=1)
    lines += ["", *aligned(cheating.table(small, cheating.SMALL_TITLES), words=1)]
    click.echo(f"{len(photographs)} photographs; the small ones x{factor}\n\n" + "\n".join(lines))
    return ExitCode.OK


def _models(names: tuple[str, ...], scale: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """How each model shrinks. Raises ModelError, and UsageError for one of another scale."""
    from irnscale.engine.rescaler import Rescaler
    from irnscale.errors import UsageError
    from irnscale.evaluation.methods import model_method
    from irnscale.zoo import find

    found = {}
    for name in names:
        model = find(name)
        if model.card.scale != scale:
            raise UsageError(f"{name}: is a model for scale {model.card.scale}", f"add -s {model.card.scale}")
        found[model.card.name] = model_method(Rescaler([model], device="cpu")).shrink
    return found
