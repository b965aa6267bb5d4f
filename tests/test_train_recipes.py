"""Recipes, budgets, schedules, losses and validation."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import synthetic_photo
from PIL import Image

from irnscale.errors import InputError, UsageError
from irnscale.train.budget import Budget
from irnscale.train.config import Recipe, load_recipe, recipe_from_dict, recipe_names
from irnscale.train.losses import charbonnier_sum, l2_sum, latent_sum
from irnscale.train.objective import objective_of
from irnscale.train.schedules import ema_decay, learning_rate
from irnscale.train.validate import validate, validation_images


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two photographs, one too small, one damaged, a text file."""
    for index, size in enumerate([(36, 50), (61, 41), (8, 80)]):
        Image.fromarray(synthetic_photo(*size, seed=index)).save(tmp_path / f"{index}.png")
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photograph")
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_loads(name):
    recipe = load_recipe(name, [])
    assert recipe.run.name == name
    assert recipe == recipe_from_dict(recipe.to_dict())
    assert recipe.network.kind == recipe.family.kind
    if recipe.family.task != "assistance":
        assert recipe.network.scale == recipe.scale


def test_there_are_recipes():
    assert {"irn-x2", "irn-x4", "irn-x4-budget"} <= set(recipe_names())


def test_overrides_and_files(tmp_path):
    recipe = load_recipe("irn-x4", ["budget=5000", "lambda_guide=3", "clamp_tightness=2", "zerosample=false"])
    assert (recipe.run.budget, recipe.objective.guide_weight(4), recipe.network.clamp_tightness) == ("5000", 3.0, 2.0)
    assert recipe.objective.zerosample is False
    (tmp_path / "mine.yaml").write_text("scale: 2\nbudget: 90s\n")
    recipe = load_recipe(str(tmp_path / "mine.yaml"), [])
    assert (recipe.scale, recipe.objective.guide_weight(recipe.scale), recipe.run.name) == (2, 4.0, "mine")
    assert load_recipe(str(tmp_path / "mine.yaml"), ["name=other"]).run.name == "other"
    (tmp_path / "mine.yaml").write_text("name: called\n")
    assert load_recipe(str(tmp_path / "mine.yaml"), []).run.name == "called"


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("scales=2", "did you mean scale"),
        ("lambda=2", "did you mean lambda_"),
        ("nonsense=2", "unknown key 'nonsense' (`irnscale train recipes irn-x4` lists all)"),
        ("scale", "key=value"),
        ("scale=x", "scale: Value 'x'"),
        ("batch_size=1.5", "batch_size"),
        ("zerosample=maybe", "zerosample"),
        ("name=null", "name"),
        ("init=[1", "YAML"),
        ("scale=5", "scale must be"),
        ("scale=0", "scale must be"),
        ("img_size=30", "not divisible"),
        ("img_size=0", "img_size"),
        ("batch_size=0", "batch_size"),
        ("inv_per_ds=0", "inv_per_ds"),
        ("growth=0", "growth"),
        ("initial_lr=nan", "initial_lr"),
        ("initial_lr=0", "initial_lr"),
        ("final_lr=2", "final_lr"),
        ("warmup=1", "warmup"),
        ("ema=1", "ema"),
        ("lambda_recon=-1", "lambda_recon"),
        ("clip_norm_max_g=0", "clip_norm_max_g"),
        ("clamp_activation=relu", "sigmoid"),
        ("precision=float16", "bfloat16"),
        ("validate_limit=0", "validate_limit"),
        ("budget=soon", "budget"),
        ("optimizer=sgd", "muon"),
        ("schedule=linear", "milestones"),
        ("lr_cells=[]", "lr_cells"),
        ("lr_cells=[0]", "lr_cells"),
        ("lr_cells=[1,3]", "lr_cells"),
        ("lr_milestones=[5,3]", "lr_milestones"),
        ("lr_milestones=[0]", "lr_milestones"),
        ("lr_gamma=0", "lr_gamma"),
        ("accumulate=3", "accumulate"),
        ("clip_value_max_g=0", "clip_value_max_g"),
        ("challenge_factor=-1", "challenge_factor"),
        ("seed=99999999999999999999", "seed=99999999999999999999 is too large"),
        ("batch_size=100000000", "from 1 to 65536"),
        ("growth=1000000", "growth=1000000 is too large"),
        ("inv_per_ds=[1,99999999999999999999]", "inv_per_ds"),
        ("clamp=1e300", "clamp"),
        ("initial_lr=1e300", "initial_lr"),
        ("lr_milestones.0=1", "lr_milestones: must be a list"),
        ("scale=???", "scale=??? has no value"),
        ("network.growth=???", "network.growth=???"),
    ],
)
def test_impossible_recipes_are_one_line(override, word):
    with pytest.raises(UsageError) as error:
        load_recipe("irn-x4", [override])
    assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_a_key_that_is_written_flat_and_in_its_group_says_one_thing(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("scale: 4\ngrowth: 8\nnetwork: {growth: 16}\n")
    with pytest.raises(UsageError, match=r"growth=8 and network.growth=16 say two things of one key"):
        load_recipe(str(recipe), [])
    with pytest.raises(UsageError, match=r"growth=16 and network.growth=8 say two things"):
        load_recipe("irn-x4", ["network.growth=8", "growth=16"])
    recipe.write_text("scale: 4\ngrowth: 8\nnetwork: {growth: 8}\n")
    assert load_recipe(str(recipe), ["network.growth=16"]).network.growth == 16


@pytest.mark.parametrize("text", ["[1, 2]", "scale: [", "3", "just text", "scale: 2\nscale: 4\n", "a: {b: 1}"])
def test_broken_recipe_files_are_one_line(tmp_path, text):
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(UsageError, match=r"broken\.yaml") as error:
        load_recipe(str(tmp_path / "broken.yaml"), [])
    assert "\n" not in str(error.value)


def test_missing_recipes():
    with pytest.raises(UsageError, match=r"did you mean irn-x.*\? `irnscale train recipes` lists all"):
        load_recipe("irn-x5", [])
    with pytest.raises(InputError, match="no such recipe file"):
        load_recipe("nowhere.yaml", [])
    with pytest.raises(UsageError, match="does not know: colour"):
        recipe_from_dict({"colour": 1})


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("5000", Budget(steps=5000)),
        (" 90s ", Budget(seconds=90)),
        ("20m", Budget(seconds=1200)),
        ("1.5h", Budget(seconds=5400)),
    ],
)
def test_budgets(text, budget):
    assert Budget.parse(text) == budget
    total = budget.steps or budget.seconds
    assert budget.fraction(total / 4, total / 4) == 0.25


@pytest.mark.parametrize("text", ["", "0", "0m", "-5", "2.5", "10 minutes", "1e3", "m", "5d", "nan"])
def test_what_is_no_budget(text):
    with pytest.raises(UsageError, match="budget"):
        Budget.parse(text)


def test_the_rate_rises_then_falls_to_its_end():
    recipe = Recipe.of(initial_lr=1e-3, final_lr=0.02, warmup=0.1)
    rates = [learning_rate(recipe.optim, k / 1000) for k in range(1001)]
    assert rates[0] == pytest.approx(1e-5)
    assert max(rates) == rates[100] == pytest.approx(1e-3)
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[-1] == learning_rate(recipe.optim, 7.0) == pytest.approx(2e-5)
    assert learning_rate(Recipe.of(initial_lr=1e-3, warmup=0).optim, 0) == pytest.approx(1e-3)


def test_the_rate_of_the_paper():
    recipe = load_recipe("irn-x4", ["schedule=milestones", "lr_milestones=[3,5]", "lr_gamma=0.1", "initial_lr=1"])
    rates = [learning_rate(recipe.optim, 0.9, step) for step in range(7)]
    assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert recipe == recipe_from_dict(json.loads(json.dumps(recipe.to_dict())))
    assert Recipe.of().optim.lr_milestones == [100_000, 200_000, 300_000, 400_000]
    assert learning_rate(Recipe.of(schedule="constant", initial_lr=0.5).optim, 0.9, 10**6) == 0.5


def test_the_average_starts_short_from_scratch_only():
    assert ema_decay(Recipe.of(ema=0.999), 1) == pytest.approx(0.1)
    assert ema_decay(Recipe.of(ema=0.999), 10**6) == 0.999
    assert ema_decay(Recipe.of(ema=0.999, init="x4"), 1) == 0.999


def test_losses_by_hand():
    a, b = torch.zeros(2, 3, 1, 2), torch.full((2, 3, 1, 2), 0.5)
    assert l2_sum(a, b).tolist() == pytest.approx([6 * 0.25] * 2)
    assert charbonnier_sum(a, b).tolist() == pytest.approx([6 * (0.25 + 1e-6) ** 0.5] * 2)
    assert latent_sum(b).tolist() == pytest.approx([6 * 0.25] * 2)


def test_validation(folder):
    with pytest.raises(InputError, match="damaged"):
        validation_images([folder], scale=2, limit=9)
    (folder / "damaged.jpg").unlink()
    images = validation_images([folder], scale=4, limit=2)
    assert [tuple(image.shape) for image in images] == [(3, 36, 48), (3, 60, 40)]
    objective = objective_of(Recipe.of(scale=4, inv_per_ds=1, growth=2)).eval()
    scores = validate(objective, images, torch.device("cpu"))
    assert 15 < scores["psnr_y"] < 45
    assert 20 < scores["lr_psnr_y"] < 60
    for name in ("psnr_rgb", "lr_psnr_rgb"):
        assert 10 < scores[name] < 60
    for name in ("ssim_y", "ssim_rgb"):
        assert 0.3 < scores[name] < 1
    assert "lr_ssim_y" not in scores, "9 x 12 pixels are too few"
    with pytest.raises(InputError, match="to validate on"):
        validation_images([folder / "2.png"], scale=4, limit=2)


def test_listing_recipes_does_not_import_torch():
    code = (
        "import sys; from irnscale.cli.main import main; code = main(['train', 'recipes']); "
        "sys.exit(code or ('torch' in sys.modules) * 9)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert {"irn-x4", "glow-torch", "srflow-x4"} <= {line.split()[0] for line in result.stdout.splitlines()}
