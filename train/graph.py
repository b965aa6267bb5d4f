"""A training step as one CUDA graph: some 3,000 kernels are launched by one call.

Not yet run on a GPU by the author of these lines; everything it needs is in this file.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Step = Callable[[tuple[Tensor, ...], Tensors], Tensors]
WARM_UP = 3


class GraphedStep:
    """`step` recorded at its first call and replayed at the others; all calls need the same shapes.

    `step` must do everything on the device: it may not look at a value, and what it changes must be the
    tensors `mutable`, in place. Recording runs it a few times first, so that libraries set themselves up;
    `mutable` is put back afterwards, and the first call counts once like any other.
    """

    def __init__(self, step: Step, mutable: list[Tensor]) -> None:
        self._step, self._mutable = step, mutable
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: Tensors = {}
        self._outputs: Tensors = {}

    def __call__(self, batch: tuple[Tensor, ...], draws: Tensors) -> Tensors:
        """One step. The result is copied, so that the next replay does not overwrite it."""
        given = {f"{n}": value for n, value in enumerate(batch)} | {f"draw.{name}": v for name, v in draws.items()}
        if self._graph is None:
            self._inputs = {name: value.clone() for name, value in given.items()}
            self._record()
        for name, value in given.items():
            self._inputs[name].copy_(value, non_blocking=True)
        assert self._graph is not None
        self._graph.replay()
        return {name: value.clone() for name, value in self._outputs.items()}

    def _run(self) -> Tensors:
        draws = {name.removeprefix("draw."): value for name, value in self._inputs.items() if "." in name}
        return self._step(tuple(value for name, value in self._inputs.items() if "." not in name), draws)

    def _record(self) -> None:
        before = [tensor.clone() for tensor in self._mutable]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):  # the default stream cannot be captured
            for _ in range(WARM_UP):
                self._run()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._outputs = self._run()
        for tensor, value in zip(self._mutable, before, strict=True):
            tensor.copy_(value)
