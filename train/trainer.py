"""The training step, and a run's state: weights, averaged weights, optimiser, position in the budget."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from irnscale.engine.precision import choose_precision
from irnscale.errors import ModelError, UsageError
from irnscale.networks.network import Flow
from irnscale.train.checkpoints import (
    checkpoints,
    find_run,
    load_optimizer_tensors,
    load_sharded,
    load_state,
    save_checkpoint,
)
from irnscale.train.config import Recipe
from irnscale.train.flat import FlatParameters
from irnscale.train.graph import GraphedStep
from irnscale.train.initial import initialise_weights, load_initial
from irnscale.train.objective import Draws, Objective, draw, objective_of
from irnscale.train.optimizers import make_optimizer, optimizer_tensors
from irnscale.train.parallel import World
from irnscale.train.reversible import through_inverses
from irnscale.train.schedules import ema_decay
from irnscale.train.timing import Stopwatch


class Trainer:
    """One run; `out` is its folder. With `resume` it goes on from the newest checkpoint there, or from that of
    the run so named.

    Raises UsageError where `out` holds a run and `resume` is not given or the recipe differs from the run's
    network, ModelError for a damaged checkpoint or an `init` that does not fit.
    """

    def __init__(
        self, recipe: Recipe, *, out: Path, device: torch.device, resume: bool | str = False, world: World | None = None
    ) -> None:
        self.recipe, self.device = recipe, device
        self.out = find_run(resume, out) if isinstance(resume, str) else out
        self.world = world or World(device)
        self.rows = self.world.rows(recipe.batch_size, recipe.accumulate)
        torch.manual_seed(recipe.seed)
        self.objective = objective_of(recipe).to(device)
        self.net = self.objective.net
        self.step, self.epoch, self.seconds, self.bad_steps = 0, 0.0, 0.0, 0
        self.recent_loss: float | None = None
        self.run_id = self.world.same(secrets.token_hex(4))
        self.clock = Stopwatch()
        self.starts_from_data = True
        """Whether a run from its first step on takes something from the first batch, see `prepare`."""
        found = checkpoints(self.out)
        if found and not resume:
            raise UsageError(f"{self.out} already holds a run", "add --resume to go on, or choose another --out")
        if not found and recipe.init:
            self.starts_from_data = not load_initial(self.net, recipe.init)
        elif not found:
            initialise_weights(self.net, recipe.initialisation, recipe.zero_last)
        precision = choose_precision(recipe.precision, device)
        self.net.set_compute_dtype(precision)
        if recipe.save_memory:
            if not isinstance(self.net, Flow) or not self.net.reversible:
                raise UsageError("save_memory=true: only an IRN's activations can be recomputed", "leave it out")
            self.net.through = through_inverses
        self.parameters = FlatParameters({_name(key): p for key, p in self.objective.named_parameters()})
        self.average = self.parameters.values.clone()
        self.optimizer = make_optimizer(recipe, self.parameters)
        self._rate = torch.zeros((), device=device)
        self._pull = torch.zeros((), device=device)
        self.bad = torch.zeros(2, device=device)
        """How many steps were skipped for a non-finite loss or gradient: in all, and in a row up to now."""
        if found:
            self._load(found[-1])
        graph = recipe.cuda_graph and device.type == "cuda" and self.objective.graphable
        self._advance = GraphedStep(self._compute, self._mutable()) if graph else self._compute

    def train_step(
        self, hr: Tensor, lr_reference: Tensor, rate: float, epochs: float = 0.0, fraction: float = 1.0
    ) -> dict[str, Tensor]:
        """One update from this process's crops of the batch; the host does not wait for the device.

        Returns 0-dim tensors "loss", its terms and "grad_norm", and "losses", the loss of each crop of the
        whole batch. A step with a non-finite loss or gradient changes nothing and is counted in `bad`.
        """
        count = hr.shape[0] * self.world.size
        mine = slice(self.world.rank * hr.shape[0], (self.world.rank + 1) * hr.shape[0])
        draws = draw(self.recipe, count, step=self.step, epochs=epochs, fraction=fraction, device=self.device)
        self.step += 1
        self._rate.fill_(rate)
        self._pull.fill_(1 - ema_decay(self.recipe, self.step))
        return self._advance(hr, lr_reference, {name: value[mine] for name, value in draws.items()})

    def _compute(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        """The step on the device: every value stays there, so that all of it can be one CUDA graph."""
        recipe, grads = self.recipe, self.parameters.grads
        count = hr.shape[0] * self.world.size
        self.objective.train()
        grads.zero_()
        pieces = []
        size = hr.shape[0] // recipe.accumulate
        for start in range(0, hr.shape[0], size):
            part = slice(start, start + size)
            with self.clock("forward"):
                terms = self.objective(hr[part], lr_reference[part], {name: v[part] for name, v in draws.items()})
            with self.clock("backward"):
                (terms["loss"].sum() / count).backward()
            pieces.append(torch.stack([term.detach() for term in terms.values()]))
        with self.clock("update"):
            per_crop = self.world.gather(torch.cat(pieces, dim=1))
            self.world.sum_(grads)
            if recipe.clip_value_max_g is not None:
                grads.clamp_(-recipe.clip_value_max_g, recipe.clip_value_max_g)
            norm = grads.norm()
            grads.mul_((recipe.clip_norm_max_g / (norm + 1e-6)).clamp(max=1))
            record = dict(zip(terms, per_crop.mean(dim=1), strict=True))
            good = (norm.isfinite() & record["loss"].isfinite()).float()
            self.optimizer.step(self._rate, good)
            self.average.lerp_(self.parameters.values, self._pull * good)
            self.bad.add_(1 - good)
            self.bad[1].mul_(1 - good)
        return record | {"grad_norm": norm, "losses": per_crop[list(terms).index("loss")]}

    def prepare(self, hr: Tensor) -> None:
        """Set what the objective takes from data, before the first step; `hr`: the whole first batch."""
        self.objective.initialise(hr)
        self.average.copy_(self.parameters.values)

    @contextmanager
    def averaged(self) -> Iterator[Objective]:
        """The objective in evaluation mode, with the averaged weights in place of the current ones."""
        current = self.parameters.values.clone()
        self.parameters.values.copy_(self.average)
        self.objective.eval()
        try:
            yield self.objective
        finally:
            self.parameters.values.copy_(current)
            self.objective.train()

    def count_bad(self) -> int:
        """Read `bad` into `bad_steps`; returns the number in a row. Waits for the device."""
        total, in_a_row = (int(n) for n in self.bad.tolist())
        self.bad_steps = total
        return in_a_row

    def weights(self) -> dict[str, Tensor]:
        """Everything that the objective stores, live."""
        return {_name(key): value for key, value in self.objective.state_dict().items()}

    def save(self) -> Path:
        """Write a checkpoint now. Raises OutputError."""
        self.count_bad()
        with self.averaged():
            averaged = {name: value.clone() for name, value in self.weights().items()}
        return save_checkpoint(
            self.out,
            weights=self.weights(),
            ema=averaged,
            optimizer=optimizer_tensors(self.optimizer, self.parameters),
            compact=self.recipe.checkpoint_compact,
            state={
                "step": self.step,
                "epoch": self.epoch,
                "recent_loss": self.recent_loss,
                "seconds": self.seconds,
                "bad_steps": self.bad_steps,
                "run_id": self.run_id,
                "base_digest": self.objective.base_digest,
                "recipe": self.recipe.to_dict(),
            },
        )

    def _mutable(self) -> list[Tensor]:
        """All that a step changes."""
        return [self.parameters.values, self.average, self.bad, *self.optimizer.state.values()]

    def _load(self, checkpoint: Path) -> None:
        state = load_state(checkpoint)
        usual = type(self.net.config)().to_dict()  # what older versions, which had no such key, trained
        recorded = state["recipe"] | state["recipe"].get("network", {})
        for key, value in self.net.config.to_dict().items():
            if (trained := recorded.get(key, usual[key])) != value:
                raise UsageError(
                    f"{checkpoint}: was trained with {key}={trained}, the recipe says {value}",
                    f"resume with {key}={trained}, or choose another --out",
                )
        own = self.objective.base_digest
        if (trained := state.get("base_digest", own)) != own:
            raise UsageError(
                f"{checkpoint}: was trained on a frozen model {trained}, the recipe's is {own}",
                "resume with the assistant_of and the weights that it was trained with",
            )
        if (trained := state["recipe"].get("optimizer", "adam")) != self.recipe.optimizer:
            raise UsageError(f"{checkpoint}: was trained with optimizer={trained}", f"resume with optimizer={trained}")
        try:
            self._load_tensors(checkpoint, state)
        except ModelError as error:
            raise ModelError(f"{checkpoint}: {error.what}", "remove this checkpoint and resume") from error
        self.step, self.seconds, self.bad_steps = state["step"], state["seconds"], state["bad_steps"]
        self.run_id = state["run_id"]
        self.epoch, self.recent_loss = state.get("epoch", 0.0), state.get("recent_loss")
        self.bad[0] = self.bad_steps

    def _load_tensors(self, checkpoint: Path, state: dict[str, Any]) -> None:
        _copy_into(self.weights(), load_sharded(checkpoint, "weights"))
        _copy_into(self.parameters.views(self.average), load_sharded(checkpoint, "ema"))
        if tensors := load_optimizer_tensors(checkpoint, state):
            _copy_into(optimizer_tensors(self.optimizer, self.parameters), tensors)


def _name(key: str) -> str:
    """The network's own tensors have the names that a model has."""
    return key.removeprefix("net.")


@torch.no_grad()
def _copy_into(own: dict[str, Tensor], stored: dict[str, Tensor]) -> None:
    """Not load_state_dict: parameters must stay views of one vector. Raises ModelError for what does not fit."""
    for name, value in own.items():
        if name not in stored or stored[name].shape != value.shape:
            raise ModelError(f"does not fit the recipe, first at {name}")
        value.copy_(stored[name])
