"""Several processes as one run, started by torchrun: who does what, and how they agree."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module

import torch
import torch.distributed as dist
from torch import Tensor

from irnscale.errors import UsageError


@dataclass(frozen=True)
class World:
    """This process among `size`; each computes its part of every batch and holds the same weights."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this process writes, validates and talks."""
        return self.rank == 0

    def rows(self, batch: int, accumulate: int = 1) -> slice:
        """This process's crops of a batch. Raises UsageError where they cannot be shared out equally."""
        if batch % (self.size * accumulate):
            raise UsageError(f"batch_size={batch} is not divisible by {self.size} processes x accumulate={accumulate}")
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def sum_(self, tensor: Tensor) -> None:
        """Add up over the processes, in place, on the device."""
        if self.size > 1:
            dist.all_reduce(tensor)

    def gather(self, tensor: Tensor) -> Tensor:
        """(..., n) of every process -> (..., n * size), by rank, on the device."""
        if self.size == 1:
            return tensor
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(parts, tensor.contiguous())
        return torch.cat(parts, dim=-1)

    def agree(self, values: Sequence[float]) -> list[float]:
        """The largest of each number over the processes; between the hosts, the device goes on."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        return numbers.tolist()

    def same(self, text: str) -> str:
        """What process 0 gave as `text`, in every process."""
        if self.size == 1:
            return text
        box = [text]
        dist.broadcast_object_list(box, device=torch.device("cpu"))
        return box[0]


@contextmanager
def join(device: torch.device) -> Iterator[World]:
    """The world that torchrun set up in the environment, or one of a single process."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # Its functions have the world as it is at import for their default, and importing it (which an optimizer's first
    # step does) would keep the group, and gloo's threads, until the interpreter ends: which it then does by abort.
    import_module("torch.distributed.nn")
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(device, dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
