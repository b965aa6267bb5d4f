"""`irnscale demo`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irnscale.cli.options import DEBUG, DEVICE, PATH, PRECISION
from irnscale.errors import ExitCode, OutputError

if TYPE_CHECKING:
    import numpy as np

PHOTOGRAPH = "astronaut.png"
CROP = (136, 336, 96)
"""Left, top and side of the zoomed part of the photograph: the mission patch with its lettering."""


@click.command()
@click.option("-o", "--output", type=PATH, default=Path("irnscale-demo"), show_default=True)
@click.option("-s", "--scale", type=click.Choice(["2", "4"]), default="4", show_default=True)
@DEVICE
@PRECISION
@DEBUG
def command(output: Path, scale: str, device: str, precision: str, debug: bool) -> int:
    """Shrink and restore the photograph that comes with irnscale, and compare with a bicubic round trip.

    The small picture is an ordinary one that carries what the network loses in the last bits of its pixels; the network
    alone is shown too.
    """
    import torch

    from irnscale.engine.rescaler import load
    from irnscale.evaluation.contact_sheet import Column, sheet
    from irnscale.evaluation.trip import Storage, travel
    from irnscale.images.atomic import write_bytes_atomic
    from irnscale.images.bicubic import bicubic_down, bicubic_up
    from irnscale.images.read import read_picture
    from irnscale.images.write import encode_picture
    from irnscale.jobs.amounts import detail_bits
    from irnscale.metrics import psnr, ssim

    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{output}: cannot create the folder: {error.strerror}", "choose another -o") from error

    factor = int(scale)
    data = (resources.files("irnscale") / "assets" / PHOTOGRAPH).read_bytes()
    original = read_picture(data, PHOTOGRAPH)
    rescaler = load(factor, device=device, precision=precision)
    bits = detail_bits(None, factor, lossy=False, jpeg_resistant=False)
    trip = travel(rescaler, original, Storage(bits=bits))
    small, restored = trip.small, trip.restored

    def tensor(pixels: np.ndarray[Any, Any]) -> torch.Tensor:
        return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255

    truth = tensor(original.pixels)
    shrunk = (bicubic_down(truth, factor).clamp(0, 1) * 255).round() / 255
    bicubic = bicubic_up(shrunk, factor).clamp(0, 1)
    rows = [("irnscale", tensor(restored.pixels)), ("bicubic", bicubic)]
    if trip.plain is not None:  # what carries detail has a base that the network makes alone
        rows.insert(1, ("without detail", tensor(trip.plain.pixels)))
    scores = {name: (psnr(x, truth, crop=factor).item(), ssim(x, truth, crop=factor).item()) for name, x in rows}

    bicubic_pixels = (bicubic[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    shown = {name: f"PSNR {decibel:.2f} dB, SSIM {likeness:.4f}" for name, (decibel, likeness) in scores.items()}
    kept = f"{small.width} x {small.height}: all that is kept"
    plain = [] if trip.plain is None else [Column("without its detail", shown["without detail"], trip.plain.pixels)]
    columns = [
        Column("original", f"{original.width} x {original.height}", original.pixels),
        Column("small, by irnscale", kept, small.pixels, factor, in_proportion=True),
        Column("restored by irnscale", shown["irnscale"], restored.pixels),
        *plain,
        Column("bicubic, for comparison", shown["bicubic"], bicubic_pixels),
    ]
    picture = sheet(columns, CROP, (original.width, original.height))
    files = {
        "original.png": encode_picture(original, "png"),
        "small.png": trip.stored,
        "restored.png": encode_picture(restored, "png", record=trip.record),
        "comparison.png": picture,
    }
    for name, content in files.items():
        write_bytes_atomic(content, output / name, overwrite=True)

    sizes = f"{original.width}x{original.height} -> {small.width}x{small.height} and back, x{factor}"
    lines = [
        f"  {name:14} PSNR {decibel:.2f} dB  SSIM {likeness:.4f}   (luma)"
        for name, (decibel, likeness) in scores.items()
    ]
    click.echo("\n".join([f"{PHOTOGRAPH}: {sizes}", *lines, f"wrote {', '.join(files)} to {output}/"]))
    return ExitCode.OK
