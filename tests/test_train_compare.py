"""`irnscale train compare`: several runs over epochs, seeds as mean and standard deviation."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
from commandline import Run, runner
from training import TINY, records, train

from irnscale.errors import InputError, UsageError
from irnscale.train import compare
from irnscale.train.config import load_recipe
from irnscale.train.loop import validation_due


@pytest.fixture
def run(capfdbinary, monkeypatch) -> Run:
    return runner(capfdbinary, monkeypatch)


def log(folder: Path, points: dict[int, float], *, per_step: float = 0.5, **recipe) -> Path:
    """A run's log: validations at steps, and records of steps, which alone have epochs."""
    folder.mkdir(parents=True)
    lines = [{"run": "a", "from_step": 0, "recipe": {"name": "irn", "seed": 1} | recipe}]
    lines += [{"step": s, "psnr_y": v} for s, v in points.items()]
    lines += [{"step": s, "loss": 1.0, "epoch": s * per_step} for s in range(20, max(points), 20)]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_epochs_of_validations_follow_from_the_steps_around(tmp_path):
    curve = compare.curve_of(log(tmp_path / "a", {10: 20.0, 30: 25.0, 95: 30.0}), "psnr_y")
    np.testing.assert_allclose(curve.epochs, [5, 15, 47.5])
    assert curve.values == (20.0, 25.0, 30.0)
    # Linear in the logarithm of epochs.
    assert curve.at(np.array([math.sqrt(5 * 15)]))[0] == pytest.approx(22.5)


def test_runs_of_older_versions_are_of_the_same_recipe(tmp_path):
    """Which recorded keys that meant nothing for them, and lacked some."""
    points = {20: 20.0, 40: 30.0}
    old = {"family": None, "network": {}, "blocks": 0, "channels": 48, "lambda_a1": 0.0, "scale": 4, "noise_levels": 0}
    now = load_recipe("irn-x4", ["name=irn"]).to_dict()
    published = {key: now[key] for key in ("zerosample", "schedule", "lr_milestones", "budget", "ema", "batch_size")}
    recorded = {"old": old | published | {"seed": 2}, "new": now | {"seed": 3}}
    runs = [log(tmp_path / name, points, **recipe) for name, recipe in recorded.items()]
    (group,) = compare.groups_of([compare.curve_of(run, "psnr_y") for run in runs])
    assert (group.label, len(group.curves)) == ("irn", 2)


def test_seeds_become_mean_and_standard_deviation(tmp_path):
    points = {20: 20.0, 40: 30.0, 80: 32.0}
    runs = [log(tmp_path / f"s{seed}", {s: v + seed for s, v in points.items()}, seed=seed) for seed in (1, 2, 3)]
    other = log(tmp_path / "tight", {20: 24.0, 40: 31.0}, seed=1, clamp_tightness=2.0)
    groups = compare.groups_of([compare.curve_of(run, "psnr_y") for run in [*runs, other]])
    assert [len(g.curves) for g in groups] == [3, 1]
    assert groups[1].label == "irn (clamp_tightness=2.0)"
    first = groups[0]
    np.testing.assert_allclose(first.mean(first.epochs), [22, 32, 34])
    np.testing.assert_allclose(first.deviation(first.epochs), [1, 1, 1])
    one, two = compare.rows_of(groups)
    assert (one["last"], one["last_sd"], one["seeds"]) == (34, 1, [1, 2, 3])
    assert one["common_epochs"] == two["common_epochs"] == 20
    assert (one["at_common"], two["at_common"]) == (32, 31)
    assert one["goal"] == 31
    assert two["epochs_to_goal"] == pytest.approx(20)
    # 22 dB after 10 epochs and 32 after 20: 31 is nine tenths of the way, in the logarithm.
    assert one["epochs_to_goal"] == pytest.approx(10 * 2**0.9)
    text = compare.table([one, two], "psnr_y")
    assert "34.0000 ± 1.0000" in text


def test_runs_of_different_lengths_meet_where_all_are(tmp_path):
    long = log(tmp_path / "long", {10: 1.0, 20: 2.0, 80: 4.0}, seed=1)
    short = log(tmp_path / "short", {20: 4.0, 40: 5.0}, seed=2)
    (group,) = compare.groups_of([compare.curve_of(path, "psnr_y") for path in (long, short)])
    np.testing.assert_allclose(group.epochs, [10, 20])
    np.testing.assert_allclose(group.mean(group.epochs), [3, 4])  # 40 is half way from 20 to 80
    apart = log(tmp_path / "apart", {200: 4.0}, seed=3)
    with pytest.raises(UsageError, match="no epochs in common"):
        compare.groups_of([compare.curve_of(path, "psnr_y") for path in (short, apart)])


def test_a_value_that_is_never_reached_is_said_so(tmp_path):
    curves = [compare.curve_of(log(tmp_path / "a", {20: 3.0, 40: 2.0}), "psnr_y")]
    (group,) = compare.groups_of(curves)
    assert math.isnan(group.reached(3.5))
    assert group.reached(2.5) == 10
    (row,) = compare.rows_of([group])
    assert (row["best"], row["best_epochs"], row["last"]) == (3.0, 10, 2.0)


@pytest.mark.parametrize("score", ["loss", "recon", "bits"])
def test_of_losses_the_lowest_is_the_best(tmp_path, score):
    runs = []
    for name, values in (("a", [9.0, 3.0, 5.0]), ("b", [9.0, 6.0, 4.0])):
        runs.append(log(tmp_path / name, {20: 30.0}, name=name))
        lines = [
            {"step": 20 * 2**n, "loss": v, score: v, "grad_norm": 1.0, "epoch": n + 1} for n, v in enumerate(values)
        ]
        with (runs[-1] / "log.jsonl").open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
    one, two = compare.rows_of(compare.groups_of([compare.curve_of(path, score) for path in runs]))
    assert (one["best"], two["best"], one["goal"]) == (3.0, 4.0, 4.0)
    assert one["epochs_to_goal"] < two["epochs_to_goal"]
    assert two["epochs_to_goal"] == pytest.approx(two["best_epochs"])


def test_logs_without_what_is_asked_for(tmp_path):
    with pytest.raises(InputError, match=r"no log\.jsonl"):
        compare.curve_of(tmp_path, "psnr_y")
    with pytest.raises(
        UsageError, match=r"no ssim_y in its log \(it has psnr_y; name what all runs have with `score`\)"
    ):
        compare.curve_of(log(tmp_path / "a", {20: 3.0, 40: 2.0}), "ssim_y")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "log.jsonl").write_text('{"run": "x", "from_step": 0}\n{"step": 20, "loss": ')
    with pytest.raises(InputError, match="no recipe"):
        compare.curve_of(tmp_path / "b", "psnr_y")


@pytest.mark.parametrize(
    ("every", "due"), [(8, [1, 2, 4, 8, 16, 24]), (5, [1, 2, 4, 5, 10, 15, 20]), (1, list(range(1, 25)))]
)
def test_validation_at_fixed_steps(every, due):
    recipe = TINY.but(validate_steps=every, validate_minutes=0.0)
    assert [s for s in range(1, 25) if validation_due(recipe, s, 1e9)] == due
    assert validation_due(TINY, 3, 60 * TINY.run.validate_minutes + 1)
    assert not validation_due(TINY, 3, 60 * TINY.run.validate_minutes - 1)


def test_real_runs_on_the_command_line(run, photos, tmp_path):
    recipe = TINY.but(budget="24", validate_steps=8)
    tight = recipe.but(name="tight", clamp_tightness=2.0)
    runs = []
    for name, which in (("a", recipe), ("b", recipe.but(seed=11)), ("c", tight)):
        train(tmp_path / name, photos, which, val=[photos])
        runs.append(tmp_path / name)
    assert [r["step"] for r in records(runs[0]) if "psnr_y" in r] == [1, 2, 4, 8, 16, 24], "the last one once"
    result = run("train", "compare", *runs, "--json", "--csv", tmp_path / "points.csv", "--plot", tmp_path / "c.svg")
    assert result.code == 0, result.lines
    rows = [json.loads(line) for line in result.text.splitlines()]
    assert [(row["recipe"], len(row["runs"])) for row in rows] == [("tiny", 2), ("tight", 1)]
    assert rows[0]["epochs"] == pytest.approx(24 * 2 / 3)
    last = [[r for r in records(path) if "psnr_y" in r][-1]["psnr_y"] for path in runs]
    assert rows[0]["last"] == pytest.approx(np.mean(last[:2]))
    assert rows[0]["last_sd"] == pytest.approx(np.std(last[:2], ddof=1))
    with (tmp_path / "points.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 18
    svg = (tmp_path / "c.svg").read_text()
    assert "tiny, 2 runs" in svg
    assert "tight" in svg
    assert run("train", "compare", *runs, "--plot", tmp_path / "c.svg").code == 5, "nothing is replaced unasked"
    assert run("train", "compare", *runs, "--plot", tmp_path / "c.svg", "--overwrite").code == 0
    assert (tmp_path / "c.svg").read_text() == svg
    for again in (runs[0], runs[1] / ".." / runs[0].name):
        assert run("train", "compare", runs[0], again).code == 2
    both = tmp_path / "both.svg"
    assert run("train", "compare", runs[0], "--plot", both, "--csv", both).code == 5
    assert not both.exists()
    assert run("train", "compare", runs[0], "--plot", tmp_path / "c.gif").code == 2
