"""`irnscale doctor`."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from typing import Any

import click

import irnscale
from irnscale.cli.options import DEBUG
from irnscale.errors import ExitCode

PACKAGES = ("torch", "FrEIA", "triton", "pillow", "numpy", "safetensors", "click", "tqdm")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@DEBUG
def command(as_json: bool, debug: bool) -> int:
    """Versions, devices, and the precision and kernels that would be used. For bug reports."""
    facts = collect()
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for key, value in facts.items():
            text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
            click.echo(f"{key}: {text}")
    return ExitCode.OK


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def collect() -> dict[str, Any]:
    """What there is to know about this machine and installation, ready for JSON."""
    import torch

    from irnscale import kernels
    from irnscale.engine.device import choose_device
    from irnscale.engine.precision import choose_precision, cpu_multiplies_bfloat16
    from irnscale.zoo import models, user_folder

    device = choose_device("auto")
    probe = torch.empty(0, device=device)
    facts: dict[str, Any] = {
        "irnscale": irnscale.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "cpu": f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, "
        f"bfloat16 {'native' if cpu_multiplies_bfloat16() else 'emulated (not used)'}",
        "cuda": ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        if torch.cuda.is_available()
        else "none",
        "device used": str(device),
        "precision used": str(choose_precision("auto", device)).removeprefix("torch."),
        "kernels used": ("triton" if kernels.use_triton(probe) else "torch")
        + f" (IRNSCALE_KERNELS={kernels.mode()}, triton {'found' if kernels.triton_available() else 'not found'})",
        "models": ", ".join(f"{m.card.name} ({m.card.digest})" for m in models()) or "none",
        "imported models in": str(user_folder()),
    }
    return facts
