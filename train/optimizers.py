"""The optimisers, on flat vectors, with a step that the device can skip by itself."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from irnscale.train.flat import FlatParameters
from irnscale.train.groups import Optim

MUON_MOMENTUM = 0.95
BIAS_RATE = 7e-4
"""What Muon leaves to Adam is updated at most at this rate."""


class Optimizer(Protocol):
    """One update of all parameters, and a state that can be stored."""

    state: dict[str, Tensor]
    """Vectors laid out like the parameters, or scalars."""

    def step(self, rate: Tensor, good: Tensor) -> None:
        """Update with the gradients in place; nothing changes where the scalar `good` is 0 rather than 1."""


def make_optimizer(optim: Optim, parameters: FlatParameters, undecayed: Collection[str] = ()) -> Optimizer:
    """The optimiser that `optim` names. undecayed: parameters that "adamw" leaves without weight decay."""
    if optim.optimizer == "adamw":
        return AdamW(optim, parameters, undecayed)
    return Muon(optim, parameters) if optim.optimizer == "muon" else Adam(optim, parameters)


class Adam:
    """torch's fused Adam with L2 weight decay, on the parameters from `start` on.

    `step` counts the updates that were made. Source: Kingma and Ba 2015; dissertation, table 3.2.
    """

    def __init__(self, optim: Optim, parameters: FlatParameters, start: int = 0) -> None:
        vector = parameters.values[start:]
        vector.grad = parameters.grads[start:]
        self._torch = torch.optim.Adam(
            [vector],
            lr=torch.tensor(optim.initial_lr, device=vector.device),
            betas=(optim.beta1, optim.beta2),
            weight_decay=optim.weight_decay,
            fused=True,
            capturable=vector.device.type == "cuda",
        )
        full = {name: torch.zeros_like(parameters.values) for name in ("exp_avg", "exp_avg_sq")}
        self.state = full | {"step": torch.zeros((), device=vector.device)}
        self._torch.state[vector] = {"step": self.state["step"]} | {k: v[start:] for k, v in full.items()}

    def step(self, rate: Tensor, good: Tensor) -> None:
        """See `Optimizer`."""
        self._torch.param_groups[0]["lr"].copy_(rate)
        self._torch.found_inf = 1 - good  # type: ignore[attr-defined] # what torch.amp.GradScaler sets
        self._torch.step()


class AdamW:
    """Adam with decoupled weight decay, but of the parameters `undecayed`. Source: Loshchilov and Hutter 2019."""

    def __init__(self, optim: Optim, parameters: FlatParameters, undecayed: Collection[str] = ()) -> None:
        self._adam = Adam(replace(optim, weight_decay=0.0), parameters)
        self._values, self.state = parameters.values, self._adam.state
        self._decay = torch.full_like(parameters.values, optim.weight_decay)
        for name, part in parameters.views(self._decay).items():
            if name in undecayed:
                part.zero_()

    def step(self, rate: Tensor, good: Tensor) -> None:
        """See `Optimizer`."""
        self._values.sub_(self._values * self._decay * (rate * good))
        self._adam.step(rate, good)


class Muon:
    """Orthogonalised momentum for the convolution weights, Adam for the rest.

    Each weight is a matrix (out, in * 9); the update is Nesterov momentum whose singular values are brought
    near 1 by five Newton-Schulz steps, times 0.2 sqrt(max(rows, columns)), so that its RMS is that of a
    usual Adam update. weight_decay is L2. Source: Jordan et al. 2024 (the iteration and its coefficients); Liu et al.
    2025 (the scale).
    """

    def __init__(self, optim: Optim, parameters: FlatParameters) -> None:
        self._parameters = parameters
        self._adam = Adam(optim, parameters, start=parameters.matrices)
        self._momentum = torch.zeros_like(parameters.values)
        self._bias_share = min(1.0, BIAS_RATE / optim.initial_lr)
        self._decay = optim.weight_decay
        self.state = self._adam.state | {"momentum": self._momentum}

    def step(self, rate: Tensor, good: Tensor) -> None:
        """See `Optimizer`."""
        self._adam.step(rate * self._bias_share, good)
        vectors = (self._parameters.values, self._parameters.grads, self._momentum)
        for weights, grads, momentum in zip(*map(self._parameters.stacks, vectors), strict=True):
            grads = torch.where(good > 0, grads, 0.0)
            if self._decay:
                grads = grads.add(weights, alpha=self._decay)
            momentum.lerp_(grads, (1 - MUON_MOMENTUM) * good)
            direction = orthogonalise(grads.lerp(momentum, MUON_MOMENTUM))
            size = 0.2 * max(weights.shape[-2:]) ** 0.5
            weights.sub_(direction * (rate * good * size))


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """(count, rows, columns) -> the same with all singular values near 1, by Newton-Schulz iterations."""
    x: Tensor = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        a = x @ x.mT
        b = -4.7750 * a + 2.0315 * (a @ a)
        x = 3.4445 * x + b @ x
    return x.mT if tall else x


def optimizer_tensors(optimizer: Optimizer, parameters: FlatParameters) -> dict[str, Tensor]:
    """The state by "vector.parameter", and its scalars by name, for a checkpoint."""
    tensors: dict[str, Tensor] = {}
    for name, value in optimizer.state.items():
        tensors |= parameters.views(value, f"{name}.") if value.ndim else {name: value}
    return tensors
