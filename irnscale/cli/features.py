"""`irnscale train features`: how the house features were made."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from irnscale.cli.console import say
from irnscale.cli.options import DEBUG, NO_PROGRESS, PATH
from irnscale.errors import ExitCode, UsageError


@click.command("features")
@click.option("--data", multiple=True, required=True, type=PATH, help="Folder or .tar of photographs; repeatable.")
@click.option("-o", "--output", required=True, type=PATH, metavar="FILE.safetensors", help="The network, in float16.")
@click.option("--steps", default=1000, show_default=True, type=click.IntRange(min=1), help="Steps of training.")
@click.option("--batch", default=128, show_default=True, type=click.IntRange(min=2), help="Pairs of views per step.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Of all that is random.")
@click.option("--overwrite", is_flag=True, help="Replace a file of that name.")
@NO_PROGRESS
@DEBUG
def command(
    data: tuple[Path, ...],
    output: Path,
    steps: int,
    batch: int,
    seed: int,
    overwrite: bool,
    no_progress: bool,
    debug: bool,
) -> int:
    """Teach a network for scores on photographs, without labels: Barlow Twins on pairs of views of a crop.

    With the defaults, on irnscale's training photographs, it makes the house features that ship, up to rounding; these
    are frozen, and `evaluate` takes no others. On the CPU, the photographs in memory.
    """
    from irnscale.images.atomic import check_writable, write_bytes_atomic
    from irnscale.metrics.features import from_bytes
    from irnscale.train.features import as_file, read, teach

    if output.suffix != ".safetensors":
        raise UsageError(f"{output}: such a network is named *.safetensors", "give it that name with -o")
    check_writable(output, overwrite=overwrite)
    unreadable: list[str] = []
    photographs = read(data, unreadable)
    for line in unreadable:
        say(f"unreadable: {line}")
    bar = None
    if not no_progress and sys.stderr.isatty():
        from tqdm import tqdm

        bar = tqdm(total=steps, desc="features", dynamic_ncols=True, leave=False, file=sys.stderr)
    losses: list[float] = []

    def watch(step: int, loss: float) -> None:
        losses.append(loss)
        if bar is not None:
            bar.set_postfix_str(f"loss {loss:.2f}", refresh=False)
            bar.update()

    try:
        made = as_file(teach(photographs, steps=steps, batch=batch, seed=seed, watch=watch))
    finally:
        if bar is not None:
            bar.close()
    write_bytes_atomic(made, output, overwrite=overwrite)
    digest = from_bytes(made, str(output)).digest
    last = losses[-(len(losses) // 20 or 1) :]
    said = f"features {digest} of {len(photographs)} photographs, loss {sum(last) / len(last):.2f}"
    say(f"{output}: {said}")
    return ExitCode.INPUT if unreadable else ExitCode.OK
