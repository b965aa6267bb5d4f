"""Training HCFlow for rescaling: the published losses as sums, and a run that becomes a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from commandline import runner
from conftest import synthetic_photo
from PIL import Image
from training import CPU

from irnscale.kernels import quantize
from irnscale.networks.hcflow import HCFlow
from irnscale.train.config import load_recipe
from irnscale.train.data import Photographs
from irnscale.train.objective import objective_of
from irnscale.train.trainer import Trainer

SMALL = ["main_steps=2", "growth=4", "flow_steps=1", "flow_hidden=6", "rrdb_blocks=1", "rrdb_growth=2"]
OVERRIDES = [f"network.{key}" if not key.startswith("growth") else key for key in SMALL]


def crops(photos, size: int, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    return Photographs([photos], scale=4, crop=size).batch(count, seed=0, step=0)


def test_the_published_loss_is_the_recipes():
    """L1 mean of HR, 0.05 of LR's mean squares, 1e-5 of z's: the recipe's sums, but for a common factor."""
    recipe = load_recipe("hcflow-rescaling-x4", [*OVERRIDES, "batch_size=2"])
    torch.manual_seed(1)
    net = HCFlow(objective_of(recipe).net.config)
    for parameter in net.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    hr, reference = torch.rand(2, 3, 160, 160), torch.rand(2, 3, 40, 40)
    noise = torch.randn(2, 45, 40, 40)
    terms = objective_of(recipe, net)(hr, reference, {"z": noise})
    with torch.no_grad():
        lr, z = net.downscale(hr)
        restored = net.upscale(quantize(lr), noise)
    published = (restored - hr).abs().mean() + 0.05 * (lr - reference).square().mean() + 1e-5 * z.square().mean()
    assert torch.allclose(terms["loss"].mean() / (3 * 160 * 160), published, rtol=1e-4)
    assert terms["distr"].mean() > 0


def test_it_learns(photos, tmp_path):
    recipe = load_recipe("hcflow-rescaling-x4-budget", [*OVERRIDES, "batch_size=2", "img_size=32"])
    trainer = Trainer(recipe, out=tmp_path / "run", device=CPU)
    hr, reference = crops(photos, 32)
    trainer.prepare((hr, reference))
    lr = trainer.net.downscale(hr)[0]
    assert torch.allclose(lr, HCFlow().downscale(hr)[0], atol=1e-5), "the start is the Haar transform's small picture"
    losses = [trainer.train_step((hr, reference), 2e-3)["loss"].item() for _ in range(25)]
    assert losses[-1] < 0.9 * losses[0]
    assert trainer.count_bad() == 0


@pytest.mark.parametrize("name", ["hcflow-rescaling-x4", "hcflow-rescaling-x4-budget"])
def test_recipes(name):
    objective = objective_of(load_recipe(name, []))
    assert sum(p.numel() for p in objective.net.parameters()) == 4_396_206
    assert objective.makes_lr


def test_a_run_becomes_a_model(photos, tmp_path, monkeypatch, capfdbinary):
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    run = runner(capfdbinary, monkeypatch)
    arguments = ("--data", photos, "--out", tmp_path / "run", "--device", "cpu", "--no-progress", "--budget", "2")
    keys = (*OVERRIDES, "batch_size=2", "img_size=32")
    result = run("train", "hcflow-rescaling-x4-budget", *keys, *arguments)
    assert result.code == 0, result.lines
    assert run("models", "export", tmp_path / "run", "--name", "hc").code == 0
    Image.fromarray(synthetic_photo(30, 41)).save(tmp_path / "photo.png")
    assert run("down", tmp_path / "photo.png", "-m", "hc", "--detail", "none", "-o", tmp_path / "small.png").code == 0
    assert run("up", tmp_path / "small.png", "-o", tmp_path / "large.png").code == 0
    with Image.open(tmp_path / "large.png") as image:
        assert np.asarray(image).shape == (30, 41, 3)
