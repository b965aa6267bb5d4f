"""The Gaussian around a network, and `evaluate bits`: how likely networks find photographs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import Run, runner
from conftest import synthetic_photo
from PIL import Image
from test_flow_layers import randomised
from training import CPU

from irnscale.engine.rescaler import Rescaler
from irnscale.images.bicubic import bicubic_down
from irnscale.kernels import quantize
from irnscale.networks.density import bits_of_levels
from irnscale.networks.families.gaussian import GaussianConfig
from irnscale.networks.families.rrdb import RRDBConfig
from irnscale.networks.families.srflow import SRFlowConfig
from irnscale.networks.gaussian import GaussianSR
from irnscale.networks.rrdb import RRDBNet
from irnscale.networks.srflow import SRFlow
from irnscale.train.config import load_recipe
from irnscale.train.data import Photographs
from irnscale.train.objective import objective_of
from irnscale.train.objectives.likelihood import Likelihood
from irnscale.train.trainer import Trainer
from irnscale.zoo import find
from irnscale.zoo.save import save_model

TINY = GaussianConfig(rrdb_blocks=1, rrdb_growth=4)
FLOW = SRFlowConfig(
    rrdb_blocks=1, rrdb_growth=4, taps=(0,), flow_steps=1, flow_hidden=8, adapter=6, flow_scale="squish", head=False
)


def gaussian(gain: float = 0.05) -> GaussianSR:
    torch.manual_seed(1)
    net = GaussianSR(TINY)
    randomised(net, gain=gain)
    return net


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """Models "flow" and "gauss", and sets "a" of two photographs and "b" of one."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    torch.manual_seed(1)
    flow = SRFlow(FLOW)
    randomised(flow.flow, gain=0.1)
    save_model(tmp_path / "models", "flow", FLOW, flow.float().state_dict())
    save_model(tmp_path / "models", "gauss", TINY, gaussian().float().state_dict())
    monkeypatch.chdir(tmp_path)
    for name, seed, size in (("a", 1, (26, 33)), ("a", 2, (40, 24)), ("b", 3, (32, 32))):
        Path(name).mkdir(exist_ok=True)
        Image.fromarray(synthetic_photo(*size, seed=seed)).save(f"{name}/{seed}.png")
    return runner(capfdbinary, monkeypatch)


def test_the_density_is_a_gaussian_of_each_value():
    net = gaussian()
    lr, hr = torch.rand(2, 3, 3, 5, dtype=torch.float64), torch.rand(2, 3, 12, 20, dtype=torch.float64)
    mean, logs = net.encoded(lr)
    normal = torch.distributions.Normal(mean, logs.exp())
    assert torch.allclose(net.log_density(hr, [mean, logs]), normal.log_prob(hr).flatten(1).sum(1))
    (noise,) = net.encode(hr, [mean, logs])
    assert (net.decode([noise], [mean, logs]) - hr).abs().max() < 1e-12
    assert torch.equal(net(lr), mean), "the mode is the mean"
    plain = RRDBNet(RRDBConfig(rrdb_blocks=1, rrdb_growth=4)).double()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if not k.startswith("log_deviation")})
    assert torch.equal(plain(lr), mean)


def test_bits_of_levels_by_hand():
    """A Gaussian of one deviation: log2(deviation sqrt(2 pi e) 255), where that is what the values have."""
    net = GaussianSR(TINY).double()
    hr = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    lr = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        hr = net(lr) + 0.05 * torch.randn_like(hr)
    net.start(hr, net.encoded(lr))
    expected = math.log2(0.05 * math.sqrt(2 * math.pi * math.e) * 255)
    assert bits_of_levels(net, hr, lr) == pytest.approx(expected, abs=0.03)
    assert bits_of_levels(net, hr, lr) == bits_of_levels(net, hr, lr)
    assert bits_of_levels(net, hr, lr, seed=1) != bits_of_levels(net, hr, lr)


def test_sizes_that_a_flow_does_not_take():
    flow = SRFlow(FLOW)
    hr = torch.rand(1, 3, 12, 20)
    assert bits_of_levels(flow, hr, bicubic_down(hr, 4)) == pytest.approx(
        bits_of_levels(flow, hr[..., :8, :16], bicubic_down(hr, 4)[..., :2, :4]), rel=1e-5
    )
    assert bits_of_levels(flow, hr[..., :4, :], bicubic_down(hr, 4)[..., :1, :]) is None


def test_it_draws_pictures_in_any_tiles(run):
    image = synthetic_photo(11, 40)
    whole, tiled = (Rescaler([find("gauss")], device="cpu", tile=tile) for tile in (None, 16))
    made = whole.samples(image, temperature=0.7, seeds=[1, 2])
    assert np.abs(made[0].astype(int) - made[1]).max() > 10
    for a, b in zip(made, tiled.samples(image, temperature=0.7, seeds=[1, 2]), strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_the_recipe_starts_from_a_network_and_trains_the_deviation_alone(photos, tmp_path):
    torch.manual_seed(2)
    mean = RRDBNet(RRDBConfig(rrdb_blocks=1, rrdb_growth=4))
    source = save_model(tmp_path / "models", "mean", mean.config, mean.state_dict()).weights
    keys = ["rrdb_blocks=1", "rrdb_growth=4", "network.rrdb_blocks=1", "batch_size=4", "img_size=16"]
    recipe = load_recipe("gaussian-x4-budget", [*keys, f"init={source}"])
    trainer = Trainer(recipe, out=tmp_path / "run", device=CPU)
    assert isinstance(trainer.objective, Likelihood)
    assert trainer.starts_from_data
    hr, reference = Photographs([photos], scale=4, crop=16).batch(4, seed=0, step=0)
    trainer.prepare((hr, reference))
    net = trainer.net
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    bits = [trainer.train_step((hr, reference), 1e-2, fraction=0.5)["bits"].item() for _ in range(20)]
    assert bits[-1] < bits[0]
    changed = {name for name, p in net.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name in before if name.startswith("log_deviation.")}


def test_the_recipe_as_it_is():
    objective = objective_of(load_recipe("gaussian-x4-budget", []))
    rrdb = objective_of(load_recipe("rrdb-x4-budget", []))
    count = sum(p.numel() for p in rrdb.parameters())
    assert sum(p.numel() for p in objective.parameters()) == count + 64 * 3 * 9 + 2 * 3
    own, _ = objective.net.adopt(rrdb.net.state_dict())
    assert own.keys() == objective.net.state_dict().keys()


def test_bad_configurations():
    for change in ({"scale": 3}, {"rrdb_blocks": 0}):
        with pytest.raises(ValueError, match="must be"):
            GaussianConfig(**change)


# --- the command


def test_the_command(run):
    result = run("evaluate", "bits", "--data", "a", "--data", "b", "-m", "flow", "-m", "gauss", "--json")
    assert result.code == 0, result.lines
    rows = [json.loads(line) for line in result.text.splitlines()]
    assert [(row["set"], row["model"], row["pictures"]) for row in rows] == [
        ("a", "flow", 2),
        ("a", "gauss", 2),
        ("b", "flow", 1),
        ("b", "gauss", 1),
    ]
    image = torch.from_numpy(synthetic_photo(32, 32, seed=3)).permute(2, 0, 1)[None].float() / 255
    net = Rescaler([find("gauss")], device="cpu").enlarging.net
    expected = bits_of_levels(net, image, quantize(bicubic_down(image, 4)))
    assert rows[3]["bits"] == pytest.approx(expected, rel=1e-5)

    shown = run("evaluate", "bits", "--data", "b", "-m", "flow", "-m", "gauss", "--side", "20")
    assert shown.code == 0
    lines = shown.text.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == ["set", "model", "bits/dim", "pictures"]
    values = [float(line.split()[2]) for line in lines[1:]]
    assert values == sorted(values), "the best first"


def test_samples_that_are_not_finite_are_counted(run, tmp_path):
    net = SRFlow(FLOW)
    for split in net.flow.splits:
        split.gauss.bias.data.fill_(30.0)  # exp(30 eps) in float16 weights
        split.gauss.log_gain.data.fill_(1.2)
    save_model(tmp_path / "models", "wild", FLOW, net.state_dict())
    result = run("evaluate", "bits", "--data", "a", "-m", "wild", "-m", "gauss", "--draws", "5", "--json")
    assert result.code == 0, result.lines
    rows = {row["model"]: row for row in map(json.loads, result.text.splitlines())}
    assert (rows["gauss"]["drawn"], rows["gauss"]["broken"]) == (5, 0)
    assert (rows["wild"]["drawn"], rows["wild"]["broken"]) == (5, 5)
    assert "5 of 5" in run("evaluate", "bits", "--data", "a", "-m", "wild", "--draws", "5").text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--data", "a", "-m", "sr-x4"), 3, "sr-x4: has no density"),
        (("--data", "a", "-m", "irn-x4"), 3, "irn-x4: has no density"),
        (("--data", "nowhere", "-m", "flow"), 1, "nowhere: no such folder"),
        (
            (
                "--data",
                "a",
            ),
            2,
            "-m",
        ),
    ],
)
def test_what_is_refused(run, arguments, code, words):
    result = run("evaluate", "bits", *arguments)
    assert result.code == code
    assert words in result.lines[-1]


def test_memory_that_runs_out(run, monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(SRFlow, "log_density", fail)
    result = run("evaluate", "bits", "--data", "a", "-m", "flow")
    assert result.code == 4
    assert "flow: out of memory for 32x24 (add --side 512)" in result.lines[-1]


def test_models_of_two_scales(run, tmp_path):
    config = GaussianConfig(scale=2, rrdb_blocks=1, rrdb_growth=4)
    save_model(tmp_path / "models", "double", config, GaussianSR(config).state_dict())
    result = run("evaluate", "bits", "--data", "a", "-m", "gauss", "-m", "double")
    assert result.code == 2
    assert "several scales" in result.lines[0]
