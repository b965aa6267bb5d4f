"""Glow on the digits: data, metrics, training, resuming, the comparison and both commands."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from commandline import runner
from PIL import Image
from training import names, records

from irnscale.errors import InputError, ModelError, UsageError
from irnscale.networks.flow import bits_per_dimension
from irnscale.networks.glow import Glow, GlowConfig
from irnscale.train.checkpoints import checkpoints, load_sharded, load_state
from irnscale.train.config import Recipe, load_recipe, recipe_names
from irnscale.train.glow import compare as comparison
from irnscale.train.glow.classifier import accuracy, train_classifier
from irnscale.train.glow.digits import TRAIN, DigitBatches, add_noise, load_digits, to_levels
from irnscale.train.glow.metrics import (
    dequantized_log_likelihood,
    frechet,
    inception_frechet,
    log_likelihood,
)
from irnscale.train.glow.pictures import grid
from irnscale.train.loop import MAX_BAD_STEPS
from irnscale.train.loop import run as run_recipe
from irnscale.train.objectives.density import Density
from irnscale.train.trainer import Trainer

CPU = torch.device("cpu")
SMALL = {"steps": 2, "hidden": 16, "batch_size": 32, "validate_steps": 2}
TINY = load_recipe("glow-torch", []).but(name="glow-tiny", mixing="conv", budget="6", **SMALL)
GLOWS = [name for name in recipe_names() if name.startswith("glow-")]
TINY_ARGUMENTS = ("steps=2", "hidden=16", "batch_size=32", "evaluate_steps=2")


@pytest.fixture(scope="module")
def digits():
    return load_digits(0)


@pytest.fixture(scope="module")
def classifier(digits):
    return train_classifier(digits, 0)


@pytest.fixture
def irnscale(capfdbinary, monkeypatch):
    return runner(capfdbinary, monkeypatch)


def run(recipe: Recipe, out, **options):
    """Train into `out`; the result and the weights."""
    last = run_recipe(recipe, data=[], out=out, device=CPU, progress=False, report=False, **options)
    return json.loads((out / "result.json").read_text()), load_sharded(last, "weights")


def trainer_of(recipe: Recipe, out) -> Trainer:
    """A run whose flow has seen its first batch."""
    trainer = Trainer(recipe, out=out, device=CPU)
    trainer.prepare(batch_of(recipe))
    return trainer


def batch_of(recipe: Recipe, step: int = 0):
    data = recipe.data.open([], scale=1, seed=recipe.run.seed, device=CPU)
    return data.batch(recipe.data.batch_size, seed=recipe.run.seed, step=step)


@pytest.fixture
def _small_classifier(monkeypatch):
    """Where only the course of a run is looked at."""
    monkeypatch.setattr("irnscale.train.glow.metrics.train_classifier", lambda d, s: train_classifier(d, s, epochs=1))


def test_the_digits_are_the_dissertations(digits):
    assert digits.train.shape == (1617, 1, 8, 8)
    assert digits.test.shape == (180, 1, 8, 8)
    everything = torch.cat((digits.train, digits.test))
    assert torch.equal(everything, everything.round())
    assert (everything.min(), everything.max()) == (0, 16)
    assert (len(digits.train_labels), len(digits.test_labels)) == (1617, 180)
    other = load_digits(1)
    assert torch.equal(load_digits(0).test, digits.test)
    assert not torch.equal(other.test, digits.test)
    # Another order of the same pictures, with their labels.
    order = [tuple(x.flatten().tolist()) for x in torch.cat((other.train, other.test))]
    assert sorted(order) == sorted(tuple(x.flatten().tolist()) for x in everything)
    label = dict(zip(order, torch.cat((other.train_labels, other.test_labels)).tolist(), strict=True))
    assert all(
        label[tuple(x.flatten().tolist())] == y for x, y in zip(digits.test, digits.test_labels.tolist(), strict=True)
    )


def test_batches_are_functions_of_seed_and_step(digits):
    size = 100
    raw = replace(digits, dequantize=False)
    epoch = [raw.batch(size, seed=0, step=step)[0] for step in range(TRAIN // size)]
    seen = torch.cat(epoch).flatten(1)
    assert len(seen.unique(dim=0)) == len(seen)
    assert torch.equal(raw.batch(size, seed=0, step=3)[0], epoch[3])
    assert torch.equal(raw.batch(size, seed=0, step=3, rows=slice(20, 30))[0], epoch[3][20:30])
    assert torch.equal(next(raw.batches(size, seed=0, first=3))[0], epoch[3])
    for change in ({"seed": 1, "step": 3}, {"seed": 0, "step": 3 + TRAIN // size}):
        assert not torch.equal(raw.batch(size, **change)[0], epoch[3])
    noise = digits.batch(size, seed=0, step=3)[0] - epoch[3]
    assert -0.5 <= noise.min() < -0.49
    assert 0.49 < noise.max() < 0.5001
    assert abs(noise.mean()) < 0.02
    (again,) = digits.batch(size, seed=0, step=3 + TRAIN // size)
    assert not torch.equal(again - again.round(), noise)
    assert torch.equal(to_levels(epoch[3] + noise.clamp(-0.499, 0.499)), epoch[3])
    place = digits.place(size, seed=0, step=3, example=7)
    assert torch.equal(digits.train[place["picture"]], epoch[3][7])
    assert place["digit"] == digits.train_labels[place["picture"]]


def test_the_classifier_reads(digits, classifier):
    assert accuracy(classifier, digits) > 0.93
    assert classifier.features(digits.test).shape == (180, 64)
    before = torch.random.get_rng_state()
    again = train_classifier(digits, 0, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert accuracy(again, digits) < accuracy(classifier, digits)


def test_frechet_orders_pictures(digits, classifier):
    real = frechet(classifier, digits.test, digits.train)
    noisy = frechet(classifier, digits.test, add_noise(digits.train, torch.Generator().manual_seed(0)) * 1.2 - 1)
    noise = frechet(classifier, digits.test, 16 * torch.rand(1617, 1, 8, 8))
    assert 0 < real < noisy < noise
    overflowing = digits.train.clone()
    overflowing[0], overflowing[1] = math.nan, math.inf
    assert math.isfinite(frechet(classifier, digits.test, overflowing))


class Uniform(Glow):
    """Density 1/17 per pixel on [-1/2, 16 1/2), 0 elsewhere."""

    def __init__(self) -> None:
        super().__init__(GlowConfig())

    def forward(self, x):
        inside = ((x >= -0.5) & (x < 16.5)).flatten(1).all(1)
        return torch.where(inside, -64 * math.log(17), -math.inf)


def test_likelihoods_of_a_known_density(digits):
    flow = Uniform()
    nats = dequantized_log_likelihood(flow, digits.test)
    assert nats == log_likelihood(flow, digits.test) == pytest.approx(-64 * math.log(17), rel=1e-6)
    assert bits_per_dimension(torch.tensor(nats), 64, spacing=1.0).item() == pytest.approx(math.log2(17), rel=1e-6)


def of_backend(recipe: Recipe, backend: str) -> Recipe:
    mixing, clamp = ("conv" if backend == "torch" else "permutation"), ("glow", "tanh")[backend == "freia-allinone"]
    return recipe.but(backend=backend, mixing=mixing, clamp=clamp)


@pytest.mark.parametrize("backend", ["torch", "freia", "freia-allinone"])
def test_training_raises_the_likelihood(digits, backend, tmp_path):
    recipe = of_backend(TINY, backend).but(batch_size=64)
    trainer = trainer_of(recipe, tmp_path)
    flow = trainer.net
    before = dequantized_log_likelihood(flow, digits.test)
    untouched = [b.clone() for b in flow.parameters() if not b.requires_grad]
    for step in range(40):
        trainer.train_step(batch_of(recipe, step), 3e-3)
    assert dequantized_log_likelihood(flow, digits.test) > before + 5
    still = [p for p in flow.parameters() if not p.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(untouched, still, strict=True))


@pytest.mark.slow
def test_a_trained_flow_is_clearly_closer_than_an_untrained_one(digits, classifier, tmp_path):
    recipe = TINY.but(steps=4, hidden=64, batch_size=64, mixing="permutation")
    trainer, other = (trainer_of(recipe, tmp_path / name) for name in "ab")
    for step in range(250):
        trainer.train_step(batch_of(recipe, step), 2e-3)
    untrained, trained = (
        frechet(classifier, digits.test, t.net.sample(1617, 1.0, torch.Generator().manual_seed(0)))
        for t in (other, trainer)
    )
    assert trained < untrained / 2


@pytest.mark.usefixtures("_small_classifier")
def test_a_run_leaves_pictures_and_numbers(tmp_path):
    result, _ = run(TINY, tmp_path)
    (kept,) = checkpoints(tmp_path)
    assert set(names(tmp_path)) == {kept.name, ".lock", "log.jsonl", "result.json", "samples", "samples.png"}
    start, *points = records(tmp_path)
    (end,) = [record for record in points if "final_frechet" in record]
    assert (start["from_step"], start["recipe"]) == (0, TINY.to_dict())
    assert [p["step"] for p in points if "test_raw" in p] == [1, 2, 4, 6]
    assert (result["recipe"], result["seed"], result["steps"]) == ("glow-tiny", 0, 6)
    assert (end["final_frechet"], end["final_log_likelihood"]) == (result["frechet"], result["log_likelihood"])
    assert result["bits_per_dimension"] == pytest.approx(-result["log_likelihood_dequantized"] / 64 / math.log(2))
    assert result["log_likelihood"] == pytest.approx([p["test_raw"] for p in points if "test_raw" in p][-1])
    with Image.open(tmp_path / "samples.png") as image:
        assert image.size == (12 * 50, 8 * 50)
        assert len(set(image.get_flattened_data() if hasattr(image, "get_flattened_data") else image.getdata())) > 4


@pytest.mark.usefixtures("_small_classifier")
@pytest.mark.parametrize("backend", ["torch", "freia"])
def test_resuming_is_exact(tmp_path, backend):
    recipe = TINY.but(backend=backend, mixing="permutation", final_lr=1.0)
    whole, one = run(recipe, tmp_path / "whole")
    run(recipe.but(budget="3"), tmp_path / "parts")
    part, two = run(recipe, tmp_path / "parts", resume=True)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert {**whole, "seconds": 0} == {**part, "seconds": 0}


@pytest.mark.usefixtures("_small_classifier")
def test_an_existing_run_is_not_overwritten_nor_mixed(tmp_path):
    run(TINY, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(UsageError, match="add `resume`"):
        run(TINY, tmp_path)
    for change in ({"hidden": 17}, {"clamp": "glow"}):
        with pytest.raises(UsageError, match=next(iter(change))):
            run(TINY.but(**change), tmp_path, resume=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("_small_classifier")
def test_a_damaged_state_is_named(tmp_path):
    run(TINY, tmp_path)
    (state,) = tmp_path.glob("*/weights-00.safetensors")
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"weights-00\.safetensors: unreadable.*resume"):
        run(TINY.but(budget="8"), tmp_path, resume=True)


@pytest.mark.usefixtures("_small_classifier")
def test_a_diverging_run_stops_and_keeps_its_state(tmp_path, monkeypatch):
    run(TINY, tmp_path)
    (kept,) = checkpoints(tmp_path)
    forward = Density.forward
    monkeypatch.setattr(Density, "forward", lambda self, x, draws: forward(self, x * math.nan, draws))
    with pytest.raises(InputError, match=f"{MAX_BAD_STEPS} steps.*initial_lr"):
        run(TINY.but(budget="90"), tmp_path, resume=True)
    assert checkpoints(tmp_path) == [kept]


@pytest.mark.parametrize("backend", ["torch", "freia", "freia-allinone"])
def test_weight_decay_is_the_subnets_alone(backend, tmp_path):
    recipe = of_backend(TINY, backend)
    plain, decayed = (trainer_of(recipe.but(weight_decay=d), tmp_path / str(d)) for d in (0.0, 1.0))
    for trainer in (plain, decayed):
        trainer.train_step(batch_of(recipe), 1e-2)
    other = dict(decayed.net.named_parameters())
    for name, parameter in plain.net.named_parameters():
        if name.endswith("subnet.0.weight"):
            assert other[name].norm() < 0.995 * parameter.norm()
        elif "subnet" not in name:
            assert torch.equal(other[name], parameter)
    assert sum(name.endswith("subnet.0.weight") for name in other) == recipe.network.steps


def test_a_bad_step_changes_nothing(digits, tmp_path):
    trainer = trainer_of(TINY, tmp_path)
    before = {k: v.clone() for k, v in trainer.net.state_dict().items()}
    assert math.isnan(trainer.train_step((digits.train[:8] * math.nan,), 1e-3)["loss"])
    assert (trainer.step, trainer.count_bad()) == (1, 1)
    assert all(torch.equal(v, before[k]) for k, v in trainer.net.state_dict().items())


def test_raw_training_starts_though_three_pixels_are_constant(digits, tmp_path):
    assert (digits.train.flatten(1).std(0) == 0).sum() == 3
    recipe = TINY.but(dequantize=False)
    trainer = trainer_of(recipe, tmp_path / "raw")
    assert torch.equal(batch_of(recipe)[0], batch_of(recipe)[0].round())
    noisy = trainer_of(TINY, tmp_path / "noisy")
    assert torch.equal(trainer.net.inn[0].bias, noisy.net.inn[0].bias), "both start from the same batch, with noise"
    assert math.isfinite(trainer.train_step(batch_of(recipe), 1e-3)["loss"])


def test_pictures_show_what_they_are_given(digits):
    white = np.asarray(Image.open(io_bytes(grid(torch.zeros(6, 1, 8, 8), 3, zoom=2))))
    assert white.shape == (40, 60)
    assert (white == 255).all()
    ink = np.asarray(Image.open(io_bytes(grid(torch.full((2, 1, 8, 8), 16.0), 2, zoom=1))))
    assert (ink[1:9, 1:9] == 0).all()
    assert (ink[0] == 255).all()


@pytest.mark.usefixtures("_small_classifier")
def test_a_run_is_reported_and_makes_no_model(irnscale, tmp_path):
    run_recipe(TINY, data=[], out=tmp_path, device=CPU, progress=False)
    page = (tmp_path / "report.md").read_text()
    assert "| step | test_raw | test_dequantized |" in page
    assert "| frechet | " in page
    assert (tmp_path / "curves.png").stat().st_size > 5000
    result = irnscale("models", "export", tmp_path, "--name", "digits")
    assert result.code == 2
    assert "family glow makes no small or large pictures" in result.lines[-1]
    recipe = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["recipe"]
    assert Recipe.of(**recipe) == TINY


def io_bytes(data: bytes):
    import io

    return io.BytesIO(data)


@pytest.mark.parametrize("name", GLOWS)
def test_every_recipe_loads(name):
    recipe = load_recipe(name, [])
    assert (recipe.run.name, recipe.family.kind, recipe.objective.name) == (name, "glow", "density")
    assert recipe.network.dims == (64,)
    assert isinstance(recipe.data, DigitBatches)


def test_there_are_recipes():
    assert set(GLOWS) == {"glow-freia", "glow-freia-allinone", "glow-torch", "glow-torch-conv"}


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("hiden=2", "did you mean hidden"),
        ("hidden=many", "hidden"),
        ("hidden", "key=value"),
        ("backend=jax", "backend=jax"),
        ("mixing=lu", "mixing=lu"),
        ("clamp=tanh", "AllInOneBlock"),
        ("batch_size=1", "batch_size=1"),
        ("batch_size=2000", "1617"),
        ("initial_lr=0", "initial_lr=0"),
        ("initial_lr=nan", "not a number"),
        ("weight_decay=-1", "weight_decay"),
        ("beta1=1", "beta1"),
        ("final_lr=2", "final_lr"),
        ("evaluate_steps=0", "validate_steps=0"),
        ("budget=soon", "budget"),
    ],
)
def test_bad_settings_are_named(override, word, irnscale, tmp_path):
    result = irnscale("train", "glow-torch", override, "--out", tmp_path / "run")
    assert result.code == 2
    assert len(result.lines) == 1
    assert word in result.lines[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("_small_classifier")
def test_the_train_command(irnscale, tmp_path):
    out = tmp_path / "run"
    result = irnscale("train", "glow-freia", *TINY_ARGUMENTS, "--budget", "4", "--out", out)
    assert (result.code, result.text) == (0, f"{checkpoints(out)[-1]}\n")
    assert any(line.startswith("frechet: ") for line in result.lines)
    again = irnscale("train", "glow-freia", *TINY_ARGUMENTS, "--budget", "4", "--out", out)
    assert again.code == 2
    assert "--resume" in again.lines[0]
    assert irnscale("train", "glow-freia", *TINY_ARGUMENTS, "--budget", "5", "--out", out, "--resume").code == 0
    assert json.loads((out / "result.json").read_text())["steps"] == 5
    (tmp_path / "glow-mine.yaml").write_text("name: glow-mine\nfamily: glow\nhidden: 16\nsteps: 1\nbudget: 2\n")
    assert irnscale("train", tmp_path / "glow-mine.yaml", "--out", tmp_path / "mine").code == 0


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("glow-torch", "--data", "photos"), "--data"),
        (("glow-torch", "--val", "photos"), "--val"),
        (("glow-tosh",), "did you mean glow-torch"),
        (("glow-torch", "hiden=3"), "did you mean hidden? `irnscale train recipes glow-torch` lists all"),
        (("irn-x2",), "--data"),
    ],
)
def test_train_refuses_what_does_not_go_together(irnscale, arguments, word):
    result = irnscale("train", *arguments)
    assert result.code == 2
    assert len(result.lines) == 1
    assert word in result.lines[0]


def test_outputs_that_cannot_be_written(irnscale, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        result = irnscale("train", "glow-torch", *TINY_ARGUMENTS, "--out", out)
        assert result.code in (2, 5)
        assert len(result.lines) == 1
        assert str(out) in result.lines[0]


def test_without_scikit_learn_it_says_what_to_install(irnscale, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    result = irnscale("train", "glow-torch", "--out", tmp_path / "run")
    assert result.code == 2
    assert "irnscale[train]" in result.lines[0]


@pytest.mark.usefixtures("_small_classifier")
def test_the_evaluate_command(irnscale, tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "REPEATS", 2)
    command = ("evaluate", "glow", *TINY_ARGUMENTS, "--seeds", "2", "--budget", "4", "--out", tmp_path)
    first = irnscale(*command)
    assert first.code == 0, first.lines
    head, freia, torch_ = first.text.splitlines()
    assert "bits/dim" in head
    assert freia.startswith("glow-freia ")
    assert torch_.startswith("glow-torch ")
    assert freia.count("±") == torch_.count("±") == 10
    said = [line for line in first.lines if " of 4: " in line]
    assert [line.split(":")[0] for line in said[::2]] == [
        f"glow-{kind}-seed{seed}, training {n} of 4"
        for n, (seed, kind) in enumerate(product("01", ("freia", "torch")), 1)
    ]
    assert all("nats" in line and " s" in line for line in said[1::2]), "each ends with its result and time"
    folders = [f"glow-{kind}-seed{seed}" for kind in ("freia", "torch") for seed in (0, 1)]
    assert names(tmp_path) == [*folders, "samples.png", "table.json"]

    def no_training(*_, **__):
        raise AssertionError("finished runs are not trained again")

    monkeypatch.setattr(comparison, "run", no_training)
    again = json.loads(irnscale(*command, "--json").text)
    table = json.loads((tmp_path / "table.json").read_text())
    assert again == table
    results = [json.loads((tmp_path / f / "result.json").read_text()) for f in folders]
    assert [{k: r[k] for k in results[0]} for of in again.values() for r in of] == results
    mean = (results[0]["frechet"] + results[1]["frechet"]) / 2
    spread = abs(results[0]["frechet"] - results[1]["frechet"]) / 2**0.5
    assert f"{mean:.2f} ± {spread:.2f}" in freia
    monkeypatch.undo()
    other = irnscale(*command[:-3], "5", "--out", tmp_path)
    assert other.code == 2
    assert "budget=4" in other.lines[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--seeds", "0"), 2, "--seeds"),
        (("--recipe", "glow-none"), 2, "no recipe"),
        (("--recipe", "glow-torch", "--recipe", "glow-torch"), 2, "two recipes"),
        (("--recipe", "glow-none.yaml"), 1, "no such recipe file"),
        (("--inception", "absent.pth"), 1, "no such file"),
        (("--data", "photos"), 2, "--data"),
    ],
)
def test_evaluate_glow_refuses(irnscale, tmp_path, arguments, code, word):
    result = irnscale("evaluate", "glow", *arguments, "--out", tmp_path / "runs")
    assert result.code == code
    assert len(result.lines) == 1
    assert word in result.lines[0]
    assert not (tmp_path / "runs").exists()


def test_evaluate_of_photographs_is_as_before(irnscale):
    assert "--data" in irnscale("evaluate").lines[0]
    assert "irnscale evaluate glow" in irnscale("evaluate", "--help").text
    assert "irnscale evaluate glow [OPTIONS]" in irnscale("evaluate", "glow", "--help").text


def test_inception_takes_nothing_but_weights(digits, tmp_path):
    for package in ("torchmetrics", "torch_fidelity"):
        pytest.importorskip(package, reason="torchmetrics' FID is optional")
    (tmp_path / "weights.pth").write_bytes(b"not a file of torch's")
    with pytest.raises(InputError, match="Inception weights"):
        inception_frechet(tmp_path / "weights.pth", digits.test, digits.train)


@pytest.mark.usefixtures("_small_classifier")
def test_an_interrupted_comparison_goes_on(tmp_path):
    """SIGTERM in a training: exit code 130 and a state from which the run goes on."""
    code = "import sys; from irnscale.cli.main import main; sys.exit(main(sys.argv[1:]))"
    arguments = ("evaluate", "glow", *TINY_ARGUMENTS, "--seeds", "1", "--out", str(tmp_path), "--budget", "600s")
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 120
    folder = tmp_path / "glow-freia-seed0"
    while not ((folder / "log.jsonl").exists() and records(folder)[-1].get("step", 0) >= 4):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.decode().splitlines()[-1] == "irnscale: interrupted"
    (kept,) = checkpoints(folder)
    assert not (folder / "result.json").exists()
    stopped_at = load_state(kept)["step"]
    assert stopped_at >= 4
    recipe = load_recipe("glow-freia", [*TINY_ARGUMENTS, f"budget={stopped_at + 4}"])
    result, _ = run(recipe, folder, resume=True)
    assert result["steps"] == stopped_at + 4
    assert [(r["from_step"], r["recipe"]["budget"]) for r in records(folder) if "recipe" in r][-1][0] == stopped_at


@pytest.mark.slow
def test_both_implementations_agree_within_the_spread_over_seeds(tmp_path):
    recipes = [
        load_recipe(name, ["budget=300", "evaluate_steps=300", "steps=6"]) for name in ("glow-freia", "glow-torch")
    ]
    result = comparison.compare(recipes, seeds=3, out=tmp_path, progress=False)
    for key in ("log_likelihood", "log_likelihood_dequantized"):
        spread = max(result.spread(r.run.name, key) for r in recipes)
        assert abs(result.mean("glow-freia", key) - result.mean("glow-torch", key)) < max(spread, 0.5)
    for recipe in recipes:
        assert result.mean(recipe.run.name, "frechet") < result.mean(recipe.run.name, "frechet_untrained") / 2
        assert result.mean(recipe.run.name, "frechet") > result.mean(recipe.run.name, "frechet_of_training_pictures")
