"""All variants of kernels that something needs, compiled beside one another before the first of them is launched.

Triton compiles a kernel when it is first launched, a second or two each, one after the other; a network has dozens of
variants. So what is going to be run is run once with its launches `recorded` instead of made, and `compile_all` gives
them to Triton from several threads, which leaves the interpreter free while it works. Triton keeps the results, in this
process and on disk, under the same keys that the launches have.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from inspect import signature
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

_recorded: ContextVar[list[Launch] | None] = ContextVar("recorded launches", default=None)


class Operand:
    """Stands for a tensor in a launch that is only compiled: what Triton looks at, and no memory."""

    def __init__(self, x: Tensor) -> None:
        self.dtype, self.shape = x.dtype, x.shape
        self._address, self._size = x.data_ptr(), x.untyped_storage().nbytes()

    def data_ptr(self) -> int:
        """The tensor's address, for its alignment."""
        return self._address

    def ptr_range(self) -> int:
        """Bytes of the storage that the tensor lies in."""
        return self._size


@dataclass(frozen=True)
class Launch:
    """A kernel and what it was to be launched with, tensors as `Operand`."""

    kernel: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def variant(self) -> tuple[Any, ...]:
        """The same for launches of which one is enough: types, and what is known when the kernel is compiled."""
        blind = [p.do_not_specialize_on_alignment for p in getattr(self.kernel, "params", ())]
        given = zip_longest(self.arguments, blind[: len(self.arguments)], fillvalue=True)  # none where interpreted
        constant = [p.annotation == "tl.constexpr" for p in signature(self.kernel.fn).parameters.values()]
        kinds = tuple(
            value if known else _kind(value, not hidden)
            for (value, hidden), known in zip(given, constant[: len(self.arguments)], strict=True)
        )
        return self.kernel, kinds, tuple((name, str(value)) for name, value in sorted(self.options.items()))

    def compile(self, device: torch.device) -> None:
        """Have Triton compile it for `device`, or find that it has been."""
        with torch.cuda.device(device):
            self.kernel.warmup(*self.arguments, grid=(1,), **self.options)


def _kind(value: Any, addresses: bool) -> Any:
    if isinstance(value, Operand):
        return value.dtype, addresses and value.data_ptr() % 16 == 0
    if isinstance(value, tuple):
        return tuple(_kind(v, addresses) for v in value)
    return value if isinstance(value, bool) else -(2**31) <= value < 2**31


def launch(kernel: Any, grid: Sequence[int], *arguments: Any, **options: Any) -> None:
    """Launch a Triton kernel on the current device, or record that it would have been."""
    found = _recorded.get()
    if found is None:
        kernel[grid](*arguments, **options)
    else:
        found.append(Launch(kernel, tuple(Operand(v) if isinstance(v, Tensor) else v for v in arguments), options))


def is_recording() -> bool:
    """Whether launches of this thread are recorded: then an operation may make one for each shape of programs."""
    return _recorded.get() is not None


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """Launches that this thread would make go into the list; what they were to write stays as it is, undefined."""
    found: list[Launch] = []
    token = _recorded.set(found)
    try:
        yield found
    finally:
        _recorded.reset(token)


@dataclass(frozen=True)
class Compiled:
    """How many variants of kernels were compiled or found in Triton's cache, and the seconds that it took."""

    variants: int
    seconds: float

    def describe(self) -> str:
        """One line for people: how many, and how long it took."""
        return f"kernels: {self.variants} variants ready after {self.seconds:.1f} s"


def compile_all(launches: Iterable[Launch], device: torch.device, workers: int | None = None) -> Compiled:
    """Compile each variant once, on `workers` threads (None: as many as there are processors, at most 16)."""
    start = time.perf_counter()
    variants = list({launch.variant: launch for launch in launches}.values())
    with ThreadPoolExecutor(workers or min(16, os.cpu_count() or 1)) as pool:
        for _ in pool.map(lambda one: one.compile(device), variants):
            pass
    return Compiled(len(variants), time.perf_counter() - start)
