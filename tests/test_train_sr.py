"""IRN-SR: the assistant flow, its losses, its model files, `up --sr`; and the retrained IRN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import Run, picture, pixels, runner
from test_networks import brute_force, randomise
from training import CPU, TINY, batch, train

import irnscale
from irnscale.engine.executor import run as run_tiled
from irnscale.errors import ModelError, UsageError
from irnscale.images.bicubic import bicubic_down
from irnscale.kernels import quantize
from irnscale.networks import IRN, AssistantConfig, AssistantFlow, IRNConfig
from irnscale.train.checkpoints import export
from irnscale.train.config import load_recipe
from irnscale.train.losses import charbonnier_sum
from irnscale.train.objective import objective_of
from irnscale.train.trainer import Trainer
from irnscale.zoo import find, load_network
from irnscale.zoo.save import save_model


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path) -> Path:
    """A folder of models of one's own, with a narrow x2 network in it."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    net = randomise(IRN(IRNConfig(scale=2, inv_per_ds=1, growth=4)), gain=0.3)
    save_model(tmp_path / "models", "narrow", net.config, net.state_dict())
    return tmp_path / "models"


@pytest.fixture
def run(capfdbinary, monkeypatch) -> Run:
    """The command line."""
    return runner(capfdbinary, monkeypatch)


AN = TINY.but(assistant_of="narrow", assistant_steps=2, lambda_a1=0.5, lambda_a2=0.25, lambda_a3=2.0)


def random_flow(steps: int = 3) -> AssistantFlow:
    """With random weights in float64."""
    return randomise(AssistantFlow(AssistantConfig(assistant_steps=steps, growth=4)), gain=0.5).double()


def test_the_untrained_flow_is_the_identity():
    x = torch.rand(2, 3, 5, 4)
    for steps in (1, 2, 3, 8):
        flow = AssistantFlow(AssistantConfig(assistant_steps=steps, growth=4))
        assert torch.equal(flow.assist(x), x)
    assert sum(p.numel() for p in AssistantFlow().parameters()) == 8 * (2 * 58_899 + 6)


def test_the_flow_is_invertible_and_tiles():
    flow = random_flow()
    x = torch.rand(2, 3, 13, 17, dtype=torch.float64)
    y, log_det = flow(x)
    assert (flow.undo(y) - x).abs().max() < 1e-11
    torch.testing.assert_close(flow(y, rev=True)[1], -log_det)
    assert ((y - x).abs().amax((0, 2, 3)) > 1e-3).all(), "every channel is changed"
    kept = x.clone()
    assert (run_tiled(flow, x, rev=False, tile=6) - y).abs().max() < 1e-12
    assert (run_tiled(flow, y, rev=True, tile=6) - x).abs().max() < 1e-11
    assert torch.equal(x, kept), "the caller's tensor is left alone"
    small = x[:1, :, :2, :2]
    assert flow(small)[1].item() == pytest.approx(brute_force(lambda v: flow(v)[0], small), abs=1e-9)


def test_losses_by_hand(photos):
    hr, reference = batch(photos)
    objective = objective_of(AN, random_flow(2).float())
    flow, base = objective.net, objective.base
    terms = objective(hr, reference, objective_of(AN).draw(2, step=0))
    lr, made = quantize(reference), quantize(base.downscale(hr)[0])
    expected = {
        "a1": charbonnier_sum(made, flow.assist(lr)),
        "a2": charbonnier_sum(lr, flow.undo(made)),
        "a3": charbonnier_sum(hr, base.upscale(flow.assist(lr))),
    }
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    loss = 0.5 * expected["a1"] + 0.25 * expected["a2"] + 2.0 * expected["a3"]
    torch.testing.assert_close(terms["loss"], loss)
    terms["loss"].sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in flow.parameters())
    assert all(p.grad is None for p in base.parameters()), "IRN is frozen"
    only = AN.but(lambda_a1=0.0, lambda_a2=0.0)
    assert set(objective_of(only, flow)(hr, reference, {})) == {"loss", "a3"}


@pytest.mark.parametrize("term", ["a1", "a2", "a3"])
def test_each_loss_falls(photos, tmp_path, term):
    weights = {f"lambda_{name}": float(name == term) for name in ("a1", "a2", "a3")}
    trainer = Trainer(AN.but(**weights), out=tmp_path / "run", device=CPU)
    hr, reference = batch(photos)
    before = {k: v.clone() for k, v in trainer.objective.base.state_dict().items()}
    records = [trainer.train_step((hr, reference), 2e-3) for _ in range(15)]
    assert records[-1][term] < 0.97 * records[0][term]
    assert records[-1]["loss"] == pytest.approx(records[-1][term])
    for name, tensor in trainer.objective.base.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_train_export_and_use(run, photos, tmp_path, folder):
    recipe = AN.but(lambda_a1=0.0, lambda_a2=0.0, budget="12", initial_lr=5e-3)
    said: list[str] = []
    train(tmp_path / "run", photos, recipe, val=[photos], say=said.append)
    assert any("psnr_y" in line for line in said)
    assert not any("lr_psnr_y" in line for line in said), "its LR is bicubic"
    result = run("models", "export", tmp_path / "run", "--name", "narrow-sr")
    assert result.code == 0, result.lines
    assert "up --sr -m narrow-sr" in result.lines[0]
    card = find("narrow-sr").card
    assert (card.kind, card.base, card.base_digest) == ("assistant", "narrow", find("narrow").card.digest)
    assert (card.scale, card.architecture["assistant_steps"]) == (2, 2)
    stored = load_network(find("narrow-sr"), "assistance").state_dict()
    assert stored.keys() == export(tmp_path / "run")[0].keys(), "the assistant alone is stored"
    (line,) = [line for line in run("models").text.splitlines() if line.startswith("narrow-sr ")]
    assert "up --sr, before narrow " in line

    small = picture(tmp_path / "foreign.png")
    plain = run("up", small, "-m", "narrow", "-o", tmp_path / "plain.png")
    assert "--sr is for such images" in plain.warnings[0]
    result = run("up", small, "-m", "narrow-sr", "--sr")
    assert (result.code, result.warnings) == (0, [])
    enlarged = pixels(tmp_path / "foreign_up2x.png")
    assert enlarged.shape == (28, 42, 3)
    x = torch.from_numpy(pixels(small)).permute(2, 0, 1)[None].float() / 255
    objective = objective_of(recipe, load_network(find("narrow-sr"), "assistance"))
    with torch.inference_mode():
        expected = quantize(objective.upscale(x))[0].permute(1, 2, 0).mul(255).round()
    assert np.abs(expected.numpy() - enlarged).max() <= 1
    assert np.abs(pixels(tmp_path / "plain.png").astype(int) - enlarged).max() > 1
    info = run("info", tmp_path / "foreign_up2x.png").text
    assert "narrow-sr" in info
    api = irnscale.load("narrow-sr", sr=True, device="cpu", precision="float32")
    assert np.abs(api.up(pixels(small)).astype(int) - enlarged).max() <= 1
    table = run("evaluate", "--data", photos, "-m", "narrow", "--sr", "--no-baselines", "--no-cache").text
    assert "narrow-sr of bicubic" in table
    assert "narrow of bicubic" in table


def test_what_sr_refuses(run, photos, tmp_path, folder):
    small = picture(tmp_path / "small.png")
    save_model(
        folder,
        "sr",
        AssistantConfig(assistant_steps=1, growth=4),
        AssistantFlow(AssistantConfig(assistant_steps=1, growth=4)).state_dict(),
        base=find("narrow"),
    )
    assert run("down", picture(tmp_path / "a.png", 40, 30), "-m", "narrow").code == 0
    for arguments, code, words in [
        ([small, "--sr"], 2, "-s 4"),
        ([small, "--sr", "-s", "2", "-m", "narrow"], 3, "-m"),
        ([small, "--sr", "-s", "4", "-m", "sr"], 2, "-s 4 contradicts"),
        ([small, "--sr", "-s", "2", "--jpeg-resistant"], 2, "--jpeg-resistant"),
        ([small, "--sr", "-s", "16"], 3, "x2"),
        ([tmp_path / "a_down2x.png", "--sr", "-s", "2"], 2, "--ignore-provenance"),
        ([small, "-m", "sr"], 3, "--sr"),
    ]:
        result = run("up", *arguments)
        assert result.code == code, result.lines
        assert words in result.lines[-1]
    assert run("up", small, "-m", "sr", "--sr", "--dry-run").code == 0
    # Other weights under the base's name are not its base.
    net = IRN(IRNConfig(scale=2, inv_per_ds=1, growth=4))
    save_model(folder, "narrow", net.config, net.state_dict(), overwrite=True)
    result = run("up", small, "-m", "sr", "--sr")
    assert result.code == 3
    assert "other weights of narrow" in result.lines[-1]


def test_the_frozen_model_may_not_change(run, photos, tmp_path, folder):
    """Weights of an assistant go with the weights of its IRN, not just with its name."""
    train(tmp_path / "run", photos, AN.but(budget="1"))
    net = IRN(IRNConfig(scale=2, inv_per_ds=1, growth=4))
    save_model(folder, "narrow", net.config, net.state_dict(), overwrite=True)
    with pytest.raises(UsageError, match="frozen model"):
        train(tmp_path / "run", photos, AN.but(budget="2"), resume=True)
    result = run("models", "export", tmp_path / "run", "--name", "late")
    assert result.code == 3
    assert "other weights of narrow" in result.lines[-1]


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (["lambda_a3=0"], "all 0"),
        (["compression_mode=true"], "compression_mode"),
        (["sr_mode=true"], "sr_mode"),
        (["assistant_steps=0"], "assistant_steps"),
        (["lambda_a1=-1"], "lambda_a1"),
    ],
)
def test_impossible_assistants_are_one_line(overrides, word):
    with pytest.raises(UsageError, match=word) as caught:
        load_recipe("irn-x2", ["assistant_of=narrow", *overrides])
    assert "\n" not in str(caught.value)


def test_an_assistant_needs_its_model():
    with pytest.raises(UsageError, match="scale=2"):
        objective_of(AN.but(scale=4))
    with pytest.raises(ModelError, match="nobody"):
        objective_of(AN.but(assistant_of="nobody"))


def test_retrained_is_fed_bicubic(photos, tmp_path):
    recipe = TINY.but(sr_mode=True, growth=8, lambda_guide=0.1, lambda_distr=0.1)
    hr, reference = batch(photos)
    trainer = Trainer(recipe, out=tmp_path, device=CPU)
    records = [trainer.train_step((hr, reference), 4e-3) for _ in range(40)]
    assert records[-1]["recon"] < 0.97 * records[0]["recon"]
    objective = objective_of(recipe, trainer.net)
    terms = objective(hr, reference, {})
    by_hand = charbonnier_sum(trainer.net.upscale(quantize(reference)), hr)
    torch.testing.assert_close(terms["recon"], by_hand)
    assert torch.equal(objective.downscale(hr), bicubic_down(hr, 2))
    assert not objective.makes_lr
    ordinary = objective_of(recipe.but(sr_mode=False), trainer.net)(hr, reference, {})
    assert not torch.equal(ordinary["recon"], terms["recon"])
