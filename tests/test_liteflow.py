"""The flow of what a plain network leaves: its inverse, its start, its support, its training, a model of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from conftest import synthetic_photo
from test_flow_layers import randomised
from test_networks import randomise
from torch import Tensor, nn
from training import CPU

from irnscale.engine.rescaler import Rescaler
from irnscale.networks.families.gaussian import GaussianConfig
from irnscale.networks.families.liteflow import LiteFlowConfig
from irnscale.networks.families.sr import SRConfig
from irnscale.networks.flow import standard_normal
from irnscale.networks.gaussian import PlainGaussianSR
from irnscale.networks.liteflow import LiteFlow
from irnscale.networks.super_resolution import SRNet
from irnscale.train.checkpoints import export
from irnscale.train.config import load_recipe
from irnscale.train.data import Photographs
from irnscale.train.initial import load_initial
from irnscale.train.objective import objective_of
from irnscale.train.trainer import Trainer
from irnscale.zoo import find
from irnscale.zoo.save import save_model

PLAIN = {"plain_blocks": 2, "plain_channels": 6}
LITE = {**PLAIN, "condition": 5, "flow_steps": 1, "flow_hidden": 4}


def tiny(**given) -> LiteFlow:
    """A narrow one with random weights in float64, which stay small enough for inverses to keep the digits."""
    torch.manual_seed(4)
    net = LiteFlow(LiteFlowConfig(**LITE | given))
    randomised(net.flow, gain=0.15)
    randomise(net.encoder, gain=0.3)
    return net.double()


def plain(scale: int = 4) -> SRNet:
    """A narrow plain network that changes pictures."""
    torch.manual_seed(5)
    return randomise(SRNet(SRConfig(scale=scale, channels=6, blocks=2)), gain=1.0)


def test_parameters():
    net, whole = SRNet(SRConfig()), LiteFlow(LiteFlowConfig())
    count = [sum(p.numel() for p in part.parameters()) for part in (whole, whole.encoder, net, whole.flow)]
    assert count == [4_732_800, 426_288, 426_288, 4_216_272]


@pytest.mark.parametrize("given", [{}, {"scale": 2}, {"flow_steps": 2, "flow_scale": "glow"}])
@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 2)])
def test_large_pictures_and_latents_are_each_others_inverse(given, size):
    net = tiny(**given)
    lr = torch.rand(2, 3, *size, dtype=torch.float64)
    hr = torch.rand(2, 3, size[0] * net.scale, size[1] * net.scale, dtype=torch.float64)
    *conditions, mean = net.encoded(lr)
    assert mean.shape == hr.shape
    assert [tuple(c.shape[1:]) for c in conditions] == [
        (5, hr.shape[2] >> k, hr.shape[3] >> k) for k in range(1, net.config.levels + 1)
    ]
    latents = net.encode(hr, [*conditions, mean])
    assert [z.shape for z in latents] == [z.shape for z in net.latents(lr, seed=0)]
    assert (net.decode(latents, [*conditions, mean]) - hr).abs().max() < 1e-10


def test_the_density_is_that_of_the_change_of_variables():
    net = tiny()
    lr, hr = torch.rand(1, 3, 2, 2, dtype=torch.float64), torch.rand(1, 3, 8, 8, dtype=torch.float64)
    given = net.encoded(lr)

    def flat(x: Tensor) -> Tensor:
        return torch.cat([z.flatten() for z in net.encode(x.view(1, 3, 8, 8), given)])

    jacobian = torch.autograd.functional.jacobian(flat, hr.flatten())
    expected = standard_normal(net.encode(hr, given)) + torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(net.log_density(hr, given), expected)


@pytest.mark.parametrize("scale", [2, 4])
def test_it_starts_as_the_plain_network(tmp_path, monkeypatch, scale):
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path))
    mean = plain(scale)
    save_model(tmp_path, "plain", mean.config, mean.state_dict())
    torch.manual_seed(6)
    net = LiteFlow(LiteFlowConfig(**LITE, scale=scale))
    assert not load_initial(net, "plain")
    mean.load_state_dict(net.encoder.state_dict())
    lr = torch.rand(4, 3, 6, 4)
    hr = mean(lr) + 0.05 * torch.randn(4, 3, 6 * scale, 4 * scale)
    before = net.log_density(hr, net.encoded(lr)).mean()
    net.start(hr, net.encoded(lr))
    assert net.log_density(hr, net.encoded(lr)).mean() > before
    # Untrained layers do not see their conditions: the mode is the mean but for the batch's mean deviation from it.
    assert (net(lr) - mean(lr)).abs().max() < 0.05
    whole = save_model(tmp_path, "whole", net.config, net.state_dict())
    assert load_initial(LiteFlow(LiteFlowConfig(**LITE, scale=scale)), str(whole.weights))


@pytest.mark.parametrize("given", [{}, {"scale": 2, "flow_steps": 2}])
@torch.no_grad()
def test_a_pixel_depends_on_its_support_alone(given):
    net = tiny(**given)
    for parameter in net.encoder.parameters():
        nn.init.normal_(parameter, std=0.2)
    halo, scale, core = net.support, net.scale, 4
    side = 2 * halo + core + 6
    lr = torch.rand(1, 3, side + 1, core, dtype=torch.float64)
    whole = net.enlarge(lr, temperature=0.5, seeds=(3,))

    def error(top: int, around: int) -> float:
        first, last = max(0, top - around), min(lr.shape[2], top + core + around)
        part = net.enlarge(lr[:, :, first:last], temperature=0.5, seeds=(3,), origin=(first, 0))
        length = min(core, lr.shape[2] - top) * scale
        part = part.narrow(2, (top - first) * scale, length)
        return (part - whole.narrow(2, top * scale, length)).abs().max().item()

    assert max(error(top, halo) for top in (0, halo + 2, side - 2)) < 1e-9
    assert error(halo + 2, halo // 4 * 2) > 1e-12


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scale": 8}, "2 or 4"),
        ({"condition": 0}, "condition"),
        ({"plain_blocks": 1}, "blocks"),
        ({"flow_scale": "much"}, "flow_scale"),
    ],
)
def test_what_cannot_be_built(given, words):
    with pytest.raises(ValueError, match=words):
        LiteFlowConfig(**given)


def small_recipe(name: str, source: str, network: dict[str, int]):
    """The recipe, narrow."""
    keys = [f"network.{key}={value}" for key, value in network.items()]
    return load_recipe(name, [*keys, f"init={source}", "batch_size=4", "img_size=16", "precision=float32"])


@pytest.mark.parametrize(
    ("name", "network", "learns"),
    [("liteflow-x4", LITE, ("flow.", "spread.", "gathered.")), ("gaussian-plain-x4", PLAIN, ("log_deviation.",))],
)
def test_a_model_from_photographs_to_samples(photos, tmp_path, monkeypatch, name, network, learns):
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    mean = plain()
    save_model(tmp_path / "models", "plain", mean.config, mean.state_dict())
    trainer = Trainer(small_recipe(name, "plain", network), out=tmp_path / "run", device=CPU)
    assert trainer.starts_from_data
    batch = Photographs([photos], scale=4, crop=16).batch(4, seed=0, step=0)
    trainer.prepare(batch)
    before = {key: p.detach().clone() for key, p in trainer.net.named_parameters()}
    bits = [trainer.train_step(batch, 5e-3, fraction=0.5)["bits"].item() for _ in range(25)]
    assert bits[-1] < bits[0] - 0.02
    changed = {key.split(".")[0] + "." for key, p in trainer.net.named_parameters() if not torch.equal(p, before[key])}
    assert changed == set(learns)
    trainer.save()
    weights, _ = export(tmp_path / "run")
    save_model(tmp_path / "models", "drawn", trainer.net.config, weights)
    image = synthetic_photo(11, 40)
    whole, tiled = (Rescaler([find("drawn")], device="cpu", tile=tile) for tile in (None, 24))
    made = whole.samples(image, temperature=0.7, seeds=[1, 2])
    assert (made[0] != made[1]).any()
    for a, b in zip(made, tiled.samples(image, temperature=0.7, seeds=[1, 2]), strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1


def test_the_gaussian_beside_a_plain_network_by_hand():
    torch.manual_seed(7)
    net = PlainGaussianSR(GaussianConfig(**PLAIN)).double()
    randomise(net, gain=0.3)
    lr, hr = torch.rand(2, 3, 3, 5, dtype=torch.float64), torch.rand(2, 3, 12, 20, dtype=torch.float64)
    mean, logs = net.encoded(lr)
    torch.testing.assert_close(mean, net.encoder(lr))
    expected = torch.distributions.Normal(mean, logs.exp()).log_prob(hr).flatten(1).sum(1)
    torch.testing.assert_close(net.log_density(hr, [mean, logs]), expected)
    for parameter in net.log_deviation.parameters():
        nn.init.zeros_(parameter)
    net.start(hr, [mean, logs])
    found = net.encoded(lr)[1][0, :, 0, 0]
    torch.testing.assert_close(found, (hr - mean).square().mean((0, 2, 3)).sqrt().log())


def test_the_recipes_as_they_are():
    lite, gauss = (objective_of(load_recipe(name, [])) for name in ("liteflow-x4", "gaussian-plain-x4"))
    assert isinstance(lite.net, LiteFlow)
    assert isinstance(gauss.net, PlainGaussianSR)
    assert lite.net.config.plain == gauss.net.encoder.config
    assert math.log2(lite.net.config.scale) + 1 == len(lite.net.flow.levels)
