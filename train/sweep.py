"""Searching hyper-parameters: many short runs of one recipe, by a grid or by Bayesian optimisation.

Any number of processes may work on one study file; each takes the next trial. Section 3.3.2 of the
dissertation, with optuna in the place of the service it used.
"""

from __future__ import annotations

import itertools
import json
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from irnscale.errors import InputError, OutputError, UsageError
from irnscale.train.config import load_recipe
from irnscale.train.keys import parse_dataclass
from irnscale.train.loop import run
from irnscale.train.report import read_log, score_names, series, validations

if TYPE_CHECKING:
    import optuna

METHODS = ("bayesian", "grid")
STUDY = "study.log"
HELP = "`irnscale train sweep --help`"

Say = Callable[[str], None]


@dataclass(frozen=True)
class SweepFile:
    """What a sweep file says.

    recipe: a shipped recipe's name or a YAML file. data, val: folders, as for `irnscale train`. out: folder of
    the trials' runs and the study. budget: of each trial. method: "bayesian" (the tree-structured Parzen
    estimator) or "grid". trials: how many in all, by all processes; a grid has its own number.
    goal: the validation score to maximise. parameters: a list of values, or for "bayesian" also a range
    {low, high, log}, for each key of the recipe that varies. fixed: other changes of the recipe.
    """

    recipe: str = "irn-x4"
    data: list[str] = field(default_factory=list)
    val: list[str] = field(default_factory=list)
    out: str = "runs/sweep"
    budget: str = "10m"
    method: str = "bayesian"
    trials: int = 20
    goal: str = "psnr_y"
    parameters: dict[str, Any] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise UsageError for a sweep that cannot be made."""
        if self.method not in METHODS:
            raise UsageError(f"method={self.method} must be one of {', '.join(METHODS)}")
        if self.trials < 1:
            raise UsageError(f"trials={self.trials} must be at least 1")
        for name in ("data", "val", "parameters"):
            if not getattr(self, name):
                raise UsageError(f"{name}: is missing", f"see {HELP}")
        for name, choice in self.parameters.items():
            if isinstance(choice, list) and choice:
                continue
            if self.method == "grid":
                raise UsageError(f"parameters: {name}: a grid needs a list of values")
            if not isinstance(choice, dict) or not {"low", "high"} <= choice.keys() <= {"low", "high", "log"}:
                raise UsageError(f"parameters: {name}: must be a list of values or {{low, high, log}}")
            _check_range(name, choice["low"], choice["high"], choice.get("log", False))
        if not self.out:
            raise UsageError("out: an empty name", "give a folder")
        for where, keys in (("parameters", self.parameters), ("fixed", self.fixed)):
            if "budget" in keys:
                raise UsageError(f"{where}: budget: all trials have the budget of the sweep", "leave it out there")

    @property
    def folders(self) -> dict[str, Any]:
        """What trials are trained and validated on, as `run` takes it."""
        return {"data": [Path(path) for path in self.data], "val": [Path(path) for path in self.val]}

    def overrides(self, chosen: dict[str, Any]) -> list[str]:
        """The recipe's changes for one trial."""
        values = self.fixed | chosen | {"budget": self.budget}
        return [f"{name}={json.dumps(value)}" for name, value in values.items()]


def _check_range(name: str, low: object, high: object, log: object) -> None:
    """Raise UsageError for what no numbers can be taken from."""
    numbers = [value for value in (low, high) if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) != 2:
        raise UsageError(f"parameters: {name}: low and high must be numbers")
    if not isinstance(log, bool):
        raise UsageError(f"parameters: {name}: log must be true or false, not {log}")
    if not numbers[0] < numbers[1] < math.inf:
        raise UsageError(f"parameters: {name}: low must be below high")
    if log and numbers[0] <= 0:
        raise UsageError(f"parameters: {name}: low must be above 0 where log is true")


def load_sweep(source: Path) -> SweepFile:
    """A sweep from its YAML file. Raises InputError, UsageError."""
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}", "give a YAML file"
        ) from error
    return parse_dataclass(SweepFile, str(source), text, listed_by=HELP)


def run_sweep(sweep: SweepFile, *, device: torch.device, progress: bool, say: Say) -> str:
    """Work on the study until all trials are done; returns the table of results, best first.

    A trial that cannot be trained (keys that contradict each other, a loss that diverges) is recorded as
    such and the sweep goes on. Raises UsageError without optuna, for a key the recipe does not know, a goal that
    validations do not have, and where nothing could be trained; OutputError where `out` cannot be made;
    KeyboardInterrupt leaves the trial to the next process.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise UsageError("a sweep needs optuna", "pip install 'irnscale[sweep]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # below, it shows tracebacks of what is raised here anyway
    known = load_recipe(sweep.recipe, sweep.overrides({})).to_dict()
    for name in sweep.parameters:
        if name not in known:
            raise UsageError(f"parameters: {name}: the recipe {sweep.recipe} has no such key")
    out = Path(sweep.out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"out: {out}: cannot be made a folder: {error.strerror}", "choose another") from error
    lists = {name: choice for name, choice in sweep.parameters.items() if isinstance(choice, list)}
    grid = sweep.method == "grid"
    sampler = optuna.samplers.TPESampler(constant_liar=True, n_startup_trials=min(10, 1 + sweep.trials // 3))
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(out / STUDY))),
        sampler=sampler,
        study_name="sweep",
        direction="maximize",
        load_if_exists=True,
    )
    points = [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())] if grid else []
    total = len(points) or sweep.trials
    done = [optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED]
    trials = study.get_trials()
    interrupted = [trial for trial in trials if trial.state == optuna.trial.TrialState.FAIL]
    there = [_chosen(trial) for trial in trials if trial not in interrupted]
    for point in points or map(_chosen, interrupted):  # all of a grid, without its sampler, which loses what failed
        if point and point not in there:
            study.enqueue_trial(point)
            there.append(point)

    def train(trial: optuna.Trial) -> float:
        chosen = {name: _suggest(trial, name, choice) for name, choice in sweep.parameters.items()}
        say(f"trial {trial.number}: {_described(chosen)}")
        folder = out / f"trial-{trial.number:04d}"
        try:
            recipe = load_recipe(sweep.recipe, sweep.overrides(chosen))
            run(
                recipe,
                **sweep.folders,
                out=folder,
                device=device,
                progress=progress,
                say=lambda message: say(f"trial {trial.number}: {message}"),
            )
        except (UsageError, InputError) as error:
            say(f"trial {trial.number}: {error}")
            trial.set_user_attr("error", str(error))
            raise optuna.TrialPruned from error
        return _score(folder, sweep.goal)

    if not study.get_trials(states=done):
        _check_goal(sweep, device)
    if len(study.get_trials(states=done)) < total:
        # The callback looks at the trials of all processes, after each.
        study.optimize(train, callbacks=[optuna.study.MaxTrialsCallback(total, states=tuple(done))])
    return _table(study, sweep)


def _chosen(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    """The parameters of a trial, also where it waits for its turn."""
    chosen: dict[str, Any] = trial.system_attrs.get("fixed_params", trial.params)
    return chosen


def _score(run: Path, goal: str) -> float:
    """The last of a run. Raises UsageError where it has none of that name."""
    records = read_log(run)
    _, values = series(records, goal)
    if not values:
        known = ", ".join(score_names(validations(records)))
        raise UsageError(f"goal={goal}: no such validation score", f"there are {known}" if known else "")
    return values[-1]


def _check_goal(sweep: SweepFile, device: torch.device) -> None:
    """Raise UsageError where a validation, after a single step, has no such score: before any trial is trained."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            recipe = load_recipe(sweep.recipe, sweep.overrides({})).but(budget="1")
            run(recipe, **sweep.folders, out=Path(folder), device=device, progress=False, report=False)
        except (UsageError, InputError):
            return  # the parameters may be what it lacks; trials tell
        _score(Path(folder), sweep.goal)


def _suggest(trial: optuna.Trial, name: str, choice: Any) -> Any:
    if isinstance(choice, list):
        return trial.suggest_categorical(name, choice)
    low, high, log = choice["low"], choice["high"], bool(choice.get("log", False))
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, low, high, log=log)


def _described(values: dict[str, Any]) -> str:
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())


def _table(study: optuna.Study, sweep: SweepFile) -> str:
    """Lines of trial, score and parameters, best first. Raises UsageError where no trial has a score."""
    trials = study.get_trials()
    scored = sorted((t for t in trials if t.value is not None), key=lambda t: -(t.value or 0.0))
    failed = [t for t in trials if "error" in t.user_attrs]
    if not scored:
        raise UsageError(f"no trial could be trained: {failed[-1].user_attrs['error'] if failed else 'none was run'}")
    lines = [f"{'trial':>5}  {sweep.goal:>8}  parameters"]
    lines += [f"{t.number:5d}  {t.value:8.3f}  {_described(t.params)}" for t in scored]
    lines += [f"{t.number:5d}  {'-':>8}  {_described(t.params)}  {t.user_attrs['error']}" for t in failed]
    return "\n".join(lines)
