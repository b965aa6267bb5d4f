"""Scale networks that are constants: skipped with exactly the same result, trained as such, found by a command."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from commandline import Run, runner
from test_networks import randomise
from training import CPU, TINY, batch, train

from irnscale.bench.roundtrip import block_flop_per_pixel, measure
from irnscale.bench.training import measure as measure_step
from irnscale.engine import packed
from irnscale.engine.executor import run as run_engine
from irnscale.engine.prepared import Prepared
from irnscale.errors import ModelError, UsageError
from irnscale.networks import IRN, DenseBlock, IRNConfig
from irnscale.train.config import load_recipe
from irnscale.train.initial import load_initial
from irnscale.train.simplify import _raw
from irnscale.train.trainer import Trainer
from irnscale.zoo import find, load_network
from irnscale.zoo.official import read_official
from irnscale.zoo.save import save_model


@pytest.fixture(autouse=True)
def _own_models(monkeypatch, tmp_path):
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))


@pytest.fixture
def irnscale(capfdbinary, monkeypatch) -> Run:
    return runner(capfdbinary, monkeypatch)


def make_constant(net: IRN, *places: int, nets: str = "s") -> IRN:
    """Zero the last convolutions of these couplings' subnets."""
    for place in places:
        for name in nets:
            getattr(net.module_list[place], name).conv5.weight.data.zero_()
    return net


def random_irn(**config) -> IRN:
    net = randomise(IRN(IRNConfig(**{"scale": 4, "inv_per_ds": 2, "growth": 4} | config)), gain=0.5)
    assert isinstance(net, IRN)
    return net.eval()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("nets", ["s", "pst"])
def test_skipped_is_exactly_what_is_run(nets, dtype, monkeypatch):
    net = make_constant(random_irn(), 1, 4, nets=nets)
    make_constant(net, 5, nets=nets[0])
    if dtype == torch.float64:
        net = net.double()
    x = torch.rand(2, 3, 56, 40, dtype=torch.promote_types(dtype, torch.float32))
    convolutions = []
    plain = packed.convolve
    monkeypatch.setattr(packed, "convolve", lambda x, *more: convolutions.append(0) or plain(x, *more))
    results, counts, works = [], [], []
    for skip in (True, False):
        with monkeypatch.context() as patch:
            if not skip:
                patch.setattr(DenseBlock, "is_constant", False)
            prepared = Prepared(net, dtype)
            works.append(prepared.programs[False].work(56, 40))
            convolutions.clear()
            y = run_engine(prepared, x, rev=False, tile=16)
            results.append((y, run_engine(prepared, y, rev=True, tile=16)))
            counts.append(len(convolutions))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert works[0] < works[1]
    assert counts[0] < counts[1] or dtype == torch.float64


def test_a_level_without_couplings():
    net = random_irn(inv_per_ds=[0, 2], constant_scales=[3]).double()
    assert net.config.couplings == [2, 3]
    x = torch.rand(1, 3, 24, 20, dtype=torch.float64)
    lr, z = net.downscale(x)
    y = run_engine(net, x, rev=False, tile=16, band=2)
    torch.testing.assert_close(y, torch.cat((lr, z), dim=1))
    torch.testing.assert_close(run_engine(net, y, rev=True, tile=16, band=2), x)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"inv_per_ds": [8]}, "each of the 2 levels"),
        ({"inv_per_ds": [8, 0]}, "at least 1"),
        ({"inv_per_ds": [-1, 8]}, "at least 1"),
        ({"inv_per_ds": [8, True]}, "whole number"),
        ({"inv_per_ds": "8"}, "whole number"),
        ({"constant_scales": [9]}, "no coupling 9"),
        ({"constant_scales": [18]}, "no coupling 18"),
        ({"constant_scales": 3}, "list"),
        ({"constant_scales": [1.0]}, "whole numbers"),
    ],
)
def test_impossible_configurations(values, word):
    with pytest.raises(ValueError, match=word):
        IRNConfig(**values)
    with pytest.raises(UsageError, match=r"inv_per_ds|constant_scales"):
        load_recipe("irn-x4", [f"{key}={value}".replace("=8", "=eight") for key, value in values.items()])


def test_places_are_those_of_the_weights():
    for config in (IRNConfig(), IRNConfig(actnorm=True, codec_blocks=2), IRNConfig(scale=3, inv_per_ds=[2])):
        net = IRN(config)
        found = {int(name.split(".")[1]) for name in net.state_dict() if ".s.conv5.weight" in name}
        assert found == set(config.couplings)
    assert IRNConfig(inv_per_ds=[8, 8]) == IRNConfig()
    assert IRNConfig(inv_per_ds=(4, 16), constant_scales=(3, 1, 3)).to_dict() | {"scale": 4} == (
        IRNConfig().to_dict() | {"inv_per_ds": [4, 16], "constant_scales": [1, 3]}
    )


@pytest.mark.parametrize("save_memory", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_training_step(photos, tmp_path, precision, save_memory):
    """The gradients of everything else are those of the network that runs all of its blocks."""
    recipe = TINY.but(inv_per_ds=2, constant_scales=[2], precision=precision, save_memory=save_memory)
    trainers = [Trainer(recipe, out=tmp_path / str(k), device=CPU) for k in range(2)]
    hr, lr = batch(photos)
    grads = []
    for skip, trainer in zip((True, False), trainers, strict=True):
        generator = torch.Generator().manual_seed(1)
        for block in trainer.net.dense_blocks():
            bias = block.conv5.bias
            bias.data.copy_(0.1 * torch.randn(bias.shape, generator=generator))
        trainer.net.scale_block(2).fixed = skip
        terms = trainer.objective(hr, lr, {})
        terms["loss"].sum().backward()
        grads.append((terms["loss"].detach(), trainer.parameters.grads.clone()))
        trainer.net.scale_block(2).fixed = True
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
    own = trainers[0]
    names = [name for name in own.parameters.shapes if name.startswith("module_list.2.s.")]
    assert names == ["module_list.2.s.conv5.bias"]
    before = own.weights()[names[0]].clone()
    own.train_step((hr, lr), 1e-3)
    assert not own.weights()["module_list.2.s.conv5.weight"].any()
    assert not torch.equal(before, own.weights()[names[0]])


def test_a_run_and_its_model(photos, tmp_path, irnscale):
    recipe = TINY.but(inv_per_ds=[2], constant_scales=[2], budget="2")
    out = tmp_path / "run"
    train(out, photos, recipe)
    with pytest.raises(UsageError, match="constant_scales"):
        Trainer(recipe.but(constant_scales=[]), out=out, device=CPU, resume=True)
    Trainer(recipe.but(inv_per_ds=2), out=out, device=CPU, resume=True)
    assert irnscale("models", "export", out, "--name", "mine").code == 0
    model = find("mine")
    assert model.card.architecture["constant_scales"] == [2]
    net = load_network(model)
    assert net.scale_block(2).is_constant
    assert not net.scale_block(1).fixed
    measured = measure(name="mine", width=32, height=24, repeats=1, device="cpu", precision="float32")
    assert measured.scale == 2
    assert measured.largest_difference <= 1 / 255 + 1e-6
    step = measure_step(name="mine", batch=1, crop=16, repeats=1, device=CPU, precision="float32")
    assert step.loss_difference < 1e-4
    assert block_flop_per_pixel([net]) < block_flop_per_pixel([random_irn(scale=2)])


def test_a_start_that_does_not_fit(tmp_path):
    config = IRNConfig(scale=2, inv_per_ds=2, growth=4)
    save_model(tmp_path / "models", "own", config, random_irn(scale=2).state_dict())
    with pytest.raises(ModelError, match=r"module_list\.1\.s.*simplify"):
        load_initial(IRN(replace(config, constant_scales=[1])), "own")
    lying = replace(config, constant_scales=[2])
    with pytest.raises(ModelError, match="scale of coupling 2 is constant"):
        load_network(save_model(tmp_path / "models", "lie", lying, random_irn(scale=2).state_dict()))


def test_import_knows_levels_and_constants(tmp_path):
    net = make_constant(random_irn(inv_per_ds=[1, 3]), 1, 5)
    theirs = {"p": "F", "s": "H", "t": "G"}
    state = {}
    for key, value in net.state_dict().items():
        _, place, name, rest = key.split(".", 3)
        state[f"operations.{place}.{theirs[name]}.{rest}"] = value
    torch.save(state, tmp_path / "their.pth")
    # the paper's growth is 32: a narrow network is refused by its shapes, so the layout is looked at through them
    with pytest.raises(ModelError, match=r"operations\.1\.F\.conv1\.weight has shape"):
        read_official(tmp_path / "their.pth")
    wide = make_constant(IRN(IRNConfig(inv_per_ds=[1, 3])), 1, 5)
    for place in (3, 4):
        torch.nn.init.ones_(wide.scale_block(place).conv5.weight)
    state = {}
    for key, value in wide.state_dict().items():
        _, place, name, rest = key.split(".", 3)
        state[f"operations.{place}.{theirs[name]}.{rest}"] = value
    torch.save(state, tmp_path / "their.pth")
    config, tensors = read_official(tmp_path / "their.pth")
    assert config == wide.config.__class__(inv_per_ds=[1, 3], constant_scales=[1, 5])
    IRN(config).load_state_dict(tensors)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "proposal1"])
def test_the_constant_has_the_mean_log_scale(activation):
    net = random_irn(scale=2, clamp=0.7, clamp_tightness=2.0, clamp_activation=activation)
    wanted = torch.tensor([-0.69, -0.2, 0.4, 0.69], dtype=torch.float64)
    from irnscale.kernels import LogScale

    torch.testing.assert_close(LogScale(0.7, 2.0, activation)(_raw(net, wanted)), wanted)


def test_simplify(photos, tmp_path, irnscale):
    """What hardly varies goes; what matters stays; neither a shipped name nor another model is overwritten."""
    net = random_irn(scale=2, inv_per_ds=3)
    net.scale_block(1).conv5.weight.data.mul_(1e-4)
    net.scale_block(2).conv5.weight.data.mul_(40)
    make_constant(net, 3)
    save_model(tmp_path / "models", "own", net.config, net.state_dict(), licence="CC0")
    command = ("models", "simplify", "own", "--data", photos, "--name")
    assert "comes with irnscale" in " ".join(irnscale(*command, "irn-x2").lines)
    assert "exists already" in " ".join(irnscale(*command, "own").lines)
    assert "no such" in " ".join(
        irnscale("models", "simplify", "own", "--data", tmp_path / "none", "--name", "new").lines
    )
    (tmp_path / "empty").mkdir()
    empty = irnscale("models", "simplify", "own", "--data", tmp_path / "empty", "--name", "new").lines
    assert empty[-1].endswith("(give larger ones)"), "this command has no --val"
    assert "must not be negative" in " ".join(irnscale(*command, "new", "--loss", "-1").lines)
    result = irnscale(*command, "new", "--loss", "0.05")
    assert result.code == 0, result.lines
    assert "2 of 3 scales are constant" in " ".join(result.lines)
    card = find("new").card
    assert card.architecture["constant_scales"] == [1, 3]
    assert card.licence == "CC0"
    simple = load_network(find("new"))
    x = torch.rand(1, 3, 16, 16)
    assert (simple.downscale(x)[0] - net.downscale(x)[0]).abs().max() < 0.02
    again = irnscale("models", "simplify", "new", "--data", photos, "--name", "newer", "--loss", "0.05")
    assert again.code != 0
    assert "can be a constant within 0.05 dB" in " ".join(again.lines)
    assert not (tmp_path / "models" / "newer.safetensors").exists()
