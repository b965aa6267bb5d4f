"""FrEIA and PyTorch side by side over several seeds: the dissertation's table 4.1 and figures 4.1 and 4.2."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from irnscale.errors import UsageError
from irnscale.images.atomic import write_bytes_atomic
from irnscale.jsontext import parsed
from irnscale.networks.glow import Glow
from irnscale.train.checkpoints import checkpoints, load_sharded, load_state
from irnscale.train.config import Recipe, recipe_from_dict
from irnscale.train.glow.digits import Digits, load_digits
from irnscale.train.glow.metrics import SAMPLES, inception_frechet
from irnscale.train.glow.pictures import figure
from irnscale.train.loop import Say, run
from irnscale.train.monitor import RESULT
from irnscale.train.trainer import Trainer

CPU = torch.device("cpu")
UNIMPORTANT = {"name", "temperature", "validate_steps"}
"""Settings in which a run that is there may differ."""
REPEATS = 60
WARM_UP = 5
FIGURE_SAMPLES = 64


@dataclass(frozen=True)
class Comparison:
    """Per recipe, the results of its seeds: what `run` measured and, under `*_ms`, the times per picture."""

    results: dict[str, list[dict[str, Any]]]

    def mean(self, recipe: str, key: str) -> float:
        """The mean of a number over the seeds."""
        return statistics.fmean(r[key] for r in self.results[recipe])

    def spread(self, recipe: str, key: str) -> float:
        """Standard deviation over the seeds (N - 1); 0 of a single one."""
        values = [r[key] for r in self.results[recipe]]
        return statistics.stdev(values) if len(values) > 1 else 0.0


def compare(
    recipes: Sequence[Recipe],
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
    flows: dict[str, list[Glow]] = {recipe.run.name: [] for recipe in recipes}
    results: dict[str, list[dict[str, Any]]] = {recipe.run.name: [] for recipe in recipes}
    for number, (seed, recipe) in enumerate(product(range(seeds), recipes), 1):
        seeded = recipe.but(seed=seed)
        folder = out / f"{recipe.run.name}-seed{seed}"
        result = finished(seeded, folder)
        place = f"{folder.name}, training {number} of {seeds * len(recipes)}"
        say(f"{place}: {'done earlier' if result else f'budget {recipe.run.budget}'}")
        if result is None:
            run(seeded, data=[], out=folder, device=CPU, resume=True, report=False, progress=progress)
            result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            nats = result["log_likelihood_dequantized"]
            say(f"{place}: {nats:.1f} nats, Frechet {result['frechet']:.1f}, {result['seconds']:.0f} s")
        flow = trained(seeded, folder)
        if inception is not None and "fid_inception_64" not in result:
            samples = flow.sample(SAMPLES, 1.0, torch.Generator().manual_seed(seed))
            result["fid_inception_64"] = inception_frechet(inception, load_digits(seed).test, samples)
            write_bytes_atomic(json.dumps(result, indent=1).encode(), folder / RESULT, overwrite=True)
        flows[recipe.run.name].append(flow)
        results[recipe.run.name].append(result)
    say("timing them beside each other")
    for seed in range(seeds):
        beside = [(recipe.but(seed=seed), flows[recipe.run.name][seed]) for recipe in recipes]
        for name, times in time_side_by_side(beside).items():
            results[name][seed] |= times
    parts = {
        r.run.name: flows[r.run.name][0].sample(
            FIGURE_SAMPLES, r.to_dict()["temperature"], torch.Generator().manual_seed(0)
        )
        for r in recipes
    }
    parts["digits"] = load_digits(0).train[:FIGURE_SAMPLES]
    write_bytes_atomic(figure(parts), out / "samples.png", overwrite=True)
    write_bytes_atomic(json.dumps(results, indent=1).encode(), out / "table.json", overwrite=True)
    return Comparison(results)


def finished(recipe: Recipe, folder: Path) -> dict[str, Any] | None:
    """The result of the finished run in `folder`, None where there is none. Raises UsageError where a run there has
    other settings, ModelError where its state is damaged.
    """
    if not (kept := checkpoints(folder)):
        return None
    made_with = recipe_from_dict(load_state(kept[-1])["recipe"]).to_dict()
    for key, value in recipe.to_dict().items():
        if key not in UNIMPORTANT and made_with.get(key) != value:
            what = f"{folder}: was made with {key}={made_with.get(key)}, this run has {value}"
            raise UsageError(what, "remove it to start anew, or choose another `out`", parameters=("out",))
    try:
        result = parsed((folder / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # is measured anew
    return result if isinstance(result, dict) and "frechet" in result else None


def trained(recipe: Recipe, folder: Path) -> Glow:
    """The flow of the run in `folder`. Raises ModelError where its state is damaged."""
    flow = recipe.family.build(recipe.network)
    assert isinstance(flow, Glow)
    flow.load_state_dict(load_sharded(checkpoints(folder)[-1], "ema"))
    return flow.eval()


def time_side_by_side(flows: Sequence[tuple[Recipe, Glow]]) -> dict[str, dict[str, float]]:
    """By the names of the recipes, milliseconds per picture: medians of 60 calls that alternate between the flows, so
    that background load affects all of them equally.

    encode_ms: a picture alone to its latent and log-determinant. sample_ms: a latent alone to its picture. train_ms: a
    training step (forward, backward, update), divided by the pictures of its batch.
    """
    with TemporaryDirectory() as folder:
        calls = {r.run.name: _calls(r, flow, Path(folder) / r.run.name) for r, flow in flows}
    times: dict[str, dict[str, list[float]]] = {name: {key: [] for key in of} for name, of in calls.items()}
    for repeat in range(WARM_UP + REPEATS):
        for name, of in calls.items():
            for key, call in of.items():
                start = time.perf_counter()
                call()
                if repeat >= WARM_UP:
                    times[name][key].append(1e3 * (time.perf_counter() - start))
    medians = {name: {key: statistics.median(values) for key, values in of.items()} for name, of in times.items()}
    for recipe, _ in flows:
        medians[recipe.run.name]["train_ms"] /= recipe.data.batch_size
    return medians


def _calls(recipe: Recipe, flow: Glow, folder: Path) -> dict[str, Callable[[], object]]:
    seed = recipe.run.seed
    digits = recipe.data.open([], scale=1, seed=seed, device=CPU)
    assert isinstance(digits, Digits)
    one, z = digits.test[:1], torch.randn(1, *flow.config.dims)
    trainer = Trainer(recipe, out=folder, device=CPU)  # of its own: timing must not train the measured flow further
    batch = digits.batch(recipe.data.batch_size, seed=seed, step=0)
    trainer.prepare(batch)

    def encode() -> None:
        with torch.no_grad():
            flow.encode(one)

    def sample() -> None:
        with torch.no_grad():
            flow.decode(z)

    return {"encode_ms": encode, "sample_ms": sample, "train_ms": lambda: trainer.train_step(batch, 1e-6)}


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


def check_distinct(recipes: Sequence[Recipe]) -> None:
    """Two recipes of one name would share their folders. Raises UsageError."""
    names = [recipe.run.name for recipe in recipes]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two recipes are called {name}", "give one of them another name")
