"""`irnscale evaluate lipschitz`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from irnscale.cli.console import say
from irnscale.cli.options import DEBUG, PATH
from irnscale.errors import ExitCode, InputError, UsageError

if TYPE_CHECKING:
    from torch import Tensor


@click.command()
@click.option("--data", required=True, type=PATH, metavar="DIR", help="A folder of photographs.")
@click.option("-m", "--model", "names", multiple=True, required=True, metavar="NAME|FILE", help="Repeatable.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many photographs.")
@click.option("--crop", type=click.IntRange(min=16), default=96, show_default=True, help="Side of the middle taken.")
@click.option(
    "--iterations", type=click.IntRange(min=1), default=30, show_default=True, help="Of each power iteration."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of their starts, and of the noise.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per model.")
@DEBUG
def evaluate(
    data: Path,
    names: tuple[str, ...],
    limit: int | None,
    crop: int,
    iterations: int,
    seed: int,
    as_json: bool,
    debug: bool,
) -> int:
    """How much an IRN and its inverse stretch: Lipschitz bounds of every coupling, and what is seen at photographs.

    \b
    Lip p, s, t  of the subnets, for any input: products over their convolutions
    max|x2|      and log-scale: the ranges seen on the way down
    bound        of the coupling over these ranges (the dissertation's D.7 to D.10, with IRN's scale exp(c g))
    seen         the largest singular value of its Jacobian at the photographs, by power iteration

    Below, the same of the whole network, down and up, and the largest error of going down and up without rounding. On
    the CPU in float32; some minutes per model. docs/lipschitz.md has the derivation and what came out.
    """
    from irnscale.evaluation.lipschitz import measure, table
    from irnscale.networks import IRN
    from irnscale.zoo import find, load_network

    for model in [find(name) for name in names]:
        net = load_network(model)
        if not isinstance(net, IRN):
            raise UsageError(f"{model.card.name}: no bounds are known of the family {model.card.kind}", "give an IRN")
        pictures = middles(data, net.scale, crop, limit)
        result = measure(net, pictures, name=model.card.name, iterations=iterations, seed=seed, say=say)
        click.echo(json.dumps(result.to_dict()) if as_json else table(result) + "\n")
    return ExitCode.OK


def middles(folder: Path, scale: int, crop: int, limit: int | None) -> dict[str, Tensor]:
    """The middle `crop` x `crop` pixels of the photographs, by name; smaller ones are left out and named.

    Raises InputError where none is left, UsageError where `crop` is no multiple of the scale.
    """
    from irnscale.evaluation.pictures import files_of, load

    if crop % scale:
        raise UsageError(f"--crop {crop}: not a multiple of the model's scale, {scale}", f"give {crop - crop % scale}")
    found: dict[str, Tensor] = {}
    for path in files_of(folder):
        if limit is not None and len(found) == limit:
            break
        try:
            pixels = load(path, 1).pixels
        except InputError as error:
            say(f"left out: {error.line}")
            continue
        top, left = ((side - crop) // 2 for side in pixels.shape[2:])
        if min(top, left) < 0:
            say(f"left out: {path}: smaller than {crop} pixels on a side")
            continue
        found[path.name] = pixels[:, :, top : top + crop, left : left + crop].contiguous()
    if not found:
        raise InputError(f"{folder}: no photograph of at least {crop} pixels a side", "give --crop a smaller number")
    return found
