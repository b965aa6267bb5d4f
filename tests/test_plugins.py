"""An objective and a score of another distribution are found by name and go all the way without an edit."""

from __future__ import annotations

import json

import pytest
import torch
from commandline import runner
from conftest import synthetic_photo
from PIL import Image
from safetensors.torch import load_file
from training import CPU, TINY, batch, train

from irnscale.errors import UsageError
from irnscale.metrics.scores import chosen
from irnscale.train.checkpoints import checkpoints, load_sharded
from irnscale.train.config import load_recipe
from irnscale.train.objective import objective_of
from irnscale.train.trainer import Trainer
from irnscale.zoo import find


@pytest.fixture
def run(capfdbinary, monkeypatch):
    return runner(capfdbinary, monkeypatch)


@pytest.fixture(autouse=True)
def _toys(tmp_path, monkeypatch):
    """A distribution that names the toys among its entry points."""
    home = tmp_path / "site" / "toys-1.dist-info"
    home.mkdir(parents=True)
    (home / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1\n")
    (home / "entry_points.txt").write_text(
        "[irnscale.objectives]\ntoy_adversarial = toy_objective:OBJECTIVE\nlame = toy_objective:NONE\n"
        "[irnscale.scores]\ntint = toy_score:score\n"
    )
    monkeypatch.syspath_prepend(home.parent)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(2):
        Image.fromarray(synthetic_photo(40, 32, seed=seed)).save(folder / f"{seed}.png")
    return folder


def test_an_objective_is_trained_and_exported(run, photos, tmp_path, monkeypatch):
    """Two steps by `irnscale train`; the model that comes of it is the network alone."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: mine\nobjective: toy_adversarial\nscale: 2\ninv_per_ds: 1\ngrowth: 4\njudge_lr: 0.01\n")
    small = ("batch_size=2", "img_size=16", "lambda_judge=0.2")
    options = ("--data", photos, "--val", photos, "--device", "cpu", "--no-progress")
    out = tmp_path / "run"
    result = run("train", recipe, *small, *options, "--out", out, "--budget", "2")
    assert result.code == 0, result.lines
    assert any("psnr_y" in line for line in result.lines)
    records = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert (records[0]["recipe"]["objective"], records[0]["recipe"]["judge_lr"]) == ("toy_adversarial", 0.01)
    assert any({"loss", "fooled", "judge"} <= record.keys() for record in records)
    assert run("models", "export", out, "--name", "tiny").code == 0
    assert not [name for name in load_file(find("tiny").weights) if "judge" in name]


@pytest.mark.parametrize("save_memory", [False, True])
def test_players_follow_their_own_terms_and_rates(photos, tmp_path, save_memory):
    recipe = TINY.but(objective="toy_adversarial", judge_lr=0.01, budget="4", save_memory=save_memory)
    trainer = Trainer(recipe, out=tmp_path / "run", device=CPU)
    judge = trainer.objective.judge
    hr, lr = batch(photos)
    start = objective_of(recipe, None)
    start.load_state_dict(trainer.objective.state_dict())
    terms = start(hr, lr, {})
    wanted = torch.autograd.grad(terms["judge"].mean(), list(start.judge.parameters()), retain_graph=True)
    other = torch.autograd.grad(terms["loss"].mean(), list(start.net.parameters()))
    before = [p.detach().clone() for p in judge.parameters()]
    trainer.train_step((hr, lr), 0.0)
    for given, gradient, old in zip(judge.parameters(), wanted, before, strict=True):
        torch.testing.assert_close(given.grad, gradient, rtol=1e-4, atol=1e-7)
        moved = (given - old).abs()[gradient.abs() > 1e-5]
        torch.testing.assert_close(moved, torch.full_like(moved, 0.01), rtol=1e-2, atol=0)  # Adam's first step
    clip = min(1.0, 10 / torch.cat([gradient.flatten() for gradient in other]).norm().item())
    for given, gradient in zip(trainer.net.parameters(), other, strict=True):
        torch.testing.assert_close(given.grad, clip * gradient, rtol=1e-3, atol=1e-5)
    assert trainer.parameters.grads.any()
    assert all(torch.equal(a, b) for a, b in zip(trainer.net.parameters(), start.net.parameters(), strict=True))


def test_all_players_resume(photos, tmp_path):
    recipe = TINY.but(objective="toy_adversarial", schedule="constant", budget="4")
    whole = train(tmp_path / "whole", photos, recipe)
    train(tmp_path / "parts", photos, recipe.but(budget="2"))
    part = train(tmp_path / "parts", photos, recipe, resume=True)
    for stem in ("weights", "ema", "optimizer"):
        one, two = (load_sharded(path, stem) for path in (whole, part))
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one), stem
        assert any("judge" in name for name in one) == (stem != "ema")
    assert len(checkpoints(tmp_path / "parts")) == 2


def test_a_step_that_is_bad_for_one_player_is_bad_for_all(photos, tmp_path):
    trainer = Trainer(TINY.but(objective="toy_adversarial"), out=tmp_path / "run", device=CPU)
    with torch.no_grad():
        trainer.objective.judge[2].bias.fill_(float("nan"))
    before = {name: value.clone() for name, value in trainer.weights().items()}
    trainer.train_step(batch(photos), 1e-2)
    assert trainer.count_bad() == 1
    assert all(torch.equal(before[name], v) or v.isnan().all() for name, v in trainer.weights().items())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["objective=nothing"], r"objective=nothing: is not installed \(irnscale has .*rescaling"),
        (["objective=__init__"], "objective=__init__: is not installed"),
        (["family=__init__"], "family=__init__: is not installed"),
        (["objective=lame"], "objective=lame: cannot be imported from toy_objective:NONE"),
        (["judge_lr=1"], "unknown key 'judge_lr'"),
        (["objective=toy_adversarial", "judge_lr=0"], "judge_lr=0.0 must be above 0"),
        (["objective=toy_adversarial", "judge=0"], "did you mean judge_lr"),
        (["objective=toy_adversarial", "lambda_distr=2"], "lambda_distr=2 has no meaning .* a key of objective=rescal"),
    ],
)
def test_recipes_that_make_no_sense(changes, words):
    with pytest.raises(UsageError, match=words):
        load_recipe("irn-x4", changes)


def test_an_objective_for_other_networks_is_refused():
    with pytest.raises(UsageError, match="objective=super_resolution trains a SuperResolutionNetwork"):
        objective_of(TINY.but(objective="super_resolution"))


def test_a_score_is_measured_and_shown(run, photos, tmp_path):
    result = run("evaluate", "--data", photos, "-m", "irn-x2", "-s", "2", "--metrics", "psnr,tint", "--no-cache")
    assert result.code == 0, result.lines
    assert "Tint" in result.text
    (row,) = [line for line in result.text.splitlines() if "irn-x2" in line]
    assert 0 <= float(row.split()[-1]) < 20


def test_scores_that_are_not_there():
    with pytest.raises(UsageError, match=r"no score is called 'hue': it is not installed \(choose of psnr, ssim"):
        chosen(["hue"])
