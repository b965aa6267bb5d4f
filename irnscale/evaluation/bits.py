"""How likely networks find the photographs of test sets, in bits per dimension, and whether all that they draw is
finite.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from irnscale.columns import aligned
from irnscale.engine.memory import is_out_of_memory
from irnscale.errors import DeviceError
from irnscale.evaluation.pictures import files_of, load, set_name
from irnscale.images.bicubic import bicubic_down
from irnscale.kernels import quantize
from irnscale.networks.density import bits_of_levels
from irnscale.networks.network import SamplingNetwork
from irnscale.noise import check_temperature

Say = Callable[[str], None]
DRAWN = 32
"""Small pixels per side of what samples are drawn of."""


@dataclass(frozen=True)
class Bits:
    """What a model's measurement on a set gave.

    bits: mean over the pictures of bits per dimension. pictures: how many there were. broken: how many of the `drawn`
    samples were not finite.
    """

    set: str
    model: str
    bits: float
    pictures: int
    drawn: int = 0
    broken: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The fields, as --json prints them."""
        return asdict(self)


def measure(
    folder: Path,
    models: Sequence[tuple[str, SamplingNetwork]],
    *,
    device: torch.device,
    side: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    draws: int = 0,
    temperature: float = 0.8,
    say: Say = lambda _: None,
) -> list[Bits]:
    """Bits per dimension of each model on the photographs of a folder, given bicubic LR in 8 bits.

    models: name and network, all of one scale and on `device`. side: of the middle that is measured of each photograph,
    rounded down to what all take; None: the whole. draws: how many samples are looked at in all, of the middles of the
    pictures in turn, with the seeds from `seed` on. Raises InputError for what cannot be read, DeviceError where memory
    runs out, UsageError for an impossible temperature.
    """
    check_temperature(temperature)
    scale = models[0][1].scale
    multiple = scale * max(net.multiple for _, net in models)
    bits: dict[str, list[float]] = {name: [] for name, _ in models}
    broken = dict.fromkeys(bits, 0)
    files = files_of(folder)[:limit]
    for number, path in enumerate(files):
        say(f"{set_name(folder)}: {path.name}")
        hr = _middle(load(path, multiple).pixels, None if side is None else max(multiple, side - side % multiple))
        hr = hr.to(device)
        lr = quantize(bicubic_down(hr, scale))
        seeds = range(seed + number, seed + draws, len(files))
        small = _middle(lr, DRAWN)
        for name, net in models:
            bits[name].append(_bits(net, hr, lr, seed, f"{path}: {name}"))
            broken[name] += sum(not _is_finite(net, small, temperature, s) for s in seeds)
    return [
        Bits(set_name(folder), name, fmean(values), len(values), draws, broken[name]) for name, values in bits.items()
    ]


def _bits(net: SamplingNetwork, hr: torch.Tensor, lr: torch.Tensor, seed: int, what: str) -> float:
    try:
        found = bits_of_levels(net, hr, lr, seed=seed)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        size = f"{hr.shape[3]}x{hr.shape[2]}"
        raise DeviceError(f"{what}: out of memory for {size}", "add side=512", parameters=("side",)) from error
    assert found is not None  # it was cut to a multiple
    return found


def table(rows: Sequence[Bits]) -> str:
    """Aligned columns, best first in each set."""
    drawn = any(row.drawn for row in rows)
    lines: list[list[str]] = [["set", "model", "bits/dim", "pictures", *(["not finite"] if drawn else [])]]
    for row in sorted(rows, key=lambda row: (row.set, row.bits)):
        more = [f"{row.broken} of {row.drawn}"] if drawn else []
        lines.append([row.set, row.model, f"{row.bits:.4f}", str(row.pictures), *more])
    return "\n".join(aligned(lines, words=2))


def _middle(x: torch.Tensor, side: int | None) -> torch.Tensor:
    if side is None:
        return x
    top, left = (max(0, (length - side) // 2) for length in x.shape[2:])
    return x[:, :, top : top + side, left : left + side].contiguous()


@torch.no_grad()
def _is_finite(net: SamplingNetwork, lr: torch.Tensor, temperature: float, seed: int) -> bool:
    return bool(net.enlarge(lr, temperature=temperature, seeds=[seed]).isfinite().all())
