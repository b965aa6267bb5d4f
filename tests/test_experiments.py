"""`irnscale evaluate experiment`: the dissertation's experiments, tiny."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from commandline import Run, runner
from conftest import synthetic_photo
from PIL import Image

from irnscale.errors import InputError, UsageError
from irnscale.experiments.base import CONFIRMED, NOT_CONFIRMED, Judged, Result, TableRow, difference, judge
from irnscale.experiments.comparisons import straight
from irnscale.experiments.page import elsewhere, page
from irnscale.experiments.registry import EXPERIMENTS, find_experiment
from irnscale.train.compare import Curve

TINY = ("--budget", "2", "--limit", "1")


@pytest.fixture
def run(capfdbinary, monkeypatch) -> Run:
    return runner(capfdbinary, monkeypatch)


def checkpoints(out: Path) -> list[str]:
    return sorted(str(path) for path in out.rglob("*Z_*"))


def test_the_registry_is_sound(run):
    names = [e.name for e in EXPERIMENTS]
    assert len(set(names)) == len(names) >= 15
    for experiment in EXPERIMENTS:
        assert experiment.claims
        assert find_experiment(experiment.name) is experiment
    with pytest.raises(UsageError, match="no experiment is called 'irn-9t'"):
        find_experiment("irn-9t")
    listed = run("evaluate", "experiment", "--list").text
    assert all(f"\n{name}: " in f"\n{listed}" for name in names)
    assert run("evaluate", "experiment").code == 2
    assert "experiment" in run("evaluate", "--help").text
    # What the issue wants to see beside ours is there.
    for name, method in (("irn-2t", "IRN-2T, dissertation"), ("irn-sr", "EDSR"), ("bicubic", "bicubic")):
        assert method in [row.method for row in find_experiment(name).rows()]


def test_a_claim_needs_more_than_two_standard_errors():
    one = TableRow.of_seeds("one", [{"x": 1.0}, {"x": 3.0}])
    assert (one.scores["x"], one.deviations["x"], one.seeds) == (2.0, pytest.approx(math.sqrt(2)), 2)
    other = TableRow.of_seeds("other", [{"x": -1.0}, {"x": 1.0}])
    value, error = difference(one, other, "x")
    assert (value, error) == (2.0, pytest.approx(math.sqrt(2)))
    assert judge("c", value, error, "w").verdict == NOT_CONFIRMED
    assert judge("c", 2.9, error, "w").verdict == CONFIRMED
    assert "other way round" in judge("c", -2.9, error, "w").because
    alone = difference(one, TableRow.of_seeds("alone", [{"x": 0.0}]), "x")
    assert math.isnan(alone[1])
    assert judge("c", *alone, "w").verdict == NOT_CONFIRMED


def test_results_are_kept(tmp_path):
    row = TableRow("m", {"psnr_y": 30.0}, {"psnr_y": 0.1}, 2)
    result = Result("irn-y", {"psnr_y": "PSNR"}, [row], [Judged("c", CONFIRMED, "b")], "all")
    result.save(tmp_path)
    assert Result.load(tmp_path, "irn-y") == result
    assert Result.load(tmp_path, "irn-c") is None
    (tmp_path / "irn-c.json").write_text('{"rows": 3}')
    with pytest.raises(InputError, match="not the result of an experiment"):
        Result.load(tmp_path, "irn-c")


def test_a_straight_line_over_the_logarithm():
    epochs = (1.0, 10.0, 100.0)
    slope, r2 = straight(Curve(Path(), epochs, (20.0, 23.0, 26.0), {}))
    assert slope == pytest.approx(3)
    assert r2 == pytest.approx(1)
    assert straight(Curve(Path(), epochs, (20.0, 26.0, 20.0), {}))[1] < 0.1


def test_the_sum_of_squares_is_the_likelihood_of_a_gaussian():
    """Appendix D.3: of a linear model, the least squares have no gradient of the likelihood, whatever its deviation."""
    x, target = torch.randn(40, 3, dtype=torch.float64), torch.randn(40, 2, dtype=torch.float64)
    best = torch.linalg.lstsq(x, target).solution.requires_grad_()
    for deviation in (0.1, 3.0):
        likelihood = torch.distributions.Normal(x @ best, deviation).log_prob(target).sum()
        (grad,) = torch.autograd.grad(likelihood, best)
        assert grad.abs().max() < 1e-9
    (elsewhere_,) = torch.autograd.grad(((x @ (best + 0.1) - target) ** 2).sum(), best)
    assert elsewhere_.abs().max() > 0.1


def test_variants_are_trained_once_and_kept(run, photos, tmp_path):
    command = ("evaluate", "experiment", "quantised-losses", "--data", photos, "--val", photos, "-o", tmp_path, *TINY)
    first = run(*command)
    assert first.code == 0, first.lines
    assert "quantised losses, 2 seeds" in first.text
    assert first.text.count("confirmed: ") == 2
    assert "differs: 1 coupling a level, of growth 8" in first.text
    runs = checkpoints(tmp_path)
    assert len(runs) == 4
    again = run(*command)
    assert again.text == first.text
    assert any("--again measures anew" in line for line in again.lines)
    (tmp_path / "quantised-losses.json").unlink()
    assert run(*command).text == first.text, "of the same trainings"
    assert checkpoints(tmp_path) == runs


@pytest.mark.slow
def test_tightness_has_curves_and_bounds(run, photos, tmp_path):
    places = ("--data", photos, "--val", photos, "-o", tmp_path)
    result = run("evaluate", "experiment", "irn-2t", *places, *TINY, "--seeds", "1", "--json")
    assert result.code == 0, result.lines
    values = json.loads(result.text)
    plain, tight = (row["scores"] for row in values["rows"])
    for scores in (plain, tight):
        assert scores["bound_up"] >= math.log10(scores["seen_up"]) - 1e-6
        assert scores["seen_down"] == pytest.approx(0.25, rel=0.2), "hardly trained: the Haar transform"
    assert all(one["verdict"] == NOT_CONFIRMED for one in values["judged"]), "one seed tells nothing"


@pytest.mark.slow
def test_after_jpeg_the_runs_of_others_are_taken(run, photos, tmp_path):
    places = ("--data", photos, "--val", photos, "-o", tmp_path)
    assert run("evaluate", "experiment", "irn-epochs", *places, *TINY, "--seeds", "1").code == 0
    runs = checkpoints(tmp_path)
    result = run("evaluate", "experiment", "irn-c", *places, *TINY, "--seeds", "1", "--json")
    assert result.code == 0, result.lines
    assert {"psnr_y_q90", "lr_psnr_y"} <= json.loads(result.text)["rows"][0]["scores"].keys()
    assert set(runs) < set(checkpoints(tmp_path))


@pytest.mark.slow
def test_super_resolution_in_three_ways(run, photos, tmp_path):
    places = ("--data", photos, "--val", photos, "-o", tmp_path)
    result = run("evaluate", "experiment", "irn-sr", *places, *TINY, "--seeds", "1", "--json")
    assert result.code == 0, result.lines
    rows = {row["method"]: row["scores"]["psnr_rgb"] for row in json.loads(result.text)["rows"]}
    assert len(rows) == 7
    assert rows["bicubic"] > 20
    assert rows["#1, assistant, A.3"] == pytest.approx(rows["#3, IRN as it is"], abs=1), "it starts as nothing"


def test_what_is_measured_without_training(run, tmp_path):
    folder = tmp_path / "Set5"
    folder.mkdir()
    for k in range(2):
        Image.fromarray(synthetic_photo(200, 200, k)).save(folder / f"{k}.png")
    for name, words in (
        ("bicubic", "published, Set5 x2: bicubic"),
        ("cheating-metrics", "confirmed: Two pictures may be identical"),
        ("rescaling", "confirmed: An IRN in FrEIA is within 3 dB"),
    ):
        result = run("evaluate", "experiment", name, "--val", folder, "-o", tmp_path / "out")
        assert result.code == 0, result.lines
        assert words in result.text
    bicubic = Result.load(tmp_path / "out", "bicubic")
    assert bicubic is not None
    assert bicubic.judged[0].verdict == NOT_CONFIRMED, "these are not the photographs of Set5"
    assert run("evaluate", "experiment", "bicubic", "-o", tmp_path / "new").code == 2, "nothing to measure on"
    assert run("evaluate", "experiment", "irn-y", "--val", folder, "-o", tmp_path / "new").code == 2, "nor to train on"
    assert run("evaluate", "experiment", "bicubic", "--val", tmp_path, "-o", tmp_path / "new").code in (1, 2)


def test_the_page_has_every_claim(run, tmp_path):
    row = TableRow("IRN", {"psnr_y": 30.0}, {"psnr_y": 0.1}, 2)
    Result("irn-y", {"psnr_y": "HR PSNR-Y"}, [row], [Judged("c", CONFIRMED, "b")], "all", command="irnscale x").save(
        tmp_path
    )
    target = tmp_path / "page.md"
    assert run("evaluate", "experiment", "--page", target, "-o", tmp_path).code == 0
    text = target.read_text()
    assert text == page(tmp_path)
    for experiment in EXPERIMENTS:
        assert f"## {experiment.name}\n" in text
        if experiment.name != "irn-y":
            assert all(f"{claim} | not run here" in text for claim in experiment.claims)
    assert "| IRN, 2 seeds | 30.00 ± 0.10 |" in text
    assert "| published, DIV2K x4: IRN-Y, dissertation | 35.25 |" in text
    assert len(elsewhere()) > 10
    assert all(one["claim"] in text for one in elsewhere())

    target.write_text(text + "of an older version")
    assert run("evaluate", "experiment", "--page", target, "-o", tmp_path).code == 0
    assert target.read_text() == text
    other = tmp_path / "letter.md"
    other.write_text("# To a friend\n")
    result = run("evaluate", "experiment", "--page", other, "-o", tmp_path)
    assert (result.code, len(result.lines)) == (5, 1)
    assert "letter.md: exists and is no page of experiments" in result.lines[0]
    assert other.read_text() == "# To a friend\n"


@pytest.mark.slow
def test_hcflow_beside_irn(run, photos, tmp_path):
    places = ("--data", photos, "--val", photos, "-o", tmp_path)
    result = run("evaluate", "experiment", "hcflow", *places, *TINY, "--seeds", "1", "--json")
    assert result.code == 0, result.lines
    values = json.loads(result.text)
    assert [row["method"] for row in values["rows"]] == ["IRN", "HCFlow"]
    for row in values["rows"]:
        assert {"psnr_y", "lr_psnr_y", "psnr_y_q90"} <= row["scores"].keys()
    published = [(row.method, row.codec) for row in find_experiment("hcflow").rows()]
    assert {("HCFlow", "png"), ("HCFlow", "jpg q90 4:2:0")} <= set(published)
