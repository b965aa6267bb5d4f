"""Training flows by their likelihood: the loss by hand, freezing, starting from an encoder, from a run to `up`."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from training import CPU, TINY, records, train

from irnscale.errors import ModelError, UsageError
from irnscale.images.bicubic import bicubic_down
from irnscale.kernels import quantize
from irnscale.networks.families.rrdb import RRDBConfig
from irnscale.networks.flow import ZeroConv
from irnscale.networks.flow.subnet import Subnet
from irnscale.networks.rrdb import RRDBNet
from irnscale.networks.srflow import SRFlow
from irnscale.train.checkpoints import export
from irnscale.train.config import load_recipe
from irnscale.train.data import Photographs
from irnscale.train.initial import load_initial
from irnscale.train.objective import objective_of
from irnscale.train.objectives.likelihood import Likelihood
from irnscale.train.objectives.super_resolution import SuperResolution
from irnscale.train.trainer import Trainer
from irnscale.train.validate import validate, validation_images
from irnscale.zoo.save import save_model

SMALL = {"rrdb_blocks": 1, "rrdb_growth": 4, "taps": [0], "flow_steps": 1, "flow_hidden": 8, "flow_scale": "squish"}
FLOW = TINY.but(
    family="srflow", scale=4, network=SMALL, noise_levels=32, weight_decay=0.0, img_size=16, initial_lr=5e-3
)


def crops(photos: Path, size: int = 4, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """HR and LR."""
    return Photographs([photos], scale=4, crop=16).batch(size, seed=seed, step=0)


def test_recipes():
    for name in ("rrdb-x4-budget", "rrdb-x4"):
        assert isinstance(objective_of(load_recipe(name, [])), SuperResolution)
    for name, count in (("srflow-x4-budget", 7_231_248), ("srflow-x4", 39_265_235)):
        objective = objective_of(load_recipe(name, []))
        assert isinstance(objective, Likelihood)
        assert not objective.graphable
        assert sum(p.numel() for p in objective.parameters()) == count


def test_loss_by_hand(photos):
    hr, reference = crops(photos)
    objective = objective_of(FLOW)
    for module in objective.modules():
        if isinstance(module, ZeroConv):
            torch.nn.init.normal_(module.weight, std=0.02)
    draws = objective_of(FLOW).draw(4, step=3)
    assert draws["noise"].shape == hr.shape
    terms = objective(hr, reference, draws)
    net = objective.net
    noisy = hr + (draws["noise"] - 0.5) / 32
    assert (noisy - hr).abs().max() <= 1 / 64
    density = net.log_density(noisy, net.encoded(quantize(reference)))
    expected = -density / (math.log(2) * 3 * 16 * 16) - math.log2(1 / 32)
    torch.testing.assert_close(terms["loss"], expected)
    assert set(terms) == {"loss", "bits"}
    terms["loss"].sum().backward()
    head = {*net.head.parameters(), *net.encoder.upconvs[1].parameters()}
    assert all(p.grad is not None for p in net.parameters() if p not in head)
    damaged = FLOW.but(jpeg_share=1.0, compression_quality="10")
    objective = objective_of(damaged, net)
    assert not torch.equal(objective(hr, reference, objective.draw(4, step=3))["bits"], terms["bits"])


def test_the_start_is_from_data(photos, tmp_path):
    trainer = Trainer(FLOW, out=tmp_path / "run", device=CPU)
    hr, reference = crops(photos)
    before = trainer.objective(hr, reference, objective_of(FLOW).draw(4, step=0))["bits"].mean()
    trainer.prepare((hr,))
    after = trainer.objective(hr, reference, objective_of(FLOW).draw(4, step=0))["bits"].mean()
    assert after < before
    assert torch.equal(trainer.average, trainer.parameters.values)


def test_it_learns(photos, tmp_path):
    trainer = Trainer(FLOW, out=tmp_path / "run", device=CPU)
    hr, reference = crops(photos)
    trainer.prepare((hr,))
    bits = [trainer.train_step((hr, reference), 5e-3)["bits"].item() for _ in range(40)]
    assert bits[-1] < bits[0] - 0.5
    assert min(bits) > 0
    assert trainer.count_bad() == 0


def test_lower_precision_is_that_of_the_subnets_in_training_alone(photos, tmp_path):
    exact = Trainer(FLOW, out=tmp_path / "exact", device=CPU)
    low = Trainer(FLOW.but(precision="bfloat16"), out=tmp_path / "low", device=CPU)
    hr, reference = crops(photos)
    for trainer in (exact, low):
        trainer.prepare((hr,))
    subnets = [module for module in low.net.flow.modules() if isinstance(module, Subnet)]
    assert {module.compute_dtype for module in subnets} == {torch.bfloat16}
    first, second = (
        [trainer.train_step((hr, reference), 5e-3)["bits"].item() for _ in range(40)] for trainer in (exact, low)
    )
    assert first != second
    assert second[-1] == pytest.approx(first[-1], abs=0.1)
    used = objective_of(FLOW).net
    used.set_compute_dtype(torch.bfloat16)
    assert {module.compute_dtype for module in used.flow.modules() if isinstance(module, Subnet)} == {None}


def test_frozen_until_the_fraction(photos, tmp_path):
    recipe = FLOW.but(frozen_until=0.5)
    trainer = Trainer(recipe, out=tmp_path / "run", device=CPU)
    net = trainer.objective.net
    hr, reference = crops(photos)
    trainer.prepare((hr,))
    encoder = [p.detach().clone() for p in net.encoder.parameters()]
    flow = [p.detach().clone() for p in net.flow.parameters()]
    for fraction in (0.0, 0.2, 0.49):
        trainer.train_step((hr, reference), 1e-3, fraction=fraction)
    assert all(torch.equal(a, b) for a, b in zip(encoder, net.encoder.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(flow, net.flow.parameters(), strict=True) if a.abs().max() > 0.1)
    trainer.train_step((hr, reference), 1e-3, fraction=0.5)
    assert not torch.equal(encoder[0], net.encoder.conv_first.weight)


def test_an_encoder_is_started_from(photos, tmp_path):
    rrdb = RRDBNet(RRDBConfig(rrdb_blocks=1, rrdb_growth=4))
    model = save_model(tmp_path, "pretrained", rrdb.config, rrdb.state_dict())
    for network in (SMALL, SMALL | {"head": False, "adapter": 4}):
        recipe = FLOW.but(network=network, init=str(model.weights))
        trainer = Trainer(recipe, out=tmp_path / "run", device=CPU)
        net = trainer.objective.net
        halves = {name: value.half().float() for name, value in rrdb.state_dict().items()}
        for name, value in net.state_dict().items():
            if name.startswith(("encoder.", "head.")):
                assert torch.equal(value, halves[name]), name
        assert trainer.starts_from_data, "the flow is still to be set from data"
        trainer.prepare(crops(photos))
        assert torch.equal(net.encoder.conv_first.weight, halves["encoder.conv_first.weight"])
    whole = save_model(tmp_path, "whole", net.config, net.state_dict())
    assert not Trainer(recipe.but(init=str(whole.weights)), out=tmp_path / "run", device=CPU).starts_from_data
    wider = RRDBNet(RRDBConfig(rrdb_blocks=1, rrdb_growth=5))
    other = save_model(tmp_path, "wider", wider.config, wider.state_dict())
    with pytest.raises(ModelError, match="does not fit the recipe, first at encoder"):
        load_initial(SRFlow(net.config), str(other.weights))
    longer = RRDBNet(RRDBConfig(rrdb_blocks=2, rrdb_growth=4))
    other = save_model(tmp_path, "longer", longer.config, longer.state_dict())
    with pytest.raises(ModelError, match=r"first at encoder.trunk.1"):
        load_initial(SRFlow(net.config), str(other.weights))


def test_validation_has_bits(photos):
    images = validation_images([photos], scale=4, limit=2)
    objective = objective_of(FLOW)
    scores = validate(objective, images, CPU)
    assert scores == validate(objective, images, CPU), "the noise is the same each time"
    assert {"psnr_y", "bits"} <= scores.keys()
    hr = images[0][None].float() / 255
    lr = quantize(bicubic_down(hr, 4))
    with torch.no_grad():
        density = objective.net.log_density(hr[..., :32, :48], objective.net.encoded(lr[..., :8, :12]))
        found = objective.scores(hr[..., :32, :48], lr[..., :8, :12])["bits"]
    expected = -density.item() / (math.log(2) * 3 * 32 * 48) + math.log2(255)
    assert found == pytest.approx(expected, abs=0.05), "noise of one level of 8 bits changes little"
    assert objective.scores(hr[..., :4], hr[..., :1]) == {}, "too narrow"


def test_a_run_and_its_resumption(photos, tmp_path):
    recipe = FLOW.but(frozen_until=0.5, budget="4", schedule="constant")
    train(tmp_path / "whole", photos, recipe)
    train(tmp_path / "parts", photos, recipe.but(budget="2", frozen_until=1.0))
    train(tmp_path / "parts", photos, recipe, resume=True)
    whole, parts = (export(tmp_path / name)[0] for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    logged = [r for r in records(tmp_path / "whole") if "bits" in r]
    assert logged


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("img_size=12", "is not divisible by 8"),
        ("frozen_until=1.5", "frozen_until"),
        ("noise_levels=-1", "noise_levels"),
        ("weight_decay=0.1", "weight_decay"),
        ("optimizer=muon", "adam"),
        ("network.taps=[9]", "taps"),
        ("network.width=9", "network.width"),
        ("scale=2", "4 or 8"),
        ("compression_mode=true", "no meaning for family=srflow"),
    ],
)
def test_recipes_that_make_no_sense(override, words):
    with pytest.raises(UsageError, match=words):
        objective_of(load_recipe("srflow-x4-budget", [override]))


def test_keys_of_flows_are_theirs_alone():
    for override in ("noise_levels=32", "frozen_until=0.5"):
        with pytest.raises(UsageError, match="likelihood"):
            load_recipe("sr-x4", [override])
