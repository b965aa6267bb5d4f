"""Training a flow of what a frozen IRN throws away: the loss by hand, scores, a run that becomes a model."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from commandline import runner
from conftest import synthetic_photo
from PIL import Image
from training import CPU, batch

from irnscale.errors import ModelError, UsageError
from irnscale.kernels import quantize
from irnscale.metrics import psnr
from irnscale.networks.assisted import LatentFlow
from irnscale.train.config import Recipe, load_recipe
from irnscale.train.objective import objective_of
from irnscale.train.objectives.completion import Completion
from irnscale.train.trainer import Trainer
from irnscale.train.validate import validate, validation_images

SMALL = {"flow_steps": 1, "flow_hidden": 6, "rrdb_blocks": 1, "rrdb_growth": 3}
RECIPE = Recipe.of(
    name="small",
    family="assisted",
    network=SMALL,
    completion_of="irn-x2",
    scale=2,
    batch_size=2,
    img_size=16,
    initial_lr=2e-3,
    weight_decay=0.0,
    ema=0.9,
    budget="3",
    precision="float32",
)


def test_the_recipe():
    objective = objective_of(load_recipe("irn-assisted-x4-budget", []))
    assert isinstance(objective, Completion)
    assert sum(p.numel() for p in objective.parameters()) == 1_707_182, "the frozen model is none of them"
    assert objective.base.scale == 4
    assert not objective.graphable


def test_loss_by_hand(photos):
    hr, reference = batch(photos)
    objective = objective_of(RECIPE)
    for parameter in objective.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    base, net = objective.base, objective.net
    terms = objective(hr, reference, {})
    lr, z = base.downscale(hr)
    stored = quantize(lr)
    expected = -net.log_density(z, stored) / (math.log(2) * 9 * 8 * 8)
    torch.testing.assert_close(terms["loss"], expected)
    assert set(terms) == {"loss", "bits"}
    terms["loss"].sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert all(p.grad is None for p in base.parameters())

    both = objective_of(RECIPE.but(lambda_recon=0.5, recon_norm="l1"), net)
    terms = both(hr, reference, {})
    restored = base.upscale(stored, net.complete(stored))
    torch.testing.assert_close(terms["recon"], (restored - hr).abs().sum((1, 2, 3)))
    torch.testing.assert_close(terms["loss"], expected + 0.5 * terms["recon"])


def test_it_learns_from_data_on(photos, tmp_path):
    trainer = Trainer(RECIPE, out=tmp_path / "run", device=CPU)
    hr, reference = batch(photos)
    frozen = [p.detach().clone() for p in trainer.objective.base.parameters()]
    untrained = trainer.objective(hr, reference, {})["bits"].mean()
    trainer.prepare((hr, reference))
    bits = [trainer.train_step((hr, reference), 2e-3)["bits"].item() for _ in range(30)]
    assert bits[0] < untrained - 1, "the start takes the scale of z from data"
    assert bits[-1] < bits[0] - 0.3
    assert trainer.count_bad() == 0
    for before, after in zip(frozen, trainer.objective.base.parameters(), strict=True):
        assert torch.equal(before, after)


def test_validation(photos):
    objective = objective_of(RECIPE).eval()
    images = validation_images([photos], scale=2, limit=1)
    found = validate(objective, images, CPU)
    x = images[0][None].float() / 255
    lr = quantize(objective.downscale(x))
    assert found["psnr_y_z0"] == pytest.approx(psnr(objective.base.upscale(lr), x, crop=2).item(), abs=1e-4)
    assert found["psnr_y"] == pytest.approx(found["psnr_y_z0"], abs=1e-4), "untrained, its mode is z = 0"
    assert found["lr_psnr_y"] > 30
    z = objective.base.downscale(x)[1][0].flatten(1)
    entropy = (0.5 * torch.log2(2 * math.pi * math.e * z.var(1, unbiased=False))).mean()
    assert found["bits_gaussian"] == pytest.approx(entropy.item(), abs=1e-3)
    assert found["bits"] > found["bits_gaussian"]


def test_a_gaussian_of_each_channel_is_what_it_starts_from():
    """Normalised and nothing more, z is as likely as by the Gaussians that are compared with it."""
    objective = objective_of(RECIPE)
    x = torch.rand(1, 3, 48, 48)
    objective.initialise(x)
    lr = quantize(objective.downscale(x))
    found = objective.scores(x, lr)
    assert found["bits"] == pytest.approx(found["bits_gaussian"], abs=0.02)


def test_what_is_refused():
    with pytest.raises(UsageError, match="name it with completion_of"):
        objective_of(RECIPE.but(completion_of=None))
    with pytest.raises(UsageError, match="completion_of=irn-x4 is a model for scale 4, not 2"):
        objective_of(RECIPE.but(completion_of="irn-x4"))
    with pytest.raises(ModelError, match="no model 'nothing'"):
        objective_of(RECIPE.but(completion_of="nothing"))
    with pytest.raises(UsageError, match="objective=completion trains a CompletingNetwork; the family irn has none"):
        objective_of(Recipe.of(objective="completion", completion_of="irn-x4"))


def test_a_run_becomes_a_model(photos, tmp_path, monkeypatch, capfdbinary):
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    run = runner(capfdbinary, monkeypatch)
    keys = (*(f"network.{k}={v}" for k, v in SMALL.items()), "scale=2", "completion_of=irn-x2", "img_size=16")
    places = ("--data", photos, "--out", tmp_path / "run", "--device", "cpu", "--no-progress", "--budget", "2")
    result = run("train", "irn-assisted-x4-budget", *keys, *places)
    assert result.code == 0, result.lines
    result = run("models", "export", tmp_path / "run", "--name", "mine")
    assert result.code == 0, result.lines
    assert result.lines[-1].endswith("use it with `irnscale up -m mine`")
    shown = run("models", "show", "mine").text
    assert "what irn-x2 throws away, by the small picture, trained with the recipe irn-assisted-x4-budget" in shown
    Image.fromarray(synthetic_photo(30, 41)).save(tmp_path / "photo.png")
    assert run("down", tmp_path / "photo.png", "-s", "2", "--detail", "none", "-o", tmp_path / "small.png").code == 0
    assert run("up", tmp_path / "small.png", "-m", "mine", "-o", tmp_path / "large.png").code == 0
    with Image.open(tmp_path / "large.png") as image:
        assert np.asarray(image).shape == (30, 41, 3)


def test_untrained_networks_have_what_the_trainer_asks_for():
    net = LatentFlow(objective_of(RECIPE).net.config)
    net.set_compute_dtype(torch.bfloat16)
    assert net.encoder.compute_dtype is torch.bfloat16
    objective = objective_of(RECIPE, net)
    assert all(block.compute_dtype is torch.bfloat16 for block in objective.base.dense_blocks())
    lr = torch.rand(1, 3, 8, 8)
    assert net.complete(lr).dtype == torch.float32
