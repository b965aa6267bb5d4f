"""Sweeps: a grid and a Bayesian search on tiny runs, by one process and by two."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from training import CPU, TINY

from irnscale.errors import InputError, OutputError, UsageError
from irnscale.train import sweep as module
from irnscale.train.sweep import load_sweep, run_sweep

pytest.importorskip("optuna")
FIXED = {name: TINY.to_dict()[name] for name in ("inv_per_ds", "growth", "batch_size", "img_size", "precision")}


@pytest.fixture
def sweep_file(photos, tmp_path, monkeypatch):
    """A file of a sweep with some changes; its trials draw no curves, which would take longer than they do."""
    monkeypatch.setattr("irnscale.train.report.draw_curves", lambda *_: True)

    def make(**changes):
        content = {
            "recipe": "irn-x2",
            "data": [str(photos)],
            "val": [str(photos)],
            "out": str(tmp_path / "sweep"),
            "budget": "3",
            "fixed": FIXED | {"validate_limit": 1},
            **changes,
        }
        path = tmp_path / "sweep.yaml"
        path.write_text(json.dumps(content))
        return path

    return make


def sweep(path, say=lambda _: None) -> list[list[str]]:
    """The rows of the table."""
    table = run_sweep(load_sweep(path), device=CPU, progress=False, say=say)
    return [line.split() for line in table.splitlines()]


def test_a_grid_is_searched_once(sweep_file, tmp_path):
    path = sweep_file(method="grid", parameters={"initial_lr": [1e-3, 0.5], "zerosample": [True, False]})
    said: list[str] = []
    head, *rows = sweep(path, said.append)
    assert head[:2] == ["trial", "psnr_y"]
    assert len({tuple(row[2:]) for row in rows}) == len(rows) == 4
    scores = [float(row[1]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[-1] + 1
    assert rows[0][2] == "initial_lr=0.001", "a rate of 0.5 is worse"
    assert len(list((tmp_path / "sweep").glob("trial-*/report.md"))) == 4
    said.clear()
    assert sweep(path, said.append) == [head, *rows]
    assert said == [], "nothing is left to do"


def test_a_bayesian_search_stays_in_its_ranges(sweep_file):
    ranges = {"initial_lr": {"low": 1e-4, "high": 1e-2, "log": True}, "growth": {"low": 2, "high": 3}}
    _, *rows = sweep(sweep_file(trials=4, parameters=ranges | {"clamp_activation": ["sigmoid", "tanh"]}))
    assert len(rows) == 4
    for row in rows:
        values = dict(item.split("=") for item in row[2:])
        assert 1e-4 <= float(values["initial_lr"]) <= 1e-2
        assert values["growth"] in ("2", "3")
        assert values["clamp_activation"] in ("sigmoid", "tanh")
    assert len({row[2] for row in rows}) == 4


def test_what_cannot_be_trained_is_told(sweep_file):
    path = sweep_file(method="grid", parameters={"img_size": [16, 15]})
    _, good, bad = sweep(path)
    assert good[2] == "img_size=16"
    assert bad[1:3] == ["-", "img_size=15"]
    assert "divisible" in bad
    with pytest.raises(UsageError, match="no trial could be trained: img_size=15"):
        sweep(sweep_file(method="grid", out=str(path.parent / "b"), parameters={"img_size": [15]}))


@pytest.mark.parametrize("call", [2, 3])
def test_an_interrupted_trial_is_made_again(sweep_file, monkeypatch, call):
    """The first or the second; the first call is the look at the goal."""
    path = sweep_file(method="grid", parameters={"initial_lr": [1e-3, 2e-3]})
    run, calls = module.run, []

    def interrupted(*args, **options):
        calls.append(args)
        if len(calls) == call:
            raise KeyboardInterrupt
        return run(*args, **options)

    monkeypatch.setattr(module, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(path)
    _, *rows = sweep(path)
    assert sorted(row[2] for row in rows) == ["initial_lr=0.001", "initial_lr=0.002"]


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"method": "random"}, "bayesian"),
        ({"trials": 0}, "trials"),
        ({"data": []}, "data"),
        ({"parameters": {}}, "parameters"),
        ({"parameters": {"growht": [1]}}, "growht"),
        ({"parameters": {"growth": {"low": 3}}}, "low, high, log"),
        ({"parameters": {"growth": {"low": 3, "high": 2}}}, "below"),
        ({"parameters": {"budget": ["1", "2"]}}, "parameters: budget: all trials have the budget of the sweep"),
        ({"fixed": {"budget": "2"}}, "fixed: budget"),
        ({"parameters": {"initial_lr": {"low": 0, "high": 1, "log": True}}}, "low must be above 0"),
        ({"parameters": {"growth": {"low": "x", "high": 2}}}, "must be numbers"),
        ({"parameters": {"growth": {"low": 1, "high": 2, "log": "maybe"}}}, "log must be true or false"),
        ({"out": ""}, "out: an empty name"),
        ({"method": "grid", "parameters": {"growth": {"low": 1, "high": 2}}}, "list"),
        ({"colour": 1}, "unknown key 'colour' (`irnscale train sweep --help` lists all)"),
        ({"fixed": {"growht": 1}}, "did you mean growth"),
    ],
)
def test_impossible_sweeps_are_one_line(sweep_file, changes, word):
    with pytest.raises(UsageError) as error:
        sweep(sweep_file(**{"parameters": {"growth": [1, 2]}} | changes))
    assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_found_out_trains_no_trial(sweep_file, tmp_path):
    said: list[str] = []
    with pytest.raises(UsageError, match=r"goal=nosuch: no such validation score \(there are .*psnr_y"):
        sweep(sweep_file(goal="nosuch", parameters={"growth": [1, 2]}), said.append)
    assert said == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"out: .*file: cannot be made a folder: File exists"):
        sweep(sweep_file(out=str(tmp_path / "file"), parameters={"growth": [1, 2]}))


def test_no_sweep_without_its_file_or_optuna(sweep_file, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="cannot be read"):
        load_sweep(tmp_path / "none.yaml")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"irnscale\[sweep\]"):
        sweep(sweep_file(parameters={"growth": [1, 2]}))


@pytest.mark.slow
def test_two_processes_share_a_study(sweep_file, tmp_path):
    path = sweep_file(trials=4, parameters={"initial_lr": {"low": 1e-4, "high": 1e-2}})
    command = [sys.executable, "-m", "irnscale", "train", "sweep", str(path), "--no-progress", "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=environment) for _ in range(2)]
    results = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    said = [errors.count("photographs, 0 too small") for _, errors in results]
    assert 4 <= sum(said) <= 5, "a trial that was begun is ended"
    assert len(list((tmp_path / "sweep").glob("trial-*/report.md"))) == sum(said)
