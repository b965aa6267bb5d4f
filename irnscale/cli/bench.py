"""`irnscale bench`."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from irnscale.cli.options import DEBUG, DEVICE, MAX_MEMORY, PATH, PRECISION, TILE, parse_size
from irnscale.errors import ExitCode, UsageError
from irnscale.jobs.backends import BACKENDS
from irnscale.jobs.settings import Settings

if TYPE_CHECKING:
    from irnscale.bench.kernels import KernelTiming

_THREADS = min(4, os.cpu_count() or 1)


@click.command()
@click.argument("what", type=click.Choice(["roundtrip", "large", "train", "kernels", "folder"]), default="roundtrip")
@click.option("-s", "--scale", type=click.Choice(["2", "4"]), default="4", show_default=True)
@click.option("-m", "--model", metavar="NAME", help="`roundtrip`, `train`: this model instead, at its own scale.")
@click.option("--size", default="768x512", show_default=True, help="WIDTHxHEIGHT of the image.")
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="`train`: crops in a step.")
@click.option("--crop", type=click.IntRange(min=16), default=144, show_default=True, help="`train`: side of a crop.")
@click.option("--cuda-graph", is_flag=True, help="`train`: the step as one CUDA graph.")
@click.option("--compiled", is_flag=True, help="`roundtrip`, `kernels`: time torch.compile, too.")
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--data", type=PATH, help="`folder`: photographs to shrink.")
@click.option(
    "--backend",
    "backends",
    type=click.Choice(BACKENDS),
    multiple=True,
    help="`folder`: who does it; may be repeated [default: threads and devices].",
)
@click.option("--workers", type=click.IntRange(1, 1024), help="`folder`: processes of each backend but threads.")
@click.option("--scheduler", metavar="tcp://HOST:PORT", help="`folder`: of --backend dask.")
@click.option("--csv", "csv_path", type=PATH, help="`kernels`: write the table here.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
@DEVICE
@PRECISION
@TILE
@MAX_MEMORY
@DEBUG
def command(
    what: str,
    scale: str,
    model: str | None,
    size: str,
    batch: int,
    crop: int,
    cuda_graph: bool,
    compiled: bool,
    repeats: int,
    data: Path | None,
    backends: tuple[str, ...],
    workers: int | None,
    scheduler: str | None,
    csv_path: Path | None,
    as_json: bool,
    device: str,
    precision: str,
    tile: int | None,
    max_memory: str | None,
    debug: bool,
) -> int:
    """Time a round trip or (`train`) a training step beside the paper's way, or (`kernels`) the Triton kernels on CUDA.

    `large` runs `down` and `up` on a picture of --size, each as a process of its own, and reports the peak of its
    memory, as Linux counts it.

    `folder` shrinks the photographs of --data by each --backend, for pictures per second, start-up and the bytes moved.

    The paper's training step, 16 crops of 144 x 144, takes tens of seconds on a small CPU; --batch and --crop make a
    smaller one.
    """
    if model is not None and what not in ("roundtrip", "train"):
        raise UsageError(f"bench {what} takes no --model")
    if what == "train":
        return _train(int(scale), model, batch, crop, repeats, device, precision, cuda_graph, as_json)
    if what == "folder":
        settings = Settings(device=device, precision=precision, tile=tile, max_memory=max_memory, threads=_THREADS)
        return _folder(data, backends or ("threads", "devices"), int(scale), workers, scheduler, settings, as_json)
    if what == "kernels":
        return _kernels(csv_path, compiling=compiled)
    chosen = parse_size(size)
    assert chosen is not None
    if what == "large":
        return _large(chosen, int(scale), max_memory, as_json, device, precision, tile)
    from irnscale.bench.roundtrip import measure

    result = measure(
        scale=int(scale),
        name=model,
        width=chosen[0],
        height=chosen[1],
        repeats=repeats,
        device=device,
        precision=precision,
        tile=tile,
        compiled="inductor" if compiled else None,
    )
    if as_json:
        click.echo(json.dumps(result.to_dict()))
        return ExitCode.OK
    click.echo(
        f"x{result.scale} round trip of {result.width}x{result.height} on {result.device} ({result.threads} threads), "
        f"median of {result.repeats}"
    )
    click.echo(f"  the paper's way  down {result.paper_down_s:.2f} s  up {result.paper_up_s:.2f} s  (float32)")
    click.echo(
        f"  irnscale         down {result.down_s:.2f} s  up {result.up_s:.2f} s  ({result.precision}, "
        f"{result.gflops:.0f} GFLOP/s, {100 * result.gflops / result.matrix_gflops:.0f} % of the "
        f"{result.matrix_gflops:.0f} of a large matrix product)"
    )
    if result.compiled_s is not None:
        click.echo(f"  torch.compile    both {result.compiled_s:.2f} s  (channels-last, bfloat16)")
    click.echo(f"  ratio {result.ratio:.2f}; restored pictures differ by at most {result.largest_difference:.4f}")
    return ExitCode.OK


def _folder(
    data: Path | None,
    backends: Sequence[str],
    scale: int,
    workers: int | None,
    scheduler: str | None,
    settings: Settings,
    as_json: bool,
) -> int:
    from irnscale.bench.folder import measure

    if data is None:
        raise UsageError("bench folder measures photographs", "name a folder of them with --data")
    for found in measure(data, backends, scale=scale, workers=workers, scheduler=scheduler, settings=settings):
        if as_json:
            click.echo(json.dumps(found.to_dict()))
            continue
        click.echo(
            f"{found.backend:8} {found.pictures} of {found.of} pictures in {found.total_s:.1f} s, the first after "
            f"{found.first_s:.1f} s, then {found.per_second:.2f} a second; {found.read / 1e6:.1f} MB read, "
            f"{found.written / 1e6:.1f} MB written, {found.sent / 1e3:.0f} kB between processes"
        )
    return ExitCode.OK


def _large(
    size: tuple[int, int],
    scale: int,
    max_memory: str | None,
    as_json: bool,
    device: str,
    precision: str,
    tile: int | None,
) -> int:
    from irnscale.bench.large import measure

    options = ["--device", device, "--precision", precision, *(["--tile", str(tile)] if tile else [])]
    result = measure(*size, scale=scale, max_memory=max_memory, options=options)
    click.echo(json.dumps(result.to_dict()) if as_json else "\n".join(result.lines()))
    return ExitCode.OK


def _train(
    scale: int,
    model: str | None,
    batch: int,
    crop: int,
    repeats: int,
    device: str,
    precision: str,
    cuda_graph: bool,
    as_json: bool,
) -> int:
    from irnscale.bench.training import measure
    from irnscale.engine.device import choose_device
    from irnscale.zoo import find

    if model is not None:
        scale = find(model).card.scale
    if crop % scale:
        raise UsageError(f"--crop {crop} is not divisible by --scale {scale}")
    result = measure(
        scale=scale,
        name=model,
        batch=batch,
        crop=crop,
        repeats=repeats,
        device=choose_device(device),
        precision=precision,
        cuda_graph=cuda_graph,
    )
    if as_json:
        click.echo(json.dumps(result.to_dict()))
        return ExitCode.OK
    click.echo(
        f"x{scale} training step of {batch} x {crop} x {crop} on {result.device} ({result.threads} threads), median of "
        f"{repeats}"
    )
    click.echo(f"  the paper's way  {result.paper_ms:.0f} ms, keeps {result.paper_kept_mib:.0f} MiB  (float32)")
    click.echo(f"  irnscale         {result.ours_ms:.0f} ms, keeps {result.ours_kept_mib:.0f} MiB ({result.precision})")
    click.echo(
        f"  ratio {result.ratio:.2f}; {result.gflops:.0f} GFLOP/s, {100 * result.fraction:.0f} % of the "
        f"{result.matrix_gflops:.0f} of a large matrix product; losses differ by {100 * result.loss_difference:.2g} %"
    )
    return ExitCode.OK


def _kernels(csv_path: Path | None, *, compiling: bool) -> int:
    from irnscale.bench.kernels import as_csv, measure
    from irnscale.images.atomic import check_writable, write_bytes_atomic

    def keep(rows: Sequence[KernelTiming]) -> None:
        if csv_path is not None:  # after each row, so that what ends the run early leaves what was measured
            write_bytes_atomic(as_csv(rows).encode(), csv_path, overwrite=True)

    if csv_path is not None:
        check_writable(csv_path, overwrite=True)
    rows = measure(click.echo, keep, compiling=compiling)
    return ExitCode.OK if all(row.correct for row in rows) else ExitCode.INPUT
