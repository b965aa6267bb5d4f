"""The training step, and a run's state: weights, averaged weights, optimiser, position in the budget."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor

from irnscale.engine.precision import choose_precision
from irnscale.errors import ModelError, UsageError
from irnscale.networks.dense_packing import packed_network
from irnscale.networks.network import Flow
from irnscale.train.checkpoints import (
    checkpoints,
    load_sharded,
    load_state,
    save_checkpoint,
)
from irnscale.train.config import Recipe
from irnscale.train.graph import GraphedStep
from irnscale.train.initial import initialise_weights, load_initial
from irnscale.train.objective import Draws, Objective, objective_of
from irnscale.train.parallel import World
from irnscale.train.players import Playing
from irnscale.train.reversible import through_inverses
from irnscale.train.schedules import ema_decay, learning_rate
from irnscale.train.timing import Stopwatch
from irnscale.train.warming import compile_step


class Trainer:
    """One run; `out` is its folder. With `resume` it goes on from the newest checkpoint there.

    Raises UsageError where `out` holds a run and `resume` is not given or the recipe differs from the run's
    network, ModelError for a damaged checkpoint or an `init` that does not fit.
    """

    def __init__(
        self, recipe: Recipe, *, out: Path, device: torch.device, resume: bool = False, world: World | None = None
    ) -> None:
        self.recipe, self.device, self.out = recipe, device, out
        self.world = world or World(device)
        self.rows = self.world.rows(recipe.data.batch_size, recipe.data.accumulate)
        torch.manual_seed(recipe.run.seed)
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
            hint = "add `resume` to go on, or choose another `out`"
            raise UsageError(f"{self.out} already holds a run", hint, parameters=("resume", "out"))
        if not found and recipe.run.init:
            self.starts_from_data = not load_initial(self.net, recipe.run.init)
        elif not found:
            initialise_weights(self.net, recipe.run.initialisation, recipe.run.zero_last)
        precision = choose_precision(recipe.run.precision, device)
        self.net.set_training_dtype(precision)
        if recipe.run.save_memory:
            if not isinstance(self.net, Flow) or not self.net.reversible:
                raise UsageError("save_memory=true: only an IRN's activations can be recomputed", "leave it out")
            self.net.through = through_inverses
        self.players = [Playing(player, torch.zeros((), device=device)) for player in self.objective.players()]
        self.parameters, self.optimizer = self.players[0].parameters, self.players[0].optimizer
        self.average = self.parameters.values.clone()
        self._pull = torch.zeros((), device=device)
        self.bad = torch.zeros(2, device=device)
        """How many steps were skipped for a non-finite loss or gradient: in all, and in a row up to now."""
        if found:
            self._load(found[-1])
        # Packed gradients would not tell whose term they are of.
        alone = len(self.players) == 1
        self._packed = packed_network(self.net, self.parameters.values, self.parameters.grads) if alone else None
        crops = (self.rows.stop - self.rows.start) // recipe.data.accumulate
        self.compiled = compile_step(self.net, recipe.data, crops, device)
        """The kernels that were compiled for the step, or found compiled; None where there are none to compile."""
        graph = recipe.run.cuda_graph and device.type == "cuda" and self.objective.graphable
        self._advance = GraphedStep(self._compute, self._mutable()) if graph else self._compute

    def train_step(
        self, batch: Sequence[Tensor], rate: float, epochs: float = 0.0, fraction: float = 1.0
    ) -> dict[str, Tensor]:
        """One update from this process's examples of the batch; the host does not wait for the device.

        rate: of the first player; others have that of their own schedule. Returns 0-dim tensors "loss", its terms and
        "grad_norm", that of the first player, and "losses", the loss of each example of the whole batch. A step with a
        non-finite loss or gradient changes nothing and is counted in `bad`.
        """
        size = len(batch[0])
        mine = slice(self.world.rank * size, (self.world.rank + 1) * size)
        count, step = size * self.world.size, self.step
        draws = self.objective.draw(count, step=step, epochs=epochs, fraction=fraction, device=self.device)
        self.step += 1
        self.players[0].rate.fill_(rate)
        for other in self.players[1:]:
            other.rate.fill_(learning_rate(other.player.optim, fraction, step))
        self._pull.fill_(1 - ema_decay(self.recipe, self.step))
        return self._advance(tuple(batch), {name: value[mine] for name, value in draws.items()})

    def _compute(self, batch: Sequence[Tensor], draws: Draws) -> dict[str, Tensor]:
        """The step on the device: every value stays there, so that all of it can be one CUDA graph."""
        size = len(batch[0])
        count = size * self.world.size
        self.objective.train()
        for player in self.players:
            player.parameters.grads.zero_()
        pieces = []
        with nullcontext() if self._packed is None else self._packed.packed():
            for start in range(0, size, size // self.recipe.data.accumulate):
                part = slice(start, start + size // self.recipe.data.accumulate)
                with self.clock("forward"):
                    given = {name: value[part] for name, value in draws.items()}
                    terms = self.objective(*(x[part] for x in batch), given)
                with self.clock("backward"):
                    for player in self.players:
                        others = [other for other in self.players if other is not player]
                        player.differentiate(terms, count, others, keep=player is not self.players[-1])
                pieces.append(torch.stack([term.detach() for term in terms.values()]))
        with self.clock("update"):
            per_example = self.world.gather(torch.cat(pieces, dim=1))
            record = dict(zip(terms, per_example.mean(dim=1), strict=True))
            norms = [player.norm(self.world) for player in self.players]
            watched = torch.stack([*norms, *(record[player.player.loss] for player in self.players)])
            good = watched.isfinite().all().float()
            for player in self.players:
                player.optimizer.step(player.rate, good)
            self.average.lerp_(self.parameters.values, self._pull * good)
            self.bad.add_(1 - good)
            self.bad[1].mul_(1 - good)
        return record | {"grad_norm": norms[0], "losses": per_example[list(terms).index("loss")]}

    def prepare(self, batch: Sequence[Tensor]) -> None:
        """Set what the objective takes from data, before the first step; `batch`: the whole first batch."""
        self.objective.initialise(*batch)
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
            averaged = {name: value.clone() for name, value in self.net.state_dict().items()}
        return save_checkpoint(
            self.out,
            weights=self.weights(),
            ema=averaged,
            optimizer=self._optimizer_tensors(),
            compact=self.recipe.run.checkpoint_compact,
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
        played = [tensor for p in self.players for tensor in (p.parameters.values, *p.optimizer.state.values())]
        return [self.average, self.bad, *played]

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        return {name: value for player in self.players for name, value in player.tensors().items()}

    def _load(self, checkpoint: Path) -> None:
        state = load_state(checkpoint)
        usual = type(self.net.config)().to_dict()  # what older versions, which had no such key, trained
        recorded = state["recipe"] | state["recipe"].get("network", {})
        for key, value in self.net.config.to_dict().items():
            if (trained := recorded.get(key, usual[key])) != value:
                raise UsageError(
                    f"{checkpoint}: was trained with {key}={trained}, the recipe says {value}",
                    f"resume with {key}={trained}, or choose another `out`",
                    parameters=("out",),
                )
        own = self.objective.base_digest
        if (trained := state.get("base_digest", own)) != own:
            raise UsageError(
                f"{checkpoint}: was trained on a frozen model {trained}, the recipe's is {own}",
                "resume with the assistant_of and the weights that it was trained with",
            )
        if (trained := state["recipe"].get("optimizer", "adam")) != self.recipe.optim.optimizer:
            raise UsageError(f"{checkpoint}: was trained with optimizer={trained}", f"resume with optimizer={trained}")
        try:
            self._load_tensors(checkpoint)
        except ModelError as error:
            raise ModelError(f"{checkpoint}: {error.what}", "remove this checkpoint and resume") from error
        self.step, self.seconds, self.bad_steps = state["step"], state["seconds"], state["bad_steps"]
        self.run_id = state["run_id"]
        self.epoch, self.recent_loss = state.get("epoch", 0.0), state.get("recent_loss")
        self.bad[0] = self.bad_steps

    def _load_tensors(self, checkpoint: Path) -> None:
        weights = load_sharded(checkpoint, "weights")
        _check(self.weights(), weights)
        # In place, so that parameters stay views of one vector; and modules that start from data learn that they did.
        self.objective.load_state_dict({key: weights[_name(key)] for key in self.objective.state_dict()})
        _copy_into(self.parameters.views(self.average), load_sharded(checkpoint, "ema"))
        _copy_into(self._optimizer_tensors(), load_sharded(checkpoint, "optimizer"))


def _name(key: str) -> str:
    """The network's own tensors have the names that a model has."""
    return key.removeprefix("net.")


def _check(own: dict[str, Tensor], stored: dict[str, Tensor]) -> None:
    """Raise ModelError where `stored` does not have all of `own`."""
    for name, value in own.items():
        if name not in stored or stored[name].shape != value.shape:
            raise ModelError(f"does not fit the recipe, first at {name}")


@torch.no_grad()
def _copy_into(own: dict[str, Tensor], stored: dict[str, Tensor]) -> None:
    """Raises ModelError for what does not fit."""
    _check(own, stored)
    for name, value in own.items():
        value.copy_(stored[name])
