"""`irnscale evaluate bits`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from irnscale.cli.console import say
from irnscale.cli.options import DEBUG, DEVICE, PATH
from irnscale.errors import ExitCode, ModelError, UsageError
from irnscale.noise import HOTTEST


@click.command()
@click.option(
    "--data",
    "folders",
    required=True,
    multiple=True,
    type=PATH,
    metavar="DIR",
    help="A set: a folder of photographs. Repeatable.",
)
@click.option("-m", "--model", "names", multiple=True, required=True, metavar="NAME|FILE", help="Repeatable.")
@click.option("--side", type=click.IntRange(min=16), help="Of the middle that is measured [default: the whole].")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many photographs of a folder.")
@click.option("--draws", type=click.IntRange(0), default=0, show_default=True, help="Samples to look at, in all.")
@click.option(
    "--temperature", type=click.FloatRange(0, HOTTEST), default=0.8, show_default=True, help="Of these samples."
)
@click.option("--seed", type=click.IntRange(0, 2**63), default=0, show_default=True, help="Of noise and first sample.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per set and model.")
@DEVICE
@DEBUG
def evaluate(
    folders: tuple[Path, ...],
    names: tuple[str, ...],
    side: int | None,
    limit: int | None,
    draws: int,
    temperature: float,
    seed: int,
    as_json: bool,
    device: str,
    debug: bool,
) -> int:
    """Bits per dimension of photographs, given their bicubic small pictures, by networks that draw samples.

    Fewer are better. A flow must have fewer than the Gaussian around its encoder, a flow of one layer (the recipe
    gaussian-x4-budget): else its layers are worth nothing. With --draws it is also counted how many samples are not
    finite. Whole pictures take some memory: --side measures their middles.
    """
    from irnscale.engine.device import choose_device
    from irnscale.evaluation.bits import measure, table
    from irnscale.networks.network import SamplingNetwork
    from irnscale.zoo import find, load_network

    chosen, nets = choose_device(device), []
    for model in [find(name) for name in names]:
        if not model.samples:
            what = f"{model.card.name}: has no density: it draws no samples"
            raise ModelError(what, "name an SRFlow or the like", parameters=("model",))
        net = load_network(model, "super-resolution").to(chosen)
        assert isinstance(net, SamplingNetwork)
        nets.append((model.card.name, net))
    if len({net.scale for _, net in nets}) > 1:
        raise UsageError("models of several scales have no common measure", "measure them one by one")
    rows = []
    for folder in folders:
        options = {"side": side, "limit": limit, "seed": seed, "draws": draws, "temperature": temperature}
        rows += measure(folder, nets, device=chosen, say=_say, **options)  # type: ignore[arg-type]
    if as_json:
        for row in rows:
            click.echo(json.dumps(row.to_dict()))
    else:
        click.echo(table(rows))
    return ExitCode.OK


def _say(message: str) -> None:
    if sys.stderr.isatty():
        say(message)
