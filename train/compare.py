"""Several runs beside each other: a score over epochs, seeds of one recipe as mean and standard deviation.

What the dissertation's figures 4.4 and 4.5 show of one run each, "in an ideal world averaged across multiple training
runs" (its own warning).
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from irnscale.columns import aligned
from irnscale.errors import InputError, UsageError
from irnscale.train.config import recipe_from_dict
from irnscale.train.report import Record, read_log, score_names, term_names, validations

NO_MATTER = (
    "seed",
    "checkpoint_minutes",
    "checkpoint_compact",
    "validate_minutes",
    "validate_steps",
    "alert_loss",
    "challenge_factor",
    "save_memory",
    "cuda_graph",
)
"""Settings in which runs of one recipe may differ: they do not change what is learnt, or are its repetition."""


@dataclass(frozen=True)
class Curve:
    """One score of one run: `epochs`, rising, and `values`, in the score's unit (PSNR: dB); whether lower is better."""

    run: Path
    epochs: tuple[float, ...]
    values: tuple[float, ...]
    recipe: Record
    lower: bool = False

    def at(self, epochs: np.ndarray) -> np.ndarray:
        """The values at `epochs` within the curve, linear between its points in the logarithm of epochs."""
        found: np.ndarray = np.interp(np.log(epochs), np.log(self.epochs), self.values)
        return found


@dataclass(frozen=True)
class Group:
    """Runs that differ in their seeds alone."""

    label: str
    curves: tuple[Curve, ...]

    @property
    def sign(self) -> int:
        """What makes a higher value of the score a better one: -1 of losses, else 1."""
        return -1 if any(curve.lower for curve in self.curves) else 1

    @property
    def epochs(self) -> np.ndarray:
        """Where any run has a point, from where all have begun to where the first ends; empty where none is."""
        first, last = max(c.epochs[0] for c in self.curves), min(c.epochs[-1] for c in self.curves)
        return np.array(sorted({e for c in self.curves for e in c.epochs if first <= e <= last}))

    def mean(self, epochs: np.ndarray) -> np.ndarray:
        """Over the runs, at `epochs`."""
        found: np.ndarray = np.mean([c.at(epochs) for c in self.curves], axis=0)
        return found

    def deviation(self, epochs: np.ndarray) -> np.ndarray:
        """Standard deviation over the runs (N - 1), at `epochs`; 0 of a single one."""
        if len(self.curves) == 1:
            return np.zeros(len(epochs))
        found: np.ndarray = np.std([c.at(epochs) for c in self.curves], axis=0, ddof=1)
        return found

    def reached(self, value: float) -> float:
        """The epochs after which the mean first is as good as `value`, between two points; NaN where it never is."""
        epochs = self.epochs
        mean = self.mean(epochs)
        good = np.flatnonzero(self.sign * mean >= self.sign * value)
        if not len(good):
            return math.nan
        k = int(good[0])
        if k == 0:
            return float(epochs[0])
        part = (value - mean[k - 1]) / (mean[k] - mean[k - 1])
        return float(np.exp(np.log(epochs[k - 1]) + part * (np.log(epochs[k]) - np.log(epochs[k - 1]))))


def curve_of(run: Path, score: str) -> Curve:
    """A number of the log of a run, finished or not, over epochs.

    Validations are logged by step; their epochs follow from the records of the steps around them, which have both.
    Raises InputError where there is no log, UsageError where it has no such number.
    """
    records = read_log(run)
    recipes = [r["recipe"] for r in records if "recipe" in r]
    known = {r["step"]: r["epoch"] for r in records if _number(r.get("epoch")) and r.get("step")}
    points = {r["step"]: r[score] for r in records if _number(r.get(score)) and r.get("step")}
    if not recipes or not known:
        raise InputError(f"{run}: its log.jsonl has no recipe, or no 20 steps yet", "compare runs of `irnscale train`")
    if not points:
        names = sorted(score_names(validations(records)))
        hint = (
            f"it has {', '.join(names)}; name what all runs have with `score`"
            if names
            else "it was not validated yet: train with `val`"
        )
        raise UsageError(f"{run}: no {score} in its log", hint, parameters=("score", "val"))
    steps = sorted(points)
    marks = sorted(known)
    # Before the first record and after the last the epochs go on as there.
    epochs = [
        float(np.interp(s, [0, *marks], [0.0, *(known[m] for m in marks)]))
        if s <= marks[-1]
        else s * known[marks[-1]] / marks[-1]
        for s in steps
    ]
    # Bits per dimension are a validation's score, too.
    lower = score in {"loss", *term_names(records)} or score.startswith("bits")
    return Curve(run, tuple(epochs), tuple(float(points[s]) for s in steps), _as_now(recipes[-1]), lower)


def _as_now(recipe: Record) -> Record:
    """A recipe with the keys that this version would record, so that runs of two versions can be of one recipe."""
    try:
        return recipe_from_dict(recipe).to_dict()
    except UsageError:
        return recipe


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def groups_of(curves: Sequence[Curve]) -> list[Group]:
    """Runs of one recipe together, in the order given. Labels are the recipes' names, with what differs where two of
    one name differ."""
    kinds: dict[str, list[Curve]] = {}
    for curve in curves:
        kinds.setdefault(json.dumps(_matter(curve.recipe), sort_keys=True), []).append(curve)
    settings = [json.loads(key) for key in kinds]
    found = []
    for own, members in zip(settings, kinds.values(), strict=True):
        label = str(own.get("name", "run"))
        others = [s for s in settings if s is not own and s.get("name") == own.get("name")]
        differing = [k for k in own if any(s.get(k) != own[k] for s in others)]
        if differing:
            label += f" ({', '.join(f'{k}={_word(own[k])}' for k in differing)})"
        found.append(Group(label, tuple(members)))
    for group in found:
        if not len(group.epochs):
            raise UsageError(
                f"{group.label}: its runs have no epochs in common", "compare seeds that were trained equally long"
            )
    return found


def _matter(recipe: Record) -> Record:
    return {k: v for k, v in recipe.items() if k not in NO_MATTER}


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def rows_of(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """A row per group: where it ends, where it is best, and what allows to compare groups of different lengths.

    `at_common`: after as many epochs as all groups have, `common_epochs`; `epochs_to_goal`: until the mean reaches the
    best value that all groups reach, `goal`; standard deviations over runs as `*_sd`. None where there is none.
    """
    common = min(float(g.epochs[-1]) for g in groups)
    sign = min(group.sign for group in groups)
    goal = sign * min(float((sign * g.mean(g.epochs)).max()) for g in groups)
    rows: list[dict[str, Any]] = []
    for group in groups:
        epochs = group.epochs
        mean, deviation = group.mean(epochs), group.deviation(epochs)
        best = int((sign * mean).argmax())
        here = np.array([common]) if common >= epochs[0] else None
        row = {
            "recipe": group.label,
            "runs": [str(c.run) for c in group.curves],
            "seeds": [c.recipe.get("seed") for c in group.curves],
            "epochs": float(epochs[-1]),
            "last": float(mean[-1]),
            "last_sd": float(deviation[-1]),
            "best": float(mean[best]),
            "best_sd": float(deviation[best]),
            "best_epochs": float(epochs[best]),
            "common_epochs": common,
            "at_common": None if here is None else float(group.mean(here)[0]),
            "at_common_sd": None if here is None else float(group.deviation(here)[0]),
            "goal": goal,
            "epochs_to_goal": group.reached(goal),
        }
        rows.append({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
    return rows


def table(rows: Sequence[dict[str, Any]], score: str) -> str:
    """What `rows_of` found as aligned columns of text, for people."""
    goal, common = rows[0]["goal"], rows[0]["common_epochs"]
    lines = [
        [score, "runs", "epochs", "last", "best", "after epochs", f"after {common:.4g}", f"epochs to {goal:.4f}"],
        *(
            [
                row["recipe"],
                str(len(row["runs"])),
                f"{row['epochs']:.4g}",
                _spread(row, "last"),
                _spread(row, "best"),
                f"{row['best_epochs']:.4g}",
                _spread(row, "at_common"),
                "-" if row["epochs_to_goal"] is None else f"{row['epochs_to_goal']:.4g}",
            ]
            for row in rows
        ),
    ]
    return "\n".join(aligned(lines, words=1))


def _spread(row: dict[str, Any], key: str) -> str:
    if row[key] is None:
        return "-"
    return f"{row[key]:.4f}" + (f" ± {row[f'{key}_sd']:.4f}" if len(row["runs"]) > 1 else "")


def points_as_csv(groups: Sequence[Group], score: str) -> bytes:
    """Every point of every run: recipe, run, seed, epoch, score."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["recipe", "run", "seed", "epoch", score])
    for group in groups:
        for curve in group.curves:
            for epoch, value in zip(curve.epochs, curve.values, strict=True):
                writer.writerow([group.label, curve.run, curve.recipe.get("seed"), epoch, value])
    return text.getvalue().encode()
