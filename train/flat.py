"""Trained parameters as one vector, and their gradients as another."""

from __future__ import annotations

from itertools import groupby

import torch
from torch import Tensor, nn


class FlatParameters:
    """Those of the `named` parameters that are trained become views of `values`, their gradients of `grads`.

    So clipping, the average over processes, the optimiser and the averaged weights are single operations,
    whatever the number of tensors. Convolution weights come first, those of one shape side by side.
    A module with such parameters must not be moved to another device afterwards; autograd adds to the
    gradients, so `zero_` them before each step.
    """

    def __init__(self, named: dict[str, nn.Parameter]) -> None:
        parameters = [(name, p) for name, p in named.items() if p.requires_grad]
        parameters.sort(key=lambda item: (item[1].ndim != 4, tuple(item[1].shape) if item[1].ndim == 4 else ()))
        self.shapes = {name: p.shape for name, p in parameters}
        self.values = torch.cat([p.detach().flatten() for _, p in parameters])
        self.grads = torch.zeros_like(self.values)
        for p, value, grad in zip(
            (p for _, p in parameters), self.views(self.values).values(), self.views(self.grads).values(), strict=True
        ):
            p.data, p.grad = value, grad
        self.matrices = sum(p.numel() for _, p in parameters if p.ndim == 4)

    def views(self, vector: Tensor, prefix: str = "") -> dict[str, Tensor]:
        """The part of each parameter in a vector laid out like `values`, by prefix and name."""
        sizes = [shape.numel() for shape in self.shapes.values()]
        parts = zip(self.shapes.items(), torch.split(vector, sizes), strict=True)
        return {prefix + name: part.view(shape) for (name, shape), part in parts}

    def stacks(self, vector: Tensor) -> list[Tensor]:
        """The convolution weights in a vector laid out like `values`: (count, out, in * 9) for each shape."""
        stacks, start = [], 0
        for shape, same in groupby(shape for shape in self.shapes.values() if len(shape) == 4):
            count = len(list(same))
            end = start + count * shape.numel()
            stacks.append(vector[start:end].view(count, shape[0], -1))
            start = end
        return stacks
