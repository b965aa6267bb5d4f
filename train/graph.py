"""A training step as one CUDA graph: some 3,000 kernels, forward, backward, clipping, optimiser and averages, are
launched by one call.

Off by default (`cuda_graph` in a recipe): steps with cuDNN's convolutions have run so on an H100, those with the dense
block's own kernels have not been recorded on a device yet. `kernels/measure.sh` times both.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Step = Callable[[tuple[Tensor, ...], Tensors], Tensors]
Capture = Callable[[Callable[[], Tensors]], tuple[Tensors, Callable[[], object]]]
"""Records a call: the tensors that it returns, and what does it again, into these tensors. It may do it before, too."""
WARM_UP = 3
"""Times that a step is run before it is recorded: libraries choose their algorithms and allocate outside the graph."""


def capture(run: Callable[[], Tensors]) -> tuple[Tensors, Callable[[], object]]:
    """A CUDA graph of `run`. No gradient graph from before may be alive: its nodes belong to the stream of then."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # the default stream cannot be captured
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run()
    return outputs, graph.replay


class GraphedStep:
    """`step` recorded at its first call and replayed at the others; all calls need the same shapes.

    `step` must do everything on the device: it may not look at a value, and what it changes must be the
    tensors `mutable`, in place. Recording runs it a few times first, so that libraries set themselves up;
    `mutable` is put back afterwards, and the first call counts once like any other.
    """

    def __init__(self, step: Step, mutable: list[Tensor], record: Capture = capture) -> None:
        self._step, self._mutable, self._capture = step, mutable, record
        self._replay: Callable[[], object] | None = None
        self._inputs: Tensors = {}
        self._outputs: Tensors = {}

    def __call__(self, batch: tuple[Tensor, ...], draws: Tensors) -> Tensors:
        """One step. The result is copied, so that the next replay does not overwrite it."""
        given = {f"{n}": value for n, value in enumerate(batch)} | {f"draw.{name}": v for name, v in draws.items()}
        if self._replay is None:
            self._inputs = {name: value.clone() for name, value in given.items()}
            self._record()
        for name, value in given.items():
            self._inputs[name].copy_(value, non_blocking=True)
        assert self._replay is not None
        self._replay()
        return {name: value.clone() for name, value in self._outputs.items()}

    def _run(self) -> Tensors:
        draws = {name.removeprefix("draw."): value for name, value in self._inputs.items() if "." in name}
        return self._step(tuple(value for name, value in self._inputs.items() if "." not in name), draws)

    def _record(self) -> None:
        before = [tensor.clone() for tensor in self._mutable]
        self._outputs, self._replay = self._capture(self._run)
        for tensor, value in zip(self._mutable, before, strict=True):
            tensor.copy_(value)
