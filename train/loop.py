"""The training loop: batches, steps, checkpoints and validation until the budget is used up."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from irnscale.engine.memory import is_out_of_memory
from irnscale.errors import DeviceError, InputError, OutputError, Remark
from irnscale.train.budget import Budget
from irnscale.train.checkpoints import checkpoints, find_run
from irnscale.train.config import Recipe
from irnscale.train.groups import Dataset
from irnscale.train.locking import locked
from irnscale.train.monitor import Monitor
from irnscale.train.parallel import World, join
from irnscale.train.report import write_report
from irnscale.train.schedules import learning_rate
from irnscale.train.signals import stop_signals
from irnscale.train.tracking import Log, TensorBoard, Tracker, Trackers, WeightsAndBiases
from irnscale.train.trainer import Trainer
from irnscale.train.validate import validation_images

MAX_BAD_STEPS = 20
"""A run ends after so many steps in a row with a non-finite loss or gradient."""

Say = Callable[[str], None]


def run(
    recipe: Recipe,
    *,
    data: list[Path],
    out: Path,
    device: torch.device,
    val: list[Path] | None = None,
    resume: bool | str = False,
    track: tuple[str, ...] = (),
    report: bool = True,
    progress: bool = True,
    say: Say = lambda _: None,
) -> Path:
    """Train until the budget is used up or SIGTERM, SIGINT or SIGHUP comes; returns the last checkpoint.

    The budget is that of the whole run: what was used before `resume` counts, and it may be another one than
    before. Writes checkpoints, `log.jsonl`, pictures and, with `report`, curves and a page of Markdown into
    `out`, and reports to the services named by `track`. Started by torchrun, the processes share every batch.
    Raises UsageError, also where another process trains in `out`, InputError, OutputError, ModelError, DeviceError;
    KeyboardInterrupt after an interrupted run has saved its state.
    """
    recipe.data.accept(data, val or [])
    with ExitStack() as stack:
        world = stack.enter_context(join(device))
        out = find_run(resume, out) if isinstance(resume, str) else out
        if world.main:
            stack.enter_context(locked(out))
        else:
            say, progress = _silent, False
        try:
            options: dict[str, Any] = {"track": track, "report": report, "progress": progress, "say": say}
            return _run(recipe, world, data, out, val, bool(resume), **options)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            hint = "smaller batch_size, img_size or network, a larger accumulate, or save_memory=true take less"
            raise DeviceError(f"out of memory on {world.device}", hint) from error


def _run(
    recipe: Recipe,
    world: World,
    data: list[Path],
    out: Path,
    val: list[Path] | None,
    resume: bool,
    *,
    track: tuple[str, ...],
    report: bool,
    progress: bool,
    say: Say,
) -> Path:
    budget = Budget.parse(recipe.run.budget)
    trainer = Trainer(recipe, out=out, device=world.device, resume=resume, world=world)
    found = checkpoints(out)
    if found and budget.fraction(trainer.step, trainer.seconds) >= 1:
        said = f"the budget of {recipe.run.budget} is used up (step {trainer.step}, {trainer.seconds / 60:.1f} minutes)"
        say(Remark(f"{out}: {said}; give a larger `budget` to go on", "budget"))
        return found[-1]
    if resume and not found:
        say(f"{out}: nothing to resume, starting anew")
    limit, size, seed = recipe.run.validate_limit, recipe.data.batch_size, recipe.run.seed
    dataset = recipe.data.open(data, scale=recipe.scale, seed=seed, device=world.device)
    validation = validation_images(val, scale=recipe.scale, limit=limit) if val and world.main else []
    if not trainer.step and trainer.starts_from_data:
        trainer.prepare(dataset.batch(size, seed=seed, step=0))

    with ExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        monitor = None
        if world.main:
            trackers = Trackers(_trackers(trainer, track), say)
            _introduce(trainer, dataset, say)
            monitor = Monitor(trainer, dataset, validation, trackers, budget=budget, say=say, progress=progress)
            stack.callback(monitor.close)
        batches = dataset.batches(size, seed=seed, first=trainer.step, rows=trainer.rows)
        stack.callback(batches.close)
        last_save = last_check = last_tick = time.monotonic()
        while True:
            done = budget.fraction(trainer.step, trainer.seconds) if world.main else 0.0
            bad_in_a_row = monitor.bad_in_a_row if monitor else 0
            fraction, stopping, streak = world.agree([done, len(stop), bad_in_a_row])
            if fraction >= 1 or stopping:
                break
            if streak >= MAX_BAD_STEPS:
                raise _diverged(out, int(streak), monitor)
            with trainer.clock("data"):
                batch = next(batches)
            rate = learning_rate(recipe.optim, fraction, trainer.step)
            record = trainer.train_step(batch, rate, epochs=trainer.epoch, fraction=fraction)
            trainer.epoch = trainer.step * size / len(dataset)
            now = time.monotonic()
            trainer.seconds, last_tick = trainer.seconds + now - last_tick, now
            if not monitor:
                continue
            monitor.step(record, rate)
            if now - last_save > recipe.run.checkpoint_minutes * 60:
                _save_or_go_on(trainer, monitor)
                last_save = time.monotonic()
            if validation_due(recipe, trainer.step, now - last_check):
                monitor.check()
                last_check = last_tick = time.monotonic()  # validation is not charged to the budget

        if not monitor:
            return out
        monitor.read()
        if trainer.bad_steps == trainer.step and not stopping:
            raise _diverged(out, trainer.step, monitor)
        final = trainer.save()
        if not stopping and monitor.checked != trainer.step:
            monitor.check()
        if not stopping:
            monitor.conclude()
    if report:
        write_report(out, recipe, say)
    if stopping:
        say(Remark(f"stopped at step {trainer.step}: {final}; `resume` goes on", "resume"))
        raise KeyboardInterrupt
    return final


def validation_due(recipe: Recipe, step: int, seconds: float) -> bool:
    """Whether to validate after `step`, `seconds` after the last time."""
    if recipe.run.validate_steps is None:
        return seconds > recipe.run.validate_minutes * 60
    return step % recipe.run.validate_steps == 0 or (step < recipe.run.validate_steps and step.bit_count() == 1)


def _silent(_: str) -> None:
    """What the other processes say."""


def _introduce(trainer: Trainer, dataset: Dataset, say: Say) -> None:
    first, *more = dataset.introduction()
    say(f"run {trainer.run_id}: {first}; from step {trainer.step}")
    if trainer.compiled is not None:
        say(trainer.compiled.describe())
    for line in more:
        say(line)


def _trackers(trainer: Trainer, extras: tuple[str, ...]) -> list[Tracker]:
    recipe = trainer.recipe.to_dict()
    log = Log(trainer.out)
    log.write({"run": trainer.run_id, "from_step": trainer.step, "recipe": recipe})
    trackers: list[Tracker] = [log]
    if "tensorboard" in extras:
        trackers.append(TensorBoard(trainer.out))
    if "wandb" in extras:
        trackers.append(WeightsAndBiases(trainer.out, trainer.run_id, recipe))
    return trackers


def _save_or_go_on(trainer: Trainer, monitor: Monitor) -> None:
    """A full disk may be empty again when the next checkpoint is due; the previous one is still there."""
    monitor.read()
    if monitor.bad_in_a_row:
        return
    try:
        with trainer.clock("checkpoint"):
            trainer.save()
    except OutputError as error:
        monitor.alert(f"{error}; the run goes on")


def _diverged(out: Path, streak: int, monitor: Monitor | None) -> InputError:
    kept = checkpoints(out)
    error = InputError(
        f"{out}: {streak} steps in a row had a non-finite loss or gradient",
        f"{kept[-1].name} is kept; lower initial_lr and `resume`" if kept else "lower initial_lr",
        parameters=("resume",),
    )
    if monitor:
        monitor.alert(error.what)
    return error
