"""Speed of each Triton kernel beside eager torch, a plain copy and, if asked for, `torch.compile`, on a CUDA device.

An operation whose result is wrong in this very run gets no times. Bandwidth counts each operand once, read or
written; the copy that it is compared with moves as much in the same run, just before.
"""

from __future__ import annotations

import csv
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from typing import Any

import torch
from torch import Tensor

from irnscale import kernels
from irnscale.errors import DeviceError
from irnscale.kernels import philox_reference, reference

TOLERANCE = {torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}
SIZES = {"4K": (2160, 3840), "tile 512": (512, 512)}
"""Height and width of the photograph; the operations run at the first level of the network on it."""
DENSE = {"tile 512": 522, "tile 128": 138}
"""Side of what one dense block reads for a tile: its positions and a halo of five."""
SECONDS = 55
"""After so many no other operation is begun."""
BLOCKS = ((9, 3), (3, 9), (45, 3), (3, 45))
"""Channels in and out of the dense blocks of IRN x4: p, and s or t, of both levels."""


@dataclass(frozen=True)
class Case:
    """One operation on one size: how to run it, its definition, and what it moves at least."""

    operation: str
    size: str
    dtype: torch.dtype
    layout: str
    run: Callable[..., Any]
    definition: Callable[..., Any]
    operands: tuple[Tensor, ...]
    moved: int
    backward_of: Callable[..., Tensor] | None = None
    """For a backward pass, which is prepared from its operands: the definition of its forward."""
    roundings: int = 1
    """How many times the largest error of a single rounding is allowed: intermediate results are stored."""


@dataclass(frozen=True)
class KernelTiming:
    """One line of the table; times in milliseconds, None where the result was wrong."""

    operation: str
    size: str
    dtype: str
    layout: str
    error: float
    correct: bool
    p20_ms: float | None = None
    p50_ms: float | None = None
    p80_ms: float | None = None
    gb_per_s: float | None = None
    of_copy: float | None = None
    to_eager: float | None = None
    to_compiled: float | None = None
    peak_mib: float | None = None
    gpu: str = ""
    driver: str = ""
    torch: str = ""
    triton: str = ""


def _nbytes(*tensors: Tensor) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _gradient_of(step: Callable[..., Tensor], operands: tuple[Tensor, ...]) -> Callable[..., Any]:
    """The backward pass of `step` alone, its graph kept."""
    leaves = tuple(v.detach().requires_grad_() for v in operands[:-1])
    y = step(*leaves)
    return lambda *_: torch.autograd.grad(y, leaves, operands[-1], retain_graph=True)


def _cases(device: torch.device) -> Iterator[Case]:
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    for size, side in DENSE.items():
        for channels, out in BLOCKS:
            yield _dense_block_case(device, size, side, channels, out)
    for size, (height, width) in SIZES.items():
        for dtype in (torch.float32, torch.bfloat16):
            for layout, memory in layouts.items():

                def image(channels: int, shrink: int, memory: Any = memory, dtype: Any = dtype) -> Tensor:
                    shape = (1, channels, height // shrink, width // shrink)  # noqa: B023
                    return torch.randn(shape, device=device).to(dtype, memory_format=memory)

                def case(name: str, run: Any, definition: Any, *operands: Tensor, moved: int, **more: Any) -> Case:
                    return Case(name, size, dtype, layout, run, definition, operands, moved, **more)  # noqa: B023

                hr, bands = image(3, 1), image(12, 2)
                x, s, t, g, lr = (*(image(9, 2) for _ in range(4)), image(3, 2))
                yield case("haar_forward", kernels.haar_forward, reference.haar_forward, hr, moved=2 * _nbytes(hr))
                yield case(
                    "haar_inverse", kernels.haar_inverse, reference.haar_inverse, bands, moved=2 * _nbytes(bands)
                )
                yield case(
                    "coupling_forward",
                    lambda *v: kernels.coupling_forward(*v)[0],
                    lambda *v: reference.coupling_forward(*v)[0],
                    *(x, s, t),
                    moved=4 * _nbytes(x),
                )
                yield case(
                    "coupling_inverse",
                    lambda *v: kernels.coupling_inverse(*v)[0],
                    lambda *v: reference.coupling_inverse(*v)[0],
                    *(x, s, t),
                    moved=4 * _nbytes(x),
                )
                yield case(
                    "coupling_forward_backward",
                    _gradient_of(lambda *v: kernels.coupling_forward(*v)[0], (x, s, t, g)),
                    _gradient_of(lambda *v: reference.coupling_forward(*v)[0], (x, s, t, g)),
                    *(x, s, t, g),
                    moved=5 * _nbytes(x),
                    backward_of=lambda *v: reference.coupling_forward(*v)[0],
                )
                if layout == "channels_last" and dtype == torch.bfloat16:
                    yield _coupling_as_used(device, size, 9, (height // 2, width // 2))
                    yield _coupling_as_used(device, size, 45, (height // 4, width // 4))
                yield case(
                    "additive_forward",
                    kernels.additive_forward,
                    reference.additive_forward,
                    lr,
                    lr,
                    moved=3 * _nbytes(lr),
                )
                yield case("quantize", kernels.quantize, reference.quantize, lr, moved=2 * _nbytes(lr))
                features, bias = image(32, 2), torch.randn(32, device=device, dtype=dtype)
                buffer = image(9 + 128, 2)
                yield case(
                    "bias_lrelu_into",
                    lambda v, b, out: kernels.bias_lrelu_into(v, b, out, 9),
                    lambda v, b, out: reference.bias_lrelu_into(v, b, out, 9),
                    *(features, bias, buffer),
                    moved=2 * _nbytes(features),
                )
        shape = (1, 9, height // 2, width // 2)
        empty = torch.empty(shape, device=device)
        yield Case(
            "philox_normal",
            size,
            torch.float32,
            "contiguous",
            lambda _, shape=shape: kernels.philox_normal(shape, seed=1, device=device),
            lambda _, shape=shape: philox_reference.philox_normal(shape, seed=1, device=device),
            (empty,),
            _nbytes(empty),
        )


def _coupling_as_used(device: torch.device, size: str, channels: int, sides: tuple[int, int]) -> Case:
    """The engine's: a float32 state, s and t as the dense block's kernels leave them, slices of padded buffers."""

    def image(channels: int, dtype: torch.dtype) -> Tensor:
        return torch.randn(1, channels, *sides, device=device).to(dtype, memory_format=torch.channels_last)

    x = image(channels, torch.float32)
    s, t = (image(-(-channels // 16) * 16, torch.bfloat16)[:, :channels] for _ in range(2))
    return Case(
        f"coupling_forward {channels} sliced",
        size,
        torch.float32,
        "channels_last",
        lambda *v: kernels.coupling_forward(*v)[0],
        lambda *v: reference.coupling_forward(*v)[0],
        (x, s, t),
        2 * _nbytes(x) + _nbytes(s, t),
    )


def _dense_block_case(device: torch.device, size: str, side: int, channels: int, out: int) -> Case:
    """p alone, or s and t together, with weights packed before, beside the definition, which is cuDNN's on CUDA."""
    options: dict[str, Any] = {"device": device, "dtype": torch.bfloat16}
    outs = [32] * 4 + [out]
    inputs = [channels + 32 * k for k in range(5)]
    blocks = []
    for _ in range(1 if channels > out else 2):
        weights = [
            torch.randn(o, i, 3, 3, **options).div_(3 * i**0.5).contiguous(memory_format=torch.channels_last)
            for o, i in zip(outs, inputs, strict=True)
        ]
        blocks.append([*weights, *(torch.randn(o, **options) for o in outs)])
    x = torch.randn(1, channels, side, side, **options).contiguous(memory_format=torch.channels_last)
    packed = kernels.DenseWeights.pack(blocks, torch.bfloat16)

    def definition(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        each = [parameters[10 * k : 10 * (k + 1)] for k in range(len(blocks))]
        return tuple(reference.dense_block(x, p[:5], p[5:]) for p in each)

    operands = (x, *(p for block in blocks for p in block))
    return Case(
        f"dense_block {channels}->{out}{' x2' if len(blocks) > 1 else ''}",
        size,
        torch.bfloat16,
        "channels_last",
        lambda x, *_: tuple(packed(x)),
        definition,
        operands,
        _nbytes(*operands) + len(blocks) * x.element_size() * out * side * side,
        roundings=2,
    )


def _error(case: Case) -> float:
    """RMS(error) / RMS(definition), the largest over everything that the operation returns."""
    # Rounding jumps, so its definition computes in float32 as the kernel does; the others in float64.
    dtype = torch.float32 if case.operation == "quantize" else torch.float64
    exact = tuple(v.to(dtype) for v in case.operands)
    definition = _gradient_of(case.backward_of, exact) if case.backward_of else case.definition
    got, wanted = case.run(*case.operands), definition(*exact)
    if isinstance(got, Tensor):
        got, wanted = (got,), (wanted,)
    worst = 0.0
    for g, w in zip(got, wanted, strict=True):
        error = (g.double() - w.double()).square().mean().sqrt() / w.double().square().mean().sqrt()
        # NaN compares false with everything: it must not look like a small error.
        worst = max(worst, error.item() if torch.isfinite(error) else float("inf"))
    return worst


def _quantiles(call: Callable[[], Any]) -> tuple[float, float, float]:
    """p20, p50, p80 in milliseconds, the cache flushed before each call."""
    from triton.testing import do_bench

    p20, p50, p80 = do_bench(call, quantiles=[0.2, 0.5, 0.8])
    return p20, p50, p80


def _measure(case: Case, provenance: dict[str, str], compiling: bool) -> KernelTiming:
    row = {
        "operation": case.operation,
        "size": case.size,
        "dtype": str(case.dtype).removeprefix("torch."),
        "layout": case.layout,
        **provenance,
    }
    error = _error(case)
    if not error <= case.roundings * TOLERANCE[case.dtype]:
        return KernelTiming(error=error, correct=False, **row)  # type: ignore[arg-type]
    source = torch.empty(max(case.moved // 2, 1), dtype=torch.uint8, device=case.operands[0].device)
    target = torch.empty_like(source)
    _, copy_ms, _ = _quantiles(lambda: target.copy_(source))
    torch.cuda.reset_peak_memory_stats()
    p20, p50, p80 = _quantiles(lambda: case.run(*case.operands))
    peak = torch.cuda.max_memory_allocated() / 2**20
    _, eager, _ = _quantiles(lambda: case.definition(*case.operands))
    compiled = None
    # A prepared backward pass is already a graph of its own; the compiler has nothing to compile there.
    if compiling and not case.backward_of:
        optimised = torch.compile(case.definition, dynamic=False)
        compiled = _quantiles(lambda: optimised(*case.operands))[1] / p50
    return KernelTiming(
        error=error,
        correct=True,
        p20_ms=p20,
        p50_ms=p50,
        p80_ms=p80,
        gb_per_s=case.moved / p50 / 1e6,
        of_copy=copy_ms / p50,
        to_eager=eager / p50,
        to_compiled=compiled,
        peak_mib=peak,
        **row,
    )


def _provenance() -> dict[str, str]:
    import triton

    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split("\n")[0]
    except OSError:
        driver = "unknown"
    gpu = torch.cuda.get_device_name()
    return {"gpu": gpu, "driver": driver, "torch": torch.__version__, "triton": triton.__version__}


def _line(row: KernelTiming) -> str:
    what = f"{row.operation:26}{row.size:10}{row.dtype:10}{row.layout:15}"
    if not row.correct:
        return f"{what}WRONG (error {row.error:.1e}): not timed"
    compiled = "    -" if row.to_compiled is None else f"{row.to_compiled:5.2f}"
    return (
        f"{what}{row.p20_ms:8.4f}{row.p50_ms:8.4f}{row.p80_ms:8.4f}{row.gb_per_s:8.0f}"
        f"{row.of_copy:7.0%}{row.to_eager:7.2f}  {compiled}"
    )


def measure(
    say: Callable[[str], object],
    keep: Callable[[list[KernelTiming]], object] = lambda rows: None,
    *,
    compiling: bool = False,
) -> list[KernelTiming]:
    """Every operation in turn, as many as SECONDS are enough for; what dense blocks take comes first.

    `say` is given each line of the table as it is measured, and `keep` all rows so far. compiling: beside torch.compile
    too, which takes seconds for each. Raises DeviceError on a CPU.
    """
    if not torch.cuda.is_available():
        raise DeviceError("irnscale bench kernels needs a CUDA device", "on a CPU, try: irnscale bench")
    if not kernels.triton_available():
        raise DeviceError("irnscale bench kernels needs triton", "pip install triton")
    if kernels.mode() == "torch":
        raise DeviceError("IRNSCALE_KERNELS=torch leaves no kernel to measure", "unset it")
    # Our kernels say at each launch whether multiply-adds are fused; for those of torch.compile it stays as it was.
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    provenance = _provenance()
    say(f"{provenance['gpu']}, torch {provenance['torch']}, triton {provenance['triton']}")
    say(f"{'operation':26}{'size':10}{'dtype':10}{'layout':15}  p20 ms  p50 ms  p80 ms    GB/s   copy  eager  compile")
    rows = []
    start = time.monotonic()
    for case in _cases(torch.device("cuda")):
        if time.monotonic() - start > SECONDS:
            say(f"{SECONDS} seconds have passed: {case.operation}, {case.size}, and what comes after it are left out")
            break
        rows.append(_measure(case, provenance, compiling))
        say(_line(rows[-1]))
        keep(rows)
    return rows


def as_csv(rows: Sequence[KernelTiming]) -> str:
    """All fields of all rows, under their names."""
    file = StringIO(newline="")
    writer = csv.DictWriter(file, [f.name for f in fields(KernelTiming)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return file.getvalue()
