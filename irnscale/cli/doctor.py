"""`irnscale doctor`."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from irnscale._version import __version__
from irnscale.cli.models import report_broken
from irnscale.cli.options import DEBUG, DEVICE, MAX_MEMORY, PRECISION, TILE, parse_size
from irnscale.errors import ExitCode, ModelError

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "torch",
    "FrEIA",
    "triton",
    "pillow",
    "numpy",
    "safetensors",
    "click",
    "tqdm",
    "imagecodecs",
    "tifffile",
    "pillow-heif",
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option("--plan", "size", metavar="WxH", help="How an image of this size would be run, without running it.")
@click.option("-s", "--scale", type=int, default=4, show_default=True, help="Of --plan.")
@DEVICE
@PRECISION
@TILE
@MAX_MEMORY
@DEBUG
def command(
    as_json: bool,
    size: str | None,
    scale: int,
    device: str,
    precision: str,
    tile: int | None,
    max_memory: str | None,
    debug: bool,
) -> int:
    """Versions, devices, and the precision and kernels that would be used. For bug reports."""
    if size is not None:
        return _plan(size, scale, as_json, device=device, precision=precision, tile=tile, max_memory=max_memory)
    broken: dict[Path, ModelError] = {}
    facts = collect(broken)
    if as_json:
        click.echo(json.dumps(facts))
    else:
        texts = {
            key: ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            for key, value in facts.items()
        }
        click.echo("\n".join(f"{key}: {text}" for key, text in texts.items()))
    return report_broken(broken)


def _plan(size: str, scale: int, as_json: bool, **options: Any) -> int:
    """Print the plans of both directions."""
    from irnscale.engine.rescaler import load

    chosen = parse_size(size, "--plan")
    assert chosen is not None
    rescaler = load(scale, **options)
    plans = [plan for kind in ("down", "up") for plan in rescaler.plans(kind, *chosen)]
    if as_json:
        click.echo(json.dumps([plan.to_dict() for plan in plans]))
    else:
        click.echo("\n".join(plan.describe() for plan in plans))
    return ExitCode.OK


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _computing(device: torch.device) -> dict[str, str]:
    """Whether the kernels compile and compute right, and how fast the device multiplies."""
    from irnscale.bench.timing import matrix_rate
    from irnscale.engine.precision import choose_precision
    from irnscale.engine.warming import check_kernels

    dtype = choose_precision("auto", device)
    rate, kind = matrix_rate(dtype, device, repeats=2), str(dtype).removeprefix("torch.")
    return {"kernels compile": check_kernels(device), "multiplies": f"{rate / 1e12:.3g} TFLOP/s in {kind}"}


def collect(broken: dict[Path, ModelError]) -> dict[str, Any]:
    """What there is to know about this machine and installation, ready for JSON; model cards that cannot be read."""
    import torch

    from irnscale import kernels
    from irnscale.engine.device import choose_device
    from irnscale.engine.precision import choose_precision, cpu_multiplies_bfloat16
    from irnscale.zoo import models, user_folder

    device, found = choose_device("auto"), models(broken)
    precision = str(choose_precision("auto", device)).removeprefix("torch.")
    exact = [m.card.name for m in found if precision not in {"float32", *m.card.automatic}]
    probe = torch.empty(0, device=device)
    facts: dict[str, Any] = {
        "irnscale": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, "
        f"bfloat16 {'native' if cpu_multiplies_bfloat16() else 'emulated (not used)'}",
        "cuda": ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        if torch.cuda.is_available()
        else "none",
        "device used": str(device),
        "precision used": precision,
        "in float32 all the same": ", ".join(exact) or "none",
        "kernels used": ("triton" if kernels.use_triton(probe) else "torch")
        + f" (IRNSCALE_KERNELS={kernels.mode()}, triton {'found' if kernels.triton_available() else 'not found'})",
        **_computing(device),
        "models": ", ".join(f"{m.card.name} ({m.card.digest})" for m in found) or "none",
        "imported models in": str(user_folder() or "none: no home folder (IRNSCALE_MODELS names one)"),
    }
    return facts
