"""What each setting of the loss and of the network does, on tiny runs."""

from __future__ import annotations

import pytest
import torch
from commandline import Run, picture, pixels, runner
from training import CPU, TINY, batch, train

from irnscale.errors import UsageError
from irnscale.kernels import quantize
from irnscale.networks import DenseBlock
from irnscale.train.config import Recipe, load_recipe, recipe_names
from irnscale.train.data import Photographs
from irnscale.train.losses import LUMA, charbonnier_sum, image_loss, l1_sum, l2_sum
from irnscale.train.objective import objective_of
from irnscale.train.objectives.rescaling import loss_flip
from irnscale.train.trainer import Trainer


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line, with a folder of models of its own."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    return runner(capfdbinary, monkeypatch)


def learnt(recipe: Recipe, photos, out, *, epochs: float = 0.0) -> torch.Tensor:
    """All weights after four steps."""
    trainer = Trainer(recipe, out=out, device=CPU)
    crops = Photographs([photos], scale=recipe.scale, crop=recipe.data.img_size)
    for step in range(4):
        trainer.train_step(crops.batch(2, seed=recipe.run.seed, step=step), recipe.optim.initial_lr, epochs)
    return torch.cat([p.detach().flatten() for p in trainer.net.parameters()])


CHANGES = [
    {"lambda_recon": 2.0},
    {"lambda_guide": 1.0},
    {"lambda_distr": 0.0},
    {"weight_decay": 0.1},
    {"clip_norm_max_g": 1e-7},  # Adam forgets the gradient's size but for its epsilon of 1e-8
    {"clip_value_max_g": 1e-3},
    {"beta1": 0.5},
    {"seed": 11},
    {"initial_lr": 1e-3},
    {"clamp": 0.5},
    {"clamp_tightness": 2.0},
    {"clamp_activation": "tanh"},
    {"clamp_activation": "proposal1"},
    {"guide_norm": "l1"},
    {"guide_norm": "charbonnier"},
    {"recon_norm": "l2"},
    {"recon_norm": "l1"},
    {"quantize_guide_loss": True},
    {"quantize_recon_loss": True},
    {"y_channel_usage": 0.5},
    {"zerosample": False},
    {"sr_mode": True},
    {"compression_mode": True},
    {"compression_mode": True, "compression_quality": "20"},
    {"initialisation": "kaiming"},
    {"initialisation": "default"},
    {"zero_last": False},
    {"lr_cells": [4]},
    {"lr_cells": [1, 16]},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_every_setting_changes_what_is_learnt(photos, tmp_path, change):
    one = learnt(TINY, photos, tmp_path / "one")
    other = learnt(TINY.but(**change), photos, tmp_path / "other")
    assert one.shape == other.shape
    assert other.isfinite().all()
    assert (one - other).abs().max() > 1e-6
    if {"zerosample", "compression_mode", "lr_cells"} & change.keys():
        again = learnt(TINY.but(**change), photos, tmp_path / "again")
        assert torch.equal(other, again), "what is drawn is a function of the recipe"


def test_settings_without_effect_have_none(photos, tmp_path):
    """The defaults of all extensions are the paper's code: naming them changes nothing."""
    plain = {"guide_norm": "l2", "recon_norm": "charbonnier", "y_channel_usage": 0.0, "clip_value_max_g": 1e9}
    one = learnt(TINY, photos, tmp_path / "one")
    other = learnt(TINY.but(**plain), photos, tmp_path / "other")
    assert torch.equal(one, other)


@pytest.mark.parametrize("zero_last", [True, False])
@pytest.mark.parametrize("kind", ["xavier", "kaiming", "default"])
def test_deviations_of_initial_weights(tmp_path, kind, zero_last):
    """Each convolution's weights against the formula of its initialisation."""
    recipe = TINY.but(initialisation=kind, zero_last=zero_last, growth=32, inv_per_ds=4)
    net = Trainer(recipe, out=tmp_path / "run", device=CPU).net
    for block in (m for m in net.modules() if isinstance(m, DenseBlock)):
        for k, conv in enumerate(block.convolutions):
            fan_in, fan_out = (9 * n for n in conv.weight.shape[1::-1])
            spread = {
                "xavier": 0.1 * (2 / (fan_in + fan_out)) ** 0.5,
                "kaiming": 0.1 * (2 / fan_in) ** 0.5,
                "default": (1 / (3 * fan_in)) ** 0.5,  # uniform within 1 / sqrt(fan_in)
            }[kind]
            if k == 4 and zero_last:
                assert not conv.weight.any()
                assert not conv.bias.any()
                continue
            assert conv.weight.std().item() == pytest.approx(spread, rel=5 * (2 * conv.weight.numel()) ** -0.5)
            assert bool(conv.bias.any()) == (kind == "default")
    hr = torch.rand(1, 3, 16, 16)
    lr = net.downscale(hr)[0]
    is_haar = torch.allclose(lr, torch.nn.functional.avg_pool2d(hr, 2), atol=1e-6)
    assert is_haar == zero_last


def test_initial_weights_are_a_function_of_the_seed_and_not_drawn_twice(photos, tmp_path):
    recipe = TINY.but(initialisation="kaiming", zero_last=False, budget="2")
    train(tmp_path / "run", photos, recipe)
    trained = Trainer(recipe, out=tmp_path / "run", device=CPU, resume=True).net.state_dict()
    train(tmp_path / "again", photos, recipe)
    again = Trainer(recipe, out=tmp_path / "again", device=CPU, resume=True).net.state_dict()
    assert all(torch.equal(trained[k], again[k]) for k in trained)
    with pytest.raises(UsageError, match="gives all weights"):
        recipe.but(init="irn-x2")


def test_norms_and_quantised_losses_by_hand(photos):
    hr, reference = batch(photos)
    for norm, distance in (("l1", l1_sum), ("l2", l2_sum), ("charbonnier", charbonnier_sum)):
        recipe = TINY.but(guide_norm=norm, recon_norm=norm, quantize_guide_loss=True, quantize_recon_loss=True)
        objective = objective_of(recipe)
        terms = objective(hr, reference, {})
        lr = quantize(objective.downscale(hr))
        torch.testing.assert_close(terms["guide"], distance(lr, reference))
        torch.testing.assert_close(terms["recon"], distance(quantize(objective.upscale(lr)), hr))
        terms["loss"].sum().backward()
        assert sum(p.grad.abs().sum() for p in objective.net.parameters()) > 0, "the gradient passes the rounding"


def test_luma_in_the_loss():
    a, grey = torch.rand(2, 3, 4, 5), torch.rand(2, 1, 4, 5) * 0.3
    for norm in ("l1", "l2"):
        # Where all channels differ alike, luma counts as much as RGB: IRN-Y's scales are made so.
        rgb = image_loss(norm, a, a + grey)
        torch.testing.assert_close(image_loss(norm, a, a + grey, 0.7), rgb, rtol=3e-4, atol=0)
    # A difference of colour alone is not seen by luma.
    weights = torch.tensor(LUMA).view(1, 3, 1, 1)
    colour = torch.cat((grey, -grey * LUMA[0] / LUMA[1], torch.zeros_like(grey)), dim=1)
    assert (colour * weights).sum(1).abs().max() < 1e-7
    half = image_loss("l2", a, a + colour, 0.5)
    torch.testing.assert_close(half, 0.5 * l2_sum(a, a + colour))
    assert image_loss("l2", a, a + colour, 1.0).max() < 1e-6


def test_irn_y_trades_colour_for_luma(photos, tmp_path):
    hr, reference = batch(photos)
    scores = {}
    for usage in (0.0, 1.0):
        recipe = TINY.but(y_channel_usage=usage, growth=8)
        trainer = Trainer(recipe, out=tmp_path / str(usage), device=CPU)
        for _ in range(25):
            trainer.train_step((hr, reference), 4e-3)
        restored = trainer.objective.upscale(quantize(trainer.objective.downscale(hr)))
        scores[usage] = [image_loss("l2", restored, hr, y).sum().item() for y in (0.0, 1.0)]
    assert scores[1.0][0] / scores[1.0][1] > scores[0.0][0] / scores[0.0][1]


def test_loss_flip_phases(photos, tmp_path):
    recipe = TINY.but(loss_flip_period=2.5, loss_flip_scale=4.0)
    phases = [loss_flip(epochs, 2.5, recipe.objective.loss_flip_scale) for epochs in (0, 2.4, 2.5, 4.9, 5.0, 7.4, 7.5)]
    assert phases == [(1, 1), (1, 1), (1, 0.25), (1, 0.25), (0.25, 1), (0.25, 1), (1, 1)]
    hr, reference = batch(photos)
    objective = objective_of(recipe)
    for epochs, (guide, recon) in ((0, (1, 1)), (3, (1, 0.25)), (6, (0.25, 1))):
        terms = objective(hr, reference, objective_of(recipe).draw(2, step=0, epochs=epochs))
        expected = guide * 4 * terms["guide"] + recon * terms["recon"] + terms["distr"]
        torch.testing.assert_close(terms["loss"], expected)
    early = learnt(recipe, photos, tmp_path / "early")
    assert torch.equal(early, learnt(TINY, photos, tmp_path / "plain")), "phase 0 is the plain loss"
    assert not torch.equal(early, learnt(recipe, photos, tmp_path / "late", epochs=3.0))


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (["loss_flip_period=0", "loss_flip_scale=4"], "loss_flip_period"),
        (["loss_flip_scale=4"], "loss_flip_period"),
        (["loss_flip_period=25", "loss_flip_scale=0"], "loss_flip_scale"),
        (["y_channel_usage=1.5"], "y_channel_usage"),
        (["guide_norm=l3"], "guide_norm"),
        (["recon_norm=huber"], "recon_norm"),
        (["sr_mode=true", "compression_mode=true", "codec_blocks=2"], "sr_mode"),
        (["codec_blocks=-1"], "codec_blocks"),
        (["scale=3", "img_size=64"], "img_size"),
        (["actnorm=perhaps"], "actnorm"),
    ],
)
def test_impossible_combinations_are_one_line(overrides, word):
    with pytest.raises(UsageError, match=word) as caught:
        load_recipe("irn-x2", overrides)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"scale": 3}, {"scale": 8}, {"scale": 16}, {"actnorm": True}], ids=str)
def test_every_network_learns_and_is_usable(run, photos, tmp_path, change):
    """Each kind of network trains, resumes, exports, and goes down and up, tiled too."""
    recipe = TINY.but(**({"img_size": 48, "budget": "4"} | change))
    train(tmp_path / "run", photos, recipe.but(budget="2"))
    train(tmp_path / "run", photos, recipe, resume=True)
    assert run("models", "export", tmp_path / "run", "--name", "mine").code == 0
    crops = Photographs([photos], scale=recipe.scale, crop=48)
    hr, reference = crops.batch(2, seed=1, step=0)
    losses = []
    trainer = Trainer(recipe, out=tmp_path / "other", device=CPU)
    trainer.prepare((hr,))
    for _ in range(8):
        losses.append(float(trainer.train_step((hr, reference), 3e-4)["loss"]))
    assert losses[-1] < losses[0]
    photo = picture(tmp_path / "a.png", width=70, height=53)
    exact = ["--device", "cpu", "--precision", "float32", "--overwrite"]
    for tile in ("256", "16"):
        folder = tmp_path / tile
        folder.mkdir()
        small, large = folder / "s.png", folder / "l.png"
        assert run("down", photo, "-m", "mine", "-s", recipe.scale, "-o", small, "--tile", tile, *exact).code == 0
        assert run("up", small, "-o", large, "--tile", tile, *exact).code == 0
        assert pixels(large).shape == (53, 70, 3)
    one, other = (pixels(tmp_path / tile / "l.png").astype(int) for tile in ("256", "16"))
    assert abs(one - other).max() <= 1


def test_actnorm_starts_from_the_data(photos, tmp_path):
    recipe = TINY.but(actnorm=True)
    trainer = Trainer(recipe, out=tmp_path, device=CPU)
    hr, reference = batch(photos)
    before = trainer.objective(hr, reference, {})
    trainer.prepare((hr,))
    z = trainer.net.downscale(hr)[1]
    torch.testing.assert_close(z.std((0, 2, 3), unbiased=False), torch.ones(9), rtol=1e-3, atol=0)
    after = trainer.objective(hr, reference, {})
    torch.testing.assert_close(after["guide"], before["guide"])
    assert (after["distr"] > before["distr"]).all()
    assert torch.equal(trainer.average, trainer.parameters.values), "the average starts there too"


@pytest.mark.parametrize("name", [name for name in recipe_names() if not name.startswith("glow-")])
def test_every_recipe_can_take_a_step(name):
    """With narrow networks and small crops; the assistants' frozen model is the shipped one."""
    side = 32 if "16" in name else 24
    narrow = {"inv_per_ds": 1, "growth": 2, "assistant_steps": 1, "batch_size": 1, "img_size": side, "init": None}
    recipe = load_recipe(name, [])
    recipe = recipe.but(**{key: value for key, value in narrow.items() if key in recipe.to_dict()})
    hr, reference = torch.rand(1, 3, side, side), torch.rand(1, 3, side // recipe.scale, side // recipe.scale)
    objective = objective_of(recipe)
    objective.initialise(hr)
    terms = objective(hr, reference, objective_of(recipe).draw(1, step=0))
    terms["loss"].sum().backward()
    assert terms["loss"].isfinite().all()
    # an SRFlow as published keeps the end of the network that its encoder is of, and does not use it
    unused = ("head.", "encoder.upconvs.1.") if name == "srflow-x4" else ()
    assert all(p.grad is not None for key, p in objective.net.named_parameters() if not key.startswith(unused))


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_say_how_they_are_run_and_what_they_reached(name):
    from irnscale.train.config import RECIPES

    comments = [line for line in (RECIPES / f"{name}.yaml").read_text().splitlines() if line.startswith("#")]
    assert comments[0].startswith(f"# irnscale train {name}")
    assert any(word in line for line in comments for word in ("dB", "Not run to the end", "no score", "docs/glow.md"))


def test_recipes_are_listed(run):
    result = run("train", "recipes")
    assert result.code == 0
    assert [line.split()[0] for line in result.text.splitlines()] == recipe_names()
    (line,) = [line for line in result.text.splitlines() if line.startswith("irn-y-x4 ")]
    assert "luma" in line


def test_faithful_recipes_are_the_papers():
    for scale in (2, 3, 4, 8, 16):
        recipe = load_recipe(f"irn-x{scale}", [])
        assert (recipe.data.batch_size, recipe.data.img_size, recipe.run.budget) == (16, 144, "500000")
        optim, objective = recipe.optim, recipe.objective
        assert (optim.initial_lr, optim.beta1, optim.beta2, optim.weight_decay) == (2e-4, 0.9, 0.999, 1e-5)
        assert (optim.schedule, optim.lr_gamma, optim.clip_norm_max_g) == ("milestones", 0.5, 10.0)
        assert (objective.guide_weight(scale), objective.lambda_recon, objective.lambda_distr) == (scale**2, 1.0, 1.0)
        assert not recipe.objective.zerosample
    assert load_recipe("irn-2t-x4", []).network.clamp_tightness == 2
    assert load_recipe("irn-y-x4", []).objective.y_channel_usage == 0.5
    irn_c = load_recipe("irn-c-x4", [])
    assert (irn_c.objective.qualities, irn_c.objective.chroma, irn_c.objective.compression_gradient) == (
        (10, 99),
        "4:2:0",
        "identity",
    )


@pytest.mark.parametrize("change", [{"codec_blocks": 1, "compression_mode": True}, {"actnorm": True}, {"scale": 3}])
def test_saving_memory_gives_the_same_gradients(photos, tmp_path, change):
    recipe = TINY.but(img_size=24, **change)
    hr, reference = Photographs([photos], scale=recipe.scale, crop=24).batch(2, seed=0, step=0)
    grads = []
    for save_memory in (False, True):
        trainer = Trainer(recipe.but(save_memory=save_memory), out=tmp_path / str(save_memory), device=CPU)
        trainer.prepare((hr,))
        trainer.train_step((hr, reference), 0.0)
        grads.append(trainer.parameters.grads.clone())
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-3 * grads[0].abs().max().item())
