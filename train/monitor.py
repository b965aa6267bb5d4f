"""What a person sees of a run: numbers in the log, the progress line, alerts, pictures, challenging crops."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from irnscale.images.atomic import write_bytes_atomic
from irnscale.train.budget import Budget
from irnscale.train.groups import Dataset
from irnscale.train.hardware import hardware
from irnscale.train.report import FINAL
from irnscale.train.tracking import Trackers
from irnscale.train.trainer import Trainer

RESULT = "result.json"
LOG_STEPS = 20
"""Steps that a record in the log is the mean of."""
READ_SECONDS = 1.0
"""How long results may stay on the device before they are looked at."""
MEMORY = 0.98
"""Decay of the running mean of the loss."""
SETTLED = 20
"""Steps after which the running mean is one to compare with."""
MOST_CHALLENGING = 100
"""Pictures of challenging crops that a run keeps at most; the log names all."""


class Monitor:
    """Follows `trainer`; the results of its steps are read in groups, so that a GPU does not wait for the host."""

    def __init__(
        self,
        trainer: Trainer,
        data: Dataset,
        validation: list[Tensor],
        trackers: Trackers,
        *,
        budget: Budget,
        say: Callable[[str], None],
        progress: bool,
    ) -> None:
        self._trainer, self._data, self._validation = trainer, data, validation
        self._trackers, self._budget, self._say = trackers, budget, say
        self._unread: list[dict[str, Tensor]] = []
        self._window: list[dict[str, float]] = []
        self._last_read = time.monotonic()
        self._window_start = trainer.seconds
        self._rate = 0.0
        self._alerted = False
        self._pictured = 0
        self._speed: float | None = None
        self.bad_in_a_row = 0
        self.checked = -1
        """The step of the last validation."""
        hidden = None if progress else True
        self._bar = tqdm(total=100, disable=hidden, unit="%", bar_format="{l_bar}{bar}| {postfix}")

    def step(self, record: dict[str, Tensor], rate: float) -> None:
        """Take the results of a step."""
        self._unread.append(record)
        self._rate = rate
        waited = time.monotonic() - self._last_read > READ_SECONDS
        if self._trainer.device.type == "cpu" or waited or len(self._unread) == LOG_STEPS:
            self.read()

    def read(self) -> None:
        """Look at the results that are still on the device: this waits for it."""
        self._last_read = time.monotonic()
        if not self._unread:
            return
        names = [name for name in self._unread[0] if name != "losses"]
        values = torch.stack([torch.stack([record[name] for name in names]) for record in self._unread]).tolist()
        losses = torch.stack([record["losses"] for record in self._unread]).tolist()
        trainer, first = self._trainer, self._trainer.step - len(self._unread)
        self._unread = []
        self.bad_in_a_row = trainer.count_bad()
        for step, (row, crops) in enumerate(zip(values, losses, strict=True), start=first):
            record = dict(zip(names, row, strict=True))
            if step >= SETTLED:
                self._challenge(step, crops)
            if math.isfinite(record["loss"]):
                before = trainer.recent_loss
                trainer.recent_loss = record["loss"] + (0 if before is None else MEMORY * (before - record["loss"]))
                self._alert_on_loss(step + 1)
            self._window.append(record)
            if len(self._window) == LOG_STEPS:
                self._report(step + 1)
        loss = "-" if trainer.recent_loss is None else f"{trainer.recent_loss:.1f}"
        self._bar.n = round(100 * min(1.0, self._budget.fraction(trainer.step, trainer.seconds)), 1)
        left = self._remaining()
        self._bar.set_postfix_str(
            f"step {trainer.step} loss {loss} lr {self._rate:.1e}" + ("" if left is None else f", {_clock(left)} left")
        )

    def _remaining(self) -> float | None:
        """Seconds to the end of the budget."""
        if self._budget.seconds is not None:
            return max(0.0, self._budget.seconds - self._trainer.seconds)
        assert self._budget.steps is not None
        return None if self._speed is None else self._speed * max(0, self._budget.steps - self._trainer.step)

    def _report(self, step: int) -> None:
        """The mean of the steps in the window, to the trackers."""
        trainer, window = self._trainer, self._window
        steps = len(window)
        elapsed = trainer.seconds - self._window_start
        good = [record for record in window if all(map(math.isfinite, record.values()))]
        values = {name: sum(r[name] for r in good) / len(good) if good else math.nan for name in window[0]}
        values |= {"rate": self._rate, "epoch": round(trainer.epoch, 4), "seconds": round(trainer.seconds, 1)}
        values["bad_steps"] = trainer.bad_steps
        if elapsed > 0:
            self._speed = elapsed / steps
            values["images_per_second"] = round(steps * trainer.recipe.data.batch_size / elapsed, 3)
        if (left := self._remaining()) is not None:
            values["seconds_left"] = round(left, 1)
        values |= {f"time_{name}_ms": round(1e3 * t / steps, 3) for name, t in trainer.clock.take().items()}
        self._trackers.scalars(step, values | hardware(trainer.device))
        self._window, self._window_start = [], trainer.seconds

    def _alert_on_loss(self, step: int) -> None:
        """Once whenever the running mean passes the threshold upwards."""
        threshold, loss = self._trainer.recipe.run.alert_loss, self._trainer.recent_loss
        if threshold is None or loss is None:
            return
        if loss > threshold and not self._alerted:
            self._trackers.alert(step, f"the loss, {loss:.1f}, is above {threshold}")
        self._alerted = loss > threshold

    def _challenge(self, step: int, losses: list[float]) -> None:
        """Report the crops of the batch of `step` whose loss is far above the running mean."""
        recipe, mean = self._trainer.recipe, self._trainer.recent_loss
        if recipe.run.challenge_factor is None or mean is None:
            return
        worst = [n for n, loss in enumerate(losses) if not loss <= recipe.run.challenge_factor * mean]
        if not worst:
            return
        size, seed = recipe.data.batch_size, recipe.run.seed
        for n in worst:
            place = self._data.place(size, seed=seed, step=step, example=n)
            self._trackers.challenge(step + 1, {"loss": losses[n], "mean": mean, **place})
        if self._pictured < MOST_CHALLENGING:
            self._pictured += 1
            batch = self._data.batch(size, seed=seed, step=step, rows=slice(worst[0], worst[0] + 1))
            self._trainer.objective.eval()
            self._trackers.picture(step + 1, "challenging", self._trainer.objective.show(*(x[0] for x in batch)))
            self._trainer.objective.train()

    def check(self) -> None:
        """Validate the averaged weights and show samples; see `Objective.examine`."""
        self.read()
        trainer, step = self._trainer, self._trainer.step
        self.checked = step
        with trainer.clock("validation"), trainer.averaged() as objective:
            scores, shown = objective.examine(self._validation, self._data, trainer.device)
            if scores:
                self._say(f"step {step}: " + ", ".join(f"{name} {score:.4g}" for name, score in scores.items()))
                self._trackers.scalars(step, scores | {"seconds": round(trainer.seconds, 1)})
            self._trackers.picture(step, "samples", shown)

    def conclude(self) -> None:
        """Measure what is measured at the end of a run, see `Objective.conclude`: to the log, `result.json`, people."""
        trainer = self._trainer
        with trainer.averaged() as objective:
            result = objective.conclude(self._data, trainer.out)
        if not result:
            return
        run, seconds = trainer.recipe.run, round(trainer.seconds, 2)
        head: dict[str, Any] = {"recipe": run.name, "seed": run.seed, "steps": trainer.step, "seconds": seconds}
        self._trackers.scalars(trainer.step, {f"{FINAL}{name}": value for name, value in result.items()})
        write_bytes_atomic(json.dumps(head | result, indent=1).encode(), trainer.out / RESULT, overwrite=True)
        for key, value in (head | result).items():
            self._say(f"{key}: {value:.4g}" if isinstance(value, float) else f"{key}: {value}")

    def alert(self, text: str) -> None:
        """Something that a person should look at."""
        self._trackers.alert(self._trainer.step, text)

    def close(self) -> None:
        """Report the steps that are left, and end the progress line."""
        self.read()
        if self._window:
            self._report(self._trainer.step)
        self._bar.close()
        self._trackers.close()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
