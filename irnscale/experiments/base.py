"""What an experiment is, what it leaves in a file, and how a claim is judged."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from irnscale._version import __version__
from irnscale.columns import aligned
from irnscale.errors import InputError, OutputError, UsageError
from irnscale.evaluation.published import Published, published
from irnscale.images.atomic import write_bytes_atomic
from irnscale.jsontext import parsed

Scores = dict[str, float]
CONFIRMED, NOT_CONFIRMED = "confirmed", "not confirmed"


@dataclass(frozen=True)
class Setting:
    """What the command line said. data: to train on; val: to measure on; out: where runs and results are kept.

    full: the recipes as published. budget: steps or time of each training, instead of the experiment's own.
    """

    out: Path
    data: tuple[Path, ...] = ()
    val: tuple[Path, ...] = ()
    full: bool = False
    budget: str | None = None
    seeds: int = 2
    limit: int = 8
    say: Callable[[str], None] = lambda _: None

    def needs(self, *, training: bool) -> None:
        """Raise UsageError where folders are missing."""
        if not self.val:
            raise UsageError("no photographs to measure on", "add val=FOLDER", parameters=("val",))
        if training and not self.data:
            raise UsageError("no photographs to train on", "add data=FOLDER", parameters=("data",))


@dataclass
class TableRow:
    """A method and its scores; several seeds: means, and standard deviations (N - 1) by the same keys."""

    method: str
    scores: Scores
    deviations: Scores = field(default_factory=dict)
    seeds: int = 1

    @classmethod
    def of_seeds(cls, method: str, runs: Sequence[Scores]) -> TableRow:
        """Means and deviations of scores that all runs have."""
        keys = [k for k in runs[0] if all(k in r for r in runs)]
        means = {k: statistics.fmean(r[k] for r in runs) for k in keys}
        spread = {k: statistics.stdev([r[k] for r in runs]) for k in keys} if len(runs) > 1 else {}
        return cls(method, means, spread, len(runs))


@dataclass
class Judged:
    """A claim, whether it was confirmed, and the numbers that say so."""

    claim: str
    verdict: str
    because: str


@dataclass
class Result:
    """What an experiment found. `differs`: how this is not what the dissertation did. `notes`: lines for people."""

    name: str
    columns: dict[str, str]
    rows: list[TableRow]
    judged: list[Judged]
    differs: str
    notes: list[str] = field(default_factory=list)
    command: str = ""
    seconds: float = 0.0
    version: str = __version__

    def save(self, out: Path) -> None:
        """As `<out>/<name>.json`, replacing an older one. Raises OutputError."""
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{out}: cannot be made a folder: {error.strerror or error}") from error
        write_bytes_atomic(
            json.dumps(asdict(self), indent=1).encode() + b"\n", self.path(out, self.name), overwrite=True
        )

    @staticmethod
    def path(out: Path, name: str) -> Path:
        """The file of an experiment's result in the folder `out`."""
        return out / f"{name}.json"

    @classmethod
    def load(cls, out: Path, name: str) -> Result | None:
        """The result that an earlier run left; None where there is none. Raises InputError where it is damaged."""
        path = cls.path(out, name)
        try:
            values: dict[str, Any] = parsed(path.read_text(encoding="utf-8"))
            values["rows"] = [TableRow(**row) for row in values["rows"]]
            values["judged"] = [Judged(**one) for one in values["judged"]]
            return cls(**values)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"{path}: not the result of an experiment", "remove it and run the experiment again"
            ) from error


@dataclass(frozen=True)
class Experiment:
    """claims: what the dissertation says, by the place where it says it. published: rows of `assets/published.json`."""

    name: str
    where: str
    title: str
    claims: tuple[str, ...]
    run: Callable[[Setting], Result]
    trains: bool
    measures: bool = True
    published: Callable[[Published], bool] = lambda _: False

    @property
    def needs(self) -> dict[str, str]:
        """The fields of `Setting` that it cannot do without, each with what belongs there."""
        return {"data": "PHOTOS", "val": "OTHERS"} if self.trains else {"val": "PHOTOS"} if self.measures else {}

    def rows(self) -> list[Published]:
        """The published rows that stand beside ours."""
        return [row for row in published() if self.published(row)]


def judge(claim: str, difference: float, error: float, what: str, unit: str = "dB") -> Judged:
    """Confirmed where `difference` is above 0 by more than two standard errors; `what` names it.

    `error` is NaN where there is one seed alone, which confirms nothing.
    """
    if math.isnan(error):
        return Judged(claim, NOT_CONFIRMED, f"{what}: {difference:+.3f} {unit}, of one seed alone, which tells nothing")
    verdict = CONFIRMED if difference > 2 * error else NOT_CONFIRMED
    against = " (it is the other way round)" if difference < -2 * error else ""
    return Judged(claim, verdict, f"{what}: {difference:+.3f} ± {error:.3f} {unit}, standard error{against}")


def difference(one: TableRow, other: TableRow, key: str) -> tuple[float, float]:
    """one - other of a score, and its standard error over the seeds; NaN where a row has a single one."""
    value = one.scores[key] - other.scores[key]
    if min(one.seeds, other.seeds) < 2:
        return value, math.nan
    return value, math.sqrt(one.deviations[key] ** 2 / one.seeds + other.deviations[key] ** 2 / other.seeds)


def shown(result: Result, theirs: Sequence[Published]) -> str:
    """Our rows, the published ones below, the judgements and what differs, for a terminal."""
    lines = [["", *result.columns.values()]]
    for row in result.rows:
        lines.append([row.method + (f", {row.seeds} seeds" if row.seeds > 1 else ""), *(_cells(row, result.columns))])
    for other in theirs:
        cells = (number(k, other.scores.get(k)) for k in result.columns)
        where = f"{other.set} x{other.scale}" + ("" if other.codec == "png" else f", {other.codec}")
        lines.append([f"published, {where}: {other.method}", *cells])
    text = aligned(lines, words=1) if result.rows or theirs else []
    text += ["", *result.notes] if result.notes else []
    text += [""] + [f"{one.verdict}: {one.claim}\n    {one.because}" for one in result.judged]
    return "\n".join([*text, "", f"differs: {result.differs}"])


def _cells(row: TableRow, columns: dict[str, str]) -> list[str]:
    found = []
    for key in columns:
        cell = number(key, row.scores.get(key))
        found.append(cell + (f" ± {number(key, row.deviations[key])}" if key in row.deviations else ""))
    return found


def number(key: str, value: float | None) -> str:
    """A value of a table as text, with as many digits as a score of this name deserves; "-" where there is none."""
    if value is None or math.isnan(value):
        return "-"
    if "ssim" in key or ("psnr" not in key and 0 < abs(value) < 0.1):
        return f"{value:.4f}"
    return f"{value:.4g}" if abs(value) >= 1e4 else f"{value:.2f}"
