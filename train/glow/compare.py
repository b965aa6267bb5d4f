"""FrEIA and PyTorch side by side over several seeds: the dissertation's table 4.1 and figures 4.1 and 4.2."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from irnscale.errors import UsageError
from irnscale.images.atomic import write_bytes_atomic
from irnscale.train.glow.digits import load_digits
from irnscale.train.glow.loop import RESULT, GlowTrainer, Outcome, Say, run
from irnscale.train.glow.metrics import SAMPLES, inception_frechet
from irnscale.train.glow.pictures import figure
from irnscale.train.glow.recipe import GlowRecipe
from irnscale.train.glow.state import NAME, load_state

REPEATS = 60
WARM_UP = 5
FIGURE_SAMPLES = 64


@dataclass(frozen=True)
class Comparison:
    """Per recipe, the results of its seeds: what `run` measured and, under `*_ms`, the times per picture."""

    results: dict[str, list[dict[str, Any]]]

    def mean(self, recipe: str, key: str) -> float:
        """Over the seeds."""
        return statistics.fmean(r[key] for r in self.results[recipe])

    def spread(self, recipe: str, key: str) -> float:
        """Standard deviation over the seeds (N - 1); 0 of a single one."""
        values = [r[key] for r in self.results[recipe]]
        return statistics.stdev(values) if len(values) > 1 else 0.0


def compare(
    recipes: Sequence[GlowRecipe],
    *,
    seeds: int,
    out: Path,
    inception: Path | None = None,
    progress: bool = True,
    say: Say = lambda _: None,
) -> Comparison:
    """Train every recipe with the seeds 0 to `seeds` - 1 in folders of `out`, and time them beside each other.

    Runs that are there and finished are taken as they are, unfinished ones go on; so an interrupted comparison loses
    at most 20 seconds. Writes `samples.png`, with one column of pictures per recipe and one of the data, and
    `table.json`. Raises what `run` raises.
    """
    outcomes: dict[str, list[Outcome]] = {recipe.name: [] for recipe in recipes}
    for number, (seed, recipe) in enumerate(product(range(seeds), recipes), 1):
        name = f"{recipe.name}-seed{seed}"
        seeded, folder = replace(recipe, seed=seed), out / name
        outcome = finished(seeded, folder, inception)
        place = f"{name}, training {number} of {seeds * len(recipes)}"
        say(f"{place}: {'done earlier' if outcome else f'budget {recipe.budget}'}")
        if outcome is None:
            resume = (folder / NAME).exists()
            options: dict[str, Any] = {"inception": inception, "progress": progress, "label": name, "say": say}
            outcome = run(seeded, out=folder, resume=resume, **options)
            nats = outcome.result["log_likelihood_dequantized"]
            say(f"{place}: {nats:.1f} nats, Frechet {outcome.result['frechet']:.1f}, {outcome.result['seconds']:.0f} s")
        outcomes[recipe.name].append(outcome)
    say("timing them beside each other")
    results = {name: [dict(o.result) for o in of] for name, of in outcomes.items()}
    for seed in range(seeds):
        flows = {recipe: outcomes[recipe.name][seed] for recipe in (replace(r, seed=seed) for r in recipes)}
        for recipe, times in time_side_by_side(flows).items():
            results[recipe.name][seed] |= times
    parts = {
        r.name: outcomes[r.name][0].flow.sample(FIGURE_SAMPLES, r.temperature, torch.Generator().manual_seed(0))
        for r in recipes
    }
    parts["digits"] = load_digits(0).train[:FIGURE_SAMPLES]
    write_bytes_atomic(figure(parts), out / "samples.png", overwrite=True)
    write_bytes_atomic(json.dumps(results, indent=1).encode(), out / "table.json", overwrite=True)
    return Comparison(results)


def finished(recipe: GlowRecipe, folder: Path, inception: Path | None = None) -> Outcome | None:
    """The finished run in `folder`, None where there is none. Raises UsageError where it has other settings.

    A result that is damaged, or lacks the FID that is asked for, is measured anew by `run`.
    """
    if not (folder / NAME).exists():
        return None
    digits = load_digits(recipe.seed)
    trainer = GlowTrainer(recipe, digits)
    load_state(folder, recipe, trainer.flow, budget=True)
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        if not isinstance(result, dict) or "frechet" not in result:
            return None
    except (OSError, ValueError):
        return None
    if inception is not None and "fid_inception_64" not in result:
        samples = trainer.flow.sample(SAMPLES, 1.0, torch.Generator().manual_seed(recipe.seed))
        result["fid_inception_64"] = inception_frechet(inception, digits.test, samples)
    return Outcome(trainer.flow, digits, result)


def time_side_by_side(outcomes: dict[GlowRecipe, Outcome]) -> dict[GlowRecipe, dict[str, float]]:
    """Milliseconds per picture, medians of 60 calls that alternate between the flows, so that all share the weather.

    encode_ms: a picture alone to its latent and log-determinant. sample_ms: a latent alone to its picture. train_ms: a
    training step (forward, backward, Adam), divided by the pictures of its batch.
    """
    calls: dict[GlowRecipe, dict[str, Callable[[], object]]] = {}
    for recipe, outcome in outcomes.items():
        calls[recipe] = _calls(recipe, outcome)
    times: dict[GlowRecipe, dict[str, list[float]]] = {r: {key: [] for key in of} for r, of in calls.items()}
    for repeat in range(WARM_UP + REPEATS):
        for recipe, of in calls.items():
            for key, call in of.items():
                start = time.perf_counter()
                call()
                if repeat >= WARM_UP:
                    times[recipe][key].append(1e3 * (time.perf_counter() - start))
    medians = {r: {key: statistics.median(values) for key, values in of.items()} for r, of in times.items()}
    for recipe, median in medians.items():
        median["train_ms"] /= recipe.batch_size
    return medians


def _calls(recipe: GlowRecipe, outcome: Outcome) -> dict[str, Callable[[], object]]:
    flow, digits = outcome.flow, outcome.digits
    one, z = digits.test[:1], torch.randn(1, *flow.config.dims)
    trainer = GlowTrainer(recipe, digits)  # of its own: timing must not train the measured flow further
    batch = digits.batch(recipe.batch_size, seed=recipe.seed, step=0, dequantize=recipe.dequantize)

    def encode() -> None:
        with torch.no_grad():
            flow.encode(one)

    def sample() -> None:
        with torch.no_grad():
            flow.decode(z)

    return {"encode_ms": encode, "sample_ms": sample, "train_ms": lambda: trainer.step(batch, 1e-6)}


def table(comparison: Comparison) -> str:
    """Aligned columns: mean over the seeds, and their standard deviation after it."""
    columns = {
        "log p(x) raw": ("log_likelihood", 1),
        "dequantised": ("log_likelihood_dequantized", 1),
        "bits/dim": ("bits_per_dimension", 3),
        "Frechet": ("frechet", 2),
        "untrained": ("frechet_untrained", 1),
        "real": ("frechet_of_training_pictures", 2),
        "overflow": ("samples_overflowing", 1),
        "FID": ("fid_inception_64", 2),
        "ms encode": ("encode_ms", 2),
        "ms sample": ("sample_ms", 2),
        "ms train": ("train_ms", 3),
    }
    present = {t: c for t, c in columns.items() if all(c[0] in r for of in comparison.results.values() for r in of)}
    lines = [["", *present]]
    for recipe in comparison.results:
        cells = [
            f"{comparison.mean(recipe, key):.{digits}f} ± {comparison.spread(recipe, key):.{digits}f}"
            for key, digits in present.values()
        ]
        lines.append([recipe, *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )


def check_distinct(recipes: Sequence[GlowRecipe]) -> None:
    """Two recipes of one name would share their folders. Raises UsageError."""
    names = [recipe.name for recipe in recipes]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two recipes are called {name}", "give one of them another name")
