"""The training loop."""

from __future__ import annotations

import math
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from irnscale.engine.precision import choose_precision
from irnscale.errors import InputError, UsageError
from irnscale.networks import IRN
from irnscale.train.checkpoints import checkpoints, load_sharded, load_state, save_checkpoint
from irnscale.train.config import Budget, Recipe
from irnscale.train.data import Photographs
from irnscale.train.initial import load_initial
from irnscale.train.objective import Objective, draw, network_of
from irnscale.train.schedules import ema_decay, learning_rate
from irnscale.train.tracking import Log
from irnscale.train.validate import validate, validation_images

MAX_BAD_STEPS = 20
LOG_STEPS = 20


class Trainer:
    """One run: network, averaged weights, Adam and the position in the budget; state lives in `out`."""

    def __init__(self, recipe: Recipe, *, out: Path, device: torch.device, resume: bool = False) -> None:
        self.recipe, self.out, self.device = recipe, out, device
        torch.manual_seed(recipe.seed)
        self.objective = Objective(recipe).to(device)
        self.net = self.objective.net
        self.step, self.seconds, self.bad_steps = 0, 0.0, 0
        self.run_id = secrets.token_hex(4)
        self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.optimizer = torch.optim.Adam(
            self.net.parameters(),
            lr=recipe.initial_lr,
            betas=(recipe.beta1, recipe.beta2),
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        found = checkpoints(out)
        if found and not resume:
            raise UsageError(f"{out} already holds a run", "add --resume to go on, or choose another --out")
        if found:
            self._load(found[-1])
        elif recipe.init:
            load_initial(self.net, recipe.init)
            self.ema = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.net.set_compute_dtype(choose_precision(recipe.precision, device))

    def _load(self, checkpoint: Path) -> None:
        state = load_state(checkpoint)
        for key, value in self.net.config.to_dict().items():
            if (trained := state["recipe"].get(key, getattr(Recipe, key))) != value:
                raise UsageError(
                    f"{checkpoint}: was trained with {key}={trained}, the recipe says {value}",
                    f"resume with {key}={trained}, or choose another --out",
                )
        try:
            self._load_tensors(checkpoint, state)
        except (KeyError, RuntimeError) as error:  # a tensor is missing, or has another shape
            raise InputError(
                f"{checkpoint}: damaged: {str(error).splitlines()[0]}", "remove this checkpoint and resume"
            ) from error
        self.step, self.seconds = state["step"], state["seconds"]
        self.run_id, self.bad_steps = state["run_id"], state["bad_steps"]

    def _load_tensors(self, checkpoint: Path, state: dict[str, Any]) -> None:
        self.net.load_state_dict(load_sharded(checkpoint, "weights"))
        averaged = load_sharded(checkpoint, "ema")
        self.ema = {k: averaged[k].to(self.device, torch.float32) for k in self.ema}
        if not state["optimizer_step"]:  # stopped before its first good step
            return
        moments = load_sharded(checkpoint, "moments")
        for name, parameter in self.net.named_parameters():
            self.optimizer.state[parameter] = {
                "step": torch.tensor(float(state["optimizer_step"]), device=self.device),
                "exp_avg": moments[f"m.{name}"].to(self.device, torch.float32),
                "exp_avg_sq": moments[f"v.{name}"].to(self.device, torch.float32),
            }

    def save(self) -> Path:
        """Write a checkpoint now."""
        moments: dict[str, Tensor] = {}
        optimizer_step = 0
        for name, parameter in self.net.named_parameters():
            entry = self.optimizer.state.get(parameter)
            if entry:
                moments[f"m.{name}"], moments[f"v.{name}"] = entry["exp_avg"], entry["exp_avg_sq"]
                optimizer_step = int(entry["step"])
        return save_checkpoint(
            self.out,
            step=self.step,
            weights=self.net.state_dict(),
            ema=self.ema,
            moments=moments,
            state={
                "step": self.step,
                "optimizer_step": optimizer_step,
                "seconds": self.seconds,
                "bad_steps": self.bad_steps,
                "run_id": self.run_id,
                "recipe": self.recipe.to_dict(),
            },
        )

    def train_step(self, hr: Tensor, lr_reference: Tensor, rate: float) -> dict[str, float]:
        """One optimiser step; a non-finite loss or gradient skips it and is counted."""
        self.net.train()
        draws = draw(self.recipe, hr.shape[0], step=self.step, device=self.device)
        terms = {k: v.mean() for k, v in self.objective(hr, lr_reference, draws).items()}
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip_norm_max_g)
        record = {k: v.item() for k, v in terms.items()} | {"grad_norm": norm.item()}
        self.step += 1
        if not (math.isfinite(record["loss"]) and math.isfinite(record["grad_norm"])):
            self.bad_steps += 1
            return record
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        decay = ema_decay(self.recipe, self.step)
        with torch.no_grad():
            own = self.net.state_dict()
            torch._foreach_lerp_(list(self.ema.values()), [own[k] for k in self.ema], 1 - decay)
        return record

    def averaged(self) -> IRN:
        """A copy of the network with the averaged weights, for validation and export."""
        net: IRN = network_of(self.recipe).to(self.device)
        net.load_state_dict(self.ema)
        net.set_compute_dtype(choose_precision(self.recipe.precision, self.device))
        net.eval()
        return net


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM and SIGINT in a list instead of dying of them; outside the main thread none arrive."""
    received: list[int] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run(
    recipe: Recipe,
    *,
    data: list[Path],
    out: Path,
    device: torch.device,
    val: list[Path] | None = None,
    resume: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train until the budget is used up or SIGTERM/SIGINT comes; returns the last checkpoint.

    The budget is that of the whole run: what was used before `resume` counts, and it may be another one
    than before. Writes `log.jsonl` (one record per 20 steps and per validation) and `step-*` folders into
    `out`. Raises UsageError, InputError, OutputError, ModelError; KeyboardInterrupt after an interrupted
    run has saved its state.
    """
    budget = Budget.parse(recipe.budget)
    trainer = Trainer(recipe, out=out, device=device, resume=resume)
    found = checkpoints(out)
    if found and budget.fraction(trainer.step, trainer.seconds) >= 1:
        say(
            f"{out}: the budget of {recipe.budget} is used up (step {trainer.step}, "
            f"{trainer.seconds / 60:.1f} minutes); give a larger --budget to go on"
        )
        return found[-1]
    if resume and not found:
        say(f"{out}: nothing to resume, starting anew")
    photographs = Photographs(data, scale=recipe.scale, crop=recipe.img_size, device=device)
    say(
        f"{len(photographs)} photographs, {photographs.too_small} too small, "
        f"{len(photographs.unreadable)} unreadable; from step {trainer.step}"
    )
    for line in photographs.unreadable:
        say(f"unreadable: {line}")
    val_images = validation_images(val, scale=recipe.scale, limit=recipe.validate_limit) if val else []
    log = Log(out)
    log.write({"run": trainer.run_id, "from_step": trainer.step, "recipe": recipe.to_dict()})

    def check() -> None:
        scores = validate(Objective(recipe, trainer.averaged()), val_images, device)
        say(f"step {trainer.step}: " + ", ".join(f"{name} {score:.2f} dB" for name, score in scores.items()))
        log.write({"step": trainer.step, "seconds": round(trainer.seconds, 1), **scores})

    bar = tqdm(total=100, disable=None if progress else True, unit="%", bar_format="{l_bar}{bar}| {postfix}")
    last_save = last_validation = last_tick = time.monotonic()
    streak = 0
    with stop_signals() as stop, bar:
        while (fraction := budget.fraction(trainer.step, trainer.seconds)) < 1 and not stop:
            hr, reference = photographs.batch(recipe.batch_size, seed=recipe.seed, step=trainer.step)
            bad_before = trainer.bad_steps
            record = trainer.train_step(hr, reference, rate := learning_rate(recipe, fraction))
            streak = streak + 1 if trainer.bad_steps > bad_before else 0
            now = time.monotonic()
            trainer.seconds += now - last_tick
            last_tick = now
            bar.n = round(100 * min(1.0, fraction), 1)
            bar.set_postfix_str(f"step {trainer.step} loss {record['loss']:.1f} lr {rate:.1e}")
            if trainer.step % LOG_STEPS == 0 or streak:
                seconds = round(trainer.seconds, 1)
                log.write({"step": trainer.step, "seconds": seconds, "rate": rate, **record})
            if streak >= MAX_BAD_STEPS:
                kept = checkpoints(out)
                raise InputError(
                    f"{out}: {streak} steps in a row had a non-finite loss or gradient",
                    f"{kept[-1].name} is kept; lower initial_lr and --resume" if kept else "lower initial_lr",
                )
            if not streak and now - last_save > recipe.checkpoint_minutes * 60:
                trainer.save()
                last_save = time.monotonic()
            if val_images and now - last_validation > recipe.validate_minutes * 60:
                check()
                last_validation = last_tick = time.monotonic()  # validation is not charged to the budget
        final = trainer.save()
        if val_images and not stop:
            check()
    if stop:
        raise KeyboardInterrupt
    return final
