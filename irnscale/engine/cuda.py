"""What only CUDA has: graphs of the subnets per shape of tile, uploads that do not wait, and float32 in full.

Written for CUDA and not yet run on one: graphs are off unless `IRNSCALE_CUDA_GRAPHS=1`.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from irnscale.engine.subnets import Border, Results, Subnets

WORTH = 3
"""Times that a shape is run before its graph is made: shapes at the image's borders may never come again."""
MOST_GRAPHS = 4
"""Shapes per step; a graph keeps its buffers."""

Key = tuple[tuple[int, ...], Border]


def wants_graphs(device: torch.device) -> bool:
    """Whether subnets on this device are to be run as graphs."""
    return device.type == "cuda" and os.environ.get("IRNSCALE_CUDA_GRAPHS") == "1"


@dataclass
class Graph:
    """A recorded run: copy into `source`, `replay`, and read `results` before the next graph is replayed."""

    source: Tensor
    results: Results
    replay: Callable[[], Any]


def capture(run: Callable[[Tensor], Results], source: Tensor, pool: Any) -> Graph:
    """Record `run` on a copy of `source`. All graphs of a pool share memory, so they must be replayed in turn."""
    static = source.clone(memory_format=torch.channels_last)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # cuDNN chooses its algorithms, and libraries allocate, outside the graph
        run(static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool):
        results = run(static)
    return Graph(static, results, graph.replay)


class GraphPool:
    """The memory that all graphs of a network share: they are replayed in turn, so by one thread, the first to come."""

    def __init__(self, handle: Any = None) -> None:
        self.handle = handle
        self._owner: int | None = None
        self._lock = threading.Lock()

    def is_mine(self) -> bool:
        """Whether the calling thread may use the graphs."""
        with self._lock:
            self._owner = self._owner or threading.get_ident()
            return self._owner == threading.get_ident()


class GraphedSubnets:
    """Subnets that are recorded once per shape and replayed: one launch instead of dozens.

    A recorded run has one place for its source and one for its results, so another thread than the pool's runs them
    without graphs.
    """

    def __init__(
        self,
        inner: Subnets,
        pool: GraphPool,
        record: Callable[[Callable[[Tensor], Results], Tensor, Any], Graph] = capture,
    ) -> None:
        self._inner, self._pool, self._record = inner, pool, record
        self._seen: Counter[Key] = Counter()
        self._graphs: dict[Key, Graph] = {}

    def __call__(self, source: Tensor, border: Border) -> Results:
        """See `Subnets`."""
        if not self._pool.is_mine():
            return self._inner(source, border)
        key = tuple(source.shape), border
        graph = self._graphs.get(key)
        if graph is None:
            self._seen[key] += 1
            if self._seen[key] <= WORTH or len(self._graphs) >= MOST_GRAPHS:
                return self._inner(source, border)
            graph = self._record(lambda x: self._inner(x, border), source, self._pool.handle)
            self._graphs[key] = graph
        graph.source.copy_(source)
        graph.replay()
        return graph.results


class Upload:
    """Host to device through two pinned buffers in turn, so that the next rows are copied while these are computed."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._buffers: list[Tensor | None] = [None, None]
        self._free = [torch.cuda.Event() for _ in range(2)]  # type: ignore[no-untyped-call]
        self._turn = 0

    def __call__(self, x: Tensor) -> Tensor:
        """`x` on the device; the copy is queued on the current stream."""
        turn, self._turn = self._turn, 1 - self._turn
        self._free[turn].synchronize()  # until the upload before last has left this buffer
        buffer = self._buffers[turn]
        if buffer is None or buffer.numel() < x.numel() or buffer.dtype != x.dtype:
            buffer = self._buffers[turn] = torch.empty(x.numel(), dtype=x.dtype, pin_memory=True)
        pinned = buffer[: x.numel()].view(x.shape)
        pinned.copy_(x)
        result = pinned.to(self._device, non_blocking=True)
        self._free[turn].record()
        return result


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Convolutions of float32 as they are on a CPU: of all threads on CUDA meanwhile, where cuDNN otherwise rounds what
    they multiply to 10 bits (TF32).

    For what is computed forth and back: a flow's subnets see inputs there that differ by rounding.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
