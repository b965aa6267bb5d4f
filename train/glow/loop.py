"""Training a Glow on the digits: the dissertation's algorithm 1, the same code for every implementation."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from irnscale.errors import InputError, UsageError
from irnscale.images.atomic import write_bytes_atomic
from irnscale.networks.glow import Glow, build_glow
from irnscale.train.budget import Budget
from irnscale.train.glow.classifier import accuracy, train_classifier
from irnscale.train.glow.digits import Digits, add_noise, load_digits
from irnscale.train.glow.metrics import (
    SAMPLES,
    bits_per_dimension,
    dequantized_log_likelihood,
    frechet,
    inception_frechet,
    log_likelihood,
    overflowing,
)
from irnscale.train.glow.pictures import curves, grid
from irnscale.train.glow.recipe import GlowRecipe
from irnscale.train.glow.state import NAME, Progress, load_state, save_state
from irnscale.train.signals import stop_signals
from irnscale.train.tracking import Log

RESULT = "result.json"
MAX_BAD_STEPS = 20
SAVE_SECONDS = 20
COLUMNS, ROWS = 12, 8
Say = Callable[[str], None]


def new_flow(recipe: GlowRecipe, digits: Digits) -> Glow:
    """The untrained flow of the recipe, its ActNorms initialised.

    Their first batch is the first training batch with the noise of dequantisation, whether or not the recipe trains
    with it: three of the 64 pixels are 0 in every picture.
    """
    torch.manual_seed(recipe.seed)
    flow = build_glow(recipe.network())
    with torch.no_grad():
        flow(digits.batch(recipe.batch_size, seed=recipe.seed, step=0, dequantize=True))
    return flow


class GlowTrainer:
    """Flow, Adam and the position in the budget."""

    def __init__(self, recipe: GlowRecipe, digits: Digits, out: Path | None = None) -> None:
        self.recipe, self.digits = recipe, digits
        self.flow = new_flow(recipe, digits)
        groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
        for name, parameter in self.flow.named_parameters():
            if parameter.requires_grad:
                groups["subnet" in name].append(parameter)
        self.optimizer = torch.optim.AdamW(  # without decay it is Adam
            [
                {"params": groups[True], "weight_decay": recipe.weight_decay},
                {"params": groups[False], "weight_decay": 0.0},
            ],
            lr=recipe.initial_lr,
            betas=(recipe.beta1, recipe.beta2),
        )
        self.progress = Progress() if out is None else load_state(out, recipe, self.flow, self.optimizer)

    def step(self, x: Tensor, rate: float) -> float:
        """One step of maximum likelihood on pictures (N, 1, 8, 8); returns the mean log-likelihood in nats.

        A likelihood or gradient that is not finite changes nothing and is counted.
        """
        loss: Tensor = -self.flow(x).mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.flow.parameters(), self.recipe.clip_norm_max_g)
        self.progress.step += 1
        if not (math.isfinite(loss.item()) and math.isfinite(norm.item())):
            self.progress.bad_steps += 1
            return math.nan
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        return -loss.item()

    def evaluate(self, train_nats: list[float]) -> list[float]:
        """A point of the curves."""
        raw = log_likelihood(self.flow, self.digits.test)
        noisy = add_noise(self.digits.test, torch.Generator().manual_seed(self.recipe.seed))
        point = [
            float(self.progress.step),
            sum(train_nats) / len(train_nats) if train_nats else math.nan,
            raw,
            log_likelihood(self.flow, noisy),
        ]
        self.progress.points.append(point)
        return point


@dataclass(frozen=True)
class Outcome:
    """A finished run: its flow, its pictures, and the numbers of `result.json`."""

    flow: Glow
    digits: Digits
    result: dict[str, Any]


def run(
    recipe: GlowRecipe,
    *,
    out: Path,
    resume: bool = False,
    inception: Path | None = None,
    progress: bool = True,
    label: str = "",
    say: Say = lambda _: None,
) -> Outcome:
    """Train until the budget is used up, then measure; KeyboardInterrupt after a stopped run has saved its state.

    Writes into `out`: `state.safetensors`, `log.jsonl`, `curves.png`, `samples.png` and `result.json`, each of them
    whole. Raises UsageError, InputError, OutputError.
    """
    budget = Budget.parse(recipe.budget)
    there = (out / NAME).exists()
    if there and not resume:
        raise UsageError(f"{out} already holds a run", "add --resume to go on, or choose another --out")
    if resume and not there:
        say(f"{out}: nothing to resume, starting anew")
    digits = load_digits(recipe.seed)
    trainer = GlowTrainer(recipe, digits, out if there else None)
    at = trainer.progress
    log = Log(out)
    log.write({"from_step": at.step, "recipe": recipe.to_dict()})
    bar = tqdm(
        total=100,
        disable=None if progress else True,
        unit="%",
        desc=label or recipe.name,
        bar_format="{desc} {percentage:3.0f}%|{bar}| {postfix}",
    )
    nats: list[float] = []
    streak = 0
    last_tick = last_save = time.monotonic()
    with stop_signals() as stop, bar:
        while (fraction := budget.fraction(at.step, at.seconds)) < 1 and not stop:
            x = digits.batch(recipe.batch_size, seed=recipe.seed, step=at.step, dequantize=recipe.dequantize)
            value = trainer.step(x, recipe.learning_rate(fraction))
            streak = 0 if math.isfinite(value) else streak + 1
            nats += [value] if not streak else []
            now = time.monotonic()
            at.seconds += now - last_tick
            last_tick = now
            if streak >= MAX_BAD_STEPS:
                raise InputError(
                    f"{out}: {streak} steps in a row had a non-finite likelihood or gradient", "lower initial_lr"
                )
            bar.n = round(100 * min(1.0, fraction), 1)
            if at.step % recipe.evaluate_steps == 0:
                names = ("step", "train", "test_raw", "test_dequantized")
                point = dict(zip(names, trainer.evaluate(nats), strict=True))
                log.write(point | {"seconds": round(at.seconds, 2)})
                bar.set_postfix_str(f"step {at.step}, test {point['test_dequantized']:.1f} nats")
                nats.clear()
            if not streak and now - last_save > SAVE_SECONDS:
                save_state(out, recipe, at, trainer.flow, trainer.optimizer)
                last_save = time.monotonic()
            last_tick = time.monotonic()  # neither is charged to the budget
        save_state(out, recipe, at, trainer.flow, trainer.optimizer)
    if stop:
        raise KeyboardInterrupt
    outcome = Outcome(trainer.flow, digits, measure(trainer, inception))
    for name, picture in (("curves.png", curve_picture(recipe, at)), ("samples.png", sample_picture(recipe, outcome))):
        write_bytes_atomic(picture, out / name, overwrite=True)
    log.write(outcome.result)
    write_bytes_atomic(json.dumps(outcome.result, indent=1).encode(), out / RESULT, overwrite=True)
    return outcome


def measure(trainer: GlowTrainer, inception: Path | None = None) -> dict[str, Any]:
    """The numbers of the dissertation's table 4.1 and what they are to be compared with."""
    recipe, digits, flow = trainer.recipe, trainer.digits, trainer.flow
    classifier = train_classifier(digits, recipe.seed)
    untrained = new_flow(recipe, digits)

    def samples(of: Glow) -> Tensor:
        return of.sample(SAMPLES, 1.0, torch.Generator().manual_seed(recipe.seed))

    trained = samples(flow)
    nats = dequantized_log_likelihood(flow, digits.test)
    result = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "steps": trainer.progress.step,
        "seconds": round(trainer.progress.seconds, 2),
        "parameters": sum(p.numel() for p in flow.parameters() if p.requires_grad),
        "log_likelihood": log_likelihood(flow, digits.test),
        "log_likelihood_train": log_likelihood(flow, digits.train),
        "log_likelihood_untrained": log_likelihood(untrained, digits.test),
        "log_likelihood_dequantized": nats,
        "bits_per_dimension": bits_per_dimension(nats, flow.config.size**2),
        "frechet": frechet(classifier, digits.test, trained),
        "samples_overflowing": overflowing(trained),
        "frechet_untrained": frechet(classifier, digits.test, samples(untrained)),
        "frechet_of_training_pictures": frechet(classifier, digits.test, digits.train),
        "classifier_accuracy": accuracy(classifier, digits),
    }
    if inception is not None:
        result["fid_inception_64"] = inception_frechet(inception, digits.test, trained)
    return result


def sample_picture(recipe: GlowRecipe, outcome: Outcome) -> bytes:
    """PNG of samples at the recipe's temperature."""
    generator = torch.Generator().manual_seed(recipe.seed)
    return grid(outcome.flow.sample(COLUMNS * ROWS, recipe.temperature, generator), COLUMNS)


def curve_picture(recipe: GlowRecipe, at: Progress) -> bytes:
    """PNG of the training's curves."""
    names = ("training batches", "test, raw values", "test, dequantised")
    lines = {name: [(p[0], p[index + 1]) for p in at.points] for index, name in enumerate(names)}
    return curves(lines, f"{recipe.name}: mean log-likelihood (nats)", "steps")
