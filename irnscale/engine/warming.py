"""The Triton kernels of a network, compiled before its first image: all at once, and for images of any size."""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from irnscale.engine.precision import choose_precision
from irnscale.engine.prepared import Prepared
from irnscale.engine.subnets import Border, Results
from irnscale.kernels import interpreted, reference, use_triton
from irnscale.kernels.compiling import Compiled, Launch, compile_all, recorded
from irnscale.kernels.dispatch import REDUCED
from irnscale.logs import logger
from irnscale.networks import DenseBlock, EnhancedAffineCoupling
from irnscale.networks.network import IMAGE_CHANNELS
from irnscale.networks.step import Layer, Level, factor_of

_log = logger(__name__)
SIDES = (16, 10)
"""Of the planes that the steps are tried on: rows that begin at multiples of 16 bytes, and rows that do not."""


def compile_kernels(networks: Iterable[Prepared], device: torch.device) -> Compiled | None:
    """Compile what `networks` launch on `device`, in both directions; None where no kernel of ours is launched.

    What Triton has in its cache on disk is read from there, in a fraction of a second.
    """
    if device.type != "cuda" or interpreted() or not use_triton(torch.empty(0, device=device)):
        return None
    done = compile_all((launch for prepared in networks for launch in launches_of(prepared)), device)
    _log.info("%s", done.describe())
    return done


def check_kernels(device: torch.device) -> str:
    """Compile a coupling's kernels for `device` and compare what they compute with plain torch: a line for people."""
    if device.type != "cuda" or not use_triton(torch.empty(0, device=device)):
        return "not used on this device"
    return check_coupling(device)


def check_coupling(device: torch.device, side: int = 16) -> str:
    """What `check_kernels` says where the kernels are used, from a coupling of side x side positions."""
    dtype = choose_precision("auto", device)
    coupling = (
        EnhancedAffineCoupling([(12, side, side)], subnet_constructor=DenseBlock).to(device).requires_grad_(False)
    )
    generator = torch.Generator().manual_seed(0)
    for p in coupling.parameters():
        p.copy_(torch.randn(p.shape, generator=generator) * 0.03)
    x = torch.rand((1, 12, side, side), generator=generator).to(device)
    blocks = [block for block in (coupling.p, coupling.s, coupling.t) if isinstance(block, DenseBlock)]
    for block in blocks:
        block.compute_dtype = dtype
    start = time.perf_counter()
    try:
        with torch.inference_mode(), recorded() as found:
            coupling((x,), jac=False)
        if not interpreted():
            compile_all(found, device)
        (got,), _ = coupling((x,), jac=False)
        seconds = time.perf_counter() - start
    except Exception as error:  # noqa: BLE001  (whatever Triton raises is what is to be known)
        return f"no: {type(error).__name__}: {str(error).strip().splitlines()[-1] if str(error).strip() else ''}"
    p, s, t = (partial(_defined, [v.double().cpu() for v in block.parameter_list]) for block in blocks)
    x1, x2 = torch.split(x.double().cpu(), [3, 9], dim=1)
    y1 = x1 + p(x2)
    wanted = torch.cat((y1, reference.coupling_forward(x2, s(y1), t(y1))[0]), dim=1)
    wrong = (got.double().cpu() - wanted).norm() / wanted.norm()
    # bfloat16 keeps 8 bits of each feature; NaN is wrong, too
    right = bool(wrong < (1e-2 if dtype in REDUCED else 1e-5))
    return f"yes, in {seconds:.1f} s" if right else f"yes, but they compute wrongly: error {wrong:.1e}"


def _defined(parameters: list[Tensor], x: Tensor) -> Tensor:
    return reference.dense_block(x, parameters[:5], parameters[5:])


@torch.inference_mode()
def launches_of(prepared: Prepared) -> list[Launch]:
    """Every launch of a run of the network over an image, on planes of a few positions; nothing is computed."""
    with recorded() as found:
        for rev, program in prepared.programs.items():
            for side in SIDES:
                first, last = program.levels[0].before, program.levels[-1].after
                if first is not None:
                    _enter(prepared, first, side)
                for level in program.levels:
                    _steps(prepared, level, side)
                    if level.after is not None:
                        level.after((_plane(prepared, side, level.channels),), rev=rev, jac=False)
                if rev and last is not None and last.takes_levels:
                    last.to_levels(_plane(prepared, side, program.levels[-1].channels))
    return found


def _enter(prepared: Prepared, first: Layer, side: int) -> None:
    """The layer that reads the image, as floats and, where it takes them, as grey levels."""
    length = side * factor_of(first)
    image = torch.zeros((1, IMAGE_CHANNELS, length, length), dtype=prepared.trunk_dtype, device=prepared.device)
    for x in (image, image.to(torch.uint8)) if first.takes_levels else (image,):
        first((x,), jac=False)


def _steps(prepared: Prepared, level: Level, side: int) -> None:
    """All steps of a level on planes that lie as in `Window`, of `side` positions and a halo."""
    for step in level.steps:
        planes = {name: _plane(prepared, side + step.halo, channels) for name, channels in level.planes}
        operands: Results = ()
        if step.subnets:
            source = torch.cat([planes[name] for name in step.reads], dim=1)
            operands = prepared.subnets[step.subnets](source, Border(0, step.halo, 0, step.halo))
        changing = [planes[name] for name in step.changes or planes]
        step.run([plane[:, :, :side, :side] for plane in changing], operands)


def _plane(prepared: Prepared, side: int, channels: int) -> Tensor:
    """(1, channels, side, side), channels last."""
    rows = torch.zeros((1, side, side, channels), dtype=prepared.trunk_dtype, device=prepared.device)
    return rows.permute(0, 3, 1, 2)
