"""`irnscale bench`."""

from __future__ import annotations

import json

import click

from irnscale.cli.options import DEBUG, DEVICE, PRECISION, TILE, parse_size
from irnscale.errors import ExitCode


@click.command()
@click.argument("what", type=click.Choice(["roundtrip", "kernels"]), default="roundtrip")
@click.option("-s", "--scale", type=click.Choice(["2", "4"]), default="4", show_default=True)
@click.option("--size", default="768x512", show_default=True, help="WIDTHxHEIGHT of the image.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False), help="`kernels`: write the table here.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@DEVICE
@PRECISION
@TILE
@DEBUG
def command(
    what: str,
    scale: str,
    size: str,
    repeats: int,
    csv_path: str | None,
    as_json: bool,
    device: str,
    precision: str,
    tile: int | None,
    debug: bool,
) -> int:
    """Time a round trip beside the paper's way, or (`kernels`, needs CUDA) each Triton kernel."""
    if what == "kernels":
        from pathlib import Path

        from irnscale.bench.kernels import run

        run(Path(csv_path) if csv_path else None)
        return ExitCode.OK
    from irnscale.bench.roundtrip import measure

    chosen = parse_size(size)
    assert chosen is not None
    result = measure(
        scale=int(scale),
        width=chosen[0],
        height=chosen[1],
        repeats=repeats,
        device=device,
        precision=precision,
        tile=tile,
    )
    if as_json:
        click.echo(json.dumps(result.to_dict()))
        return ExitCode.OK
    click.echo(
        f"x{scale} round trip of {result.width}x{result.height} on {result.device} ({result.threads} threads), "
        f"median of {result.repeats}"
    )
    click.echo(f"  the paper's way  down {result.paper_down_s:.2f} s  up {result.paper_up_s:.2f} s  (float32)")
    click.echo(
        f"  irnscale         down {result.down_s:.2f} s  up {result.up_s:.2f} s  ({result.precision}, "
        f"{result.gflops:.0f} GFLOP/s)"
    )
    click.echo(f"  ratio {result.ratio:.2f}; restored pictures differ by at most {result.largest_difference:.4f}")
    return ExitCode.OK
