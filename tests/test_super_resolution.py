"""The plain network for super-resolution: its arithmetic, its tiles, its model files, `up --sr`, its training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from commandline import Run, picture, pixels, runner, shipped_name
from test_networks import randomise
from training import CPU, TINY, batch, train

import irnscale
from irnscale.engine.canvas import Sink, Source
from irnscale.engine.enlarging import Enlarging
from irnscale.engine.rescaler import Rescaler
from irnscale.errors import InputError, ModelError, UsageError
from irnscale.images.provenance import read_provenance
from irnscale.kernels import quantize
from irnscale.networks import SRConfig, SRNet
from irnscale.train.checkpoints import export
from irnscale.train.config import Recipe, load_recipe
from irnscale.train.initial import load_initial
from irnscale.train.jpeg import jpeg
from irnscale.train.objective import objective_of
from irnscale.train.trainer import Trainer
from irnscale.zoo import ModelCard, find, load_network, store, super_resolution
from irnscale.zoo.save import save_model
from irnscale.zoo.store import Model

SR = TINY.but(blocks=2, channels=6, jpeg_share=0.5, recon_norm="l1")


def random_net(scale: int = 2, blocks: int = 2) -> SRNet:
    """A narrow one whose convolutions all matter."""
    return randomise(SRNet(SRConfig(scale=scale, channels=6, blocks=blocks)), gain=1.0)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path) -> Path:
    """A folder of models of one's own, with a narrow x2 network in it."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    net = random_net()
    save_model(tmp_path / "models", "tiny-sr", net.config, net.state_dict())
    return tmp_path / "models"


@pytest.fixture
def run(capfdbinary, monkeypatch) -> Run:
    """The command line."""
    return runner(capfdbinary, monkeypatch)


def refuse(error: BaseException, where: str) -> Exception:
    """No memory runs out here."""
    raise AssertionError(where) from error


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_network_by_hand(scale):
    net = random_net(scale).double()
    x = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    first = y = net.head(x - 0.5)
    kept = []
    for block in net.blocks:
        f = block.conv1(y)
        f = block.conv2(f * torch.sigmoid(f))
        f = block.conv3(f * torch.sigmoid(f))
        y = y + 2 * f / (1 + torch.exp(-f))
        kept.append(y)
    change = net.tail(net.fuse(torch.cat([first, net.after(y), kept[0], kept[-2]], 1)))
    expected = F.pixel_shuffle(change, scale) + F.interpolate(x, scale_factor=scale, mode="nearest")
    assert (net(x) - expected).abs().max() < 1e-12
    assert sum(p.numel() for p in SRNet().parameters()) == 426_288


def test_untrained_features_are_where_silu_is_curved_and_reach_the_end():
    """At 0.1 of that the network is one linear filter, and where they vanish the blocks behind learn nothing."""
    net = SRNet()
    spreads: list[float] = []
    for block in net.blocks:
        block.register_forward_hook(lambda _, __, y: spreads.append(y.std().item()))
    x = torch.rand(1, 3, 6, 6).repeat_interleave(4, 2).repeat_interleave(4, 3)
    y = net(x)
    assert (y - F.interpolate(x, scale_factor=4)).std() < 0.05, "it starts as the small picture"
    assert all(0.5 < spread < 3 for spread in spreads)
    y.abs().sum().backward()
    sizes = [block.conv1.weight.grad.norm().item() for block in net.blocks]
    assert min(sizes) > 0.1 * max(sizes)


def test_support_is_what_an_output_pixel_depends_on():
    net = random_net(blocks=3).double()
    side = 2 * net.support + 5
    x = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    middle = side // 2
    net(x)[0, :, 2 * middle, 2 * middle].sum().backward()
    reached = (x.grad[0].abs().sum(0) > 0).nonzero() - middle
    assert reached.min() == -net.support
    assert reached.max() == net.support


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 50), (37, 29)])
@pytest.mark.parametrize("tile", [7, 16, 100])
def test_tiles_change_nothing(height, width, tile):
    net = random_net().double()
    x = torch.rand(2, 3, height, width, dtype=torch.float64)
    sink = Sink(x, 2, 2 * height, 2 * width, 16)
    written: list[torch.Tensor] = []
    result = torch.full((2, 3, 2 * height, 2 * width), float("nan"), dtype=torch.float64)

    def keep(first: int, rows: torch.Tensor, *, columns: bool, across: int = 0) -> None:
        written.append(rows)
        result[:, :, first : first + rows.shape[2], across : across + rows.shape[3]] = rows

    sink.write = keep  # type: ignore[method-assign]
    done: list[tuple[int, int]] = []
    enlarging = Enlarging(net, torch.float64, pytest.fail)
    enlarging.run(
        Source(x), sink, tile=tile, fixed=True, fail=refuse, progress=lambda part, all_: done.append((part, all_))
    )
    with torch.inference_mode():
        assert (result - net(x)).abs().max() < 1e-12
    assert sum(rows.numel() for rows in written) == result.numel(), "every pixel once"
    assert done[-1] == (height * width, height * width)
    assert len(done) == len(written)


def test_memory_that_runs_out_makes_smaller_tiles(monkeypatch, folder):
    image = np.random.default_rng(0).integers(0, 256, (150, 90, 3), dtype=np.uint8)
    options = {"device": "cpu", "precision": "float32"}
    expected = Rescaler([find("tiny-sr")], **options).up(image)
    said: list[str] = []
    rescaler = Rescaler([find("tiny-sr")], warn=said.append, **options)
    forward = SRNet.forward

    def short(net: SRNet, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2] * x.shape[3] > 5000:
            raise MemoryError
        return forward(net, x)

    monkeypatch.setattr(SRNet, "forward", short)
    assert np.abs(rescaler.up(image).astype(int) - expected.astype(int)).max() <= 1
    assert len(said) == 2
    assert "tiles of 48" in said[-1]
    limited = Rescaler([find("tiny-sr")], max_memory="52M", **options)
    (plan,) = limited.plans("up", 4000, 3000, bytes_per_pixel=0.0)
    assert plan.tile < 192
    assert plan.total_bytes <= 52 << 20
    assert "tiles of" in plan.describe()


def test_a_tile_that_is_not_finite_is_done_again_or_refused(folder):
    net = random_net()
    said: list[str] = []
    enlarging = Enlarging(net, torch.bfloat16, said.append)
    with torch.no_grad():
        enlarging._lowered.tail.weight.fill_(float("inf"))
    x = torch.rand(1, 3, 8, 8)
    sink = Sink(x, 1, 16, 16, 8)
    enlarging.run(Source(x), sink, tile=8, fixed=True, fail=refuse, progress=None)
    with torch.inference_mode():
        assert (sink.finish() - quantize(net(x))).abs().max() < 0.005
    assert "not finite" in said[0]
    with torch.no_grad():
        net.tail.weight.fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        enlarging.run(Source(x), sink, tile=8, fixed=True, fail=refuse, progress=None)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
def test_up_sr_of_every_kind_of_picture(run, tmp_path, mode):
    small = picture(tmp_path / "a.png", mode=mode)
    result = run("up", small, "--sr", "-m", "tiny-sr", "--precision", "float32")
    assert (result.code, result.warnings) == (0, [])
    made = pixels(tmp_path / "a_up2x.png")
    given = pixels(small)
    assert made.shape == (28, 42, *given.shape[2:])
    net = load_network(find("tiny-sr"), "super-resolution")
    if mode != "RGBA":  # colour under transparency is replaced first
        plane = given if mode == "RGB" else np.repeat((given if mode == "L" else given[..., 1])[..., None], 3, 2)
        with torch.inference_mode():
            y = net(torch.from_numpy(plane.copy()).permute(2, 0, 1)[None].float() / 255).clamp(0, 1)[0] * 255
        expected = y if mode == "RGB" else y.round().mean(0)
        shown = made if mode == "RGB" else made if mode == "L" else made[..., 1]
        shown = shown.transpose(2, 0, 1) if mode == "RGB" else shown
        assert np.abs(expected.numpy() - shown).max() < 1.01
    assert "tiny-sr" in run("info", tmp_path / "a_up2x.png").text


def test_up_by_name_alone_and_deep(run, tmp_path):
    small = picture(tmp_path / "a.png")
    for options in ([], ["--depth", "16"], ["--tile", "16", "--max-memory", "200M", "-v"], ["--size", "41x27"]):
        result = run("up", small, "-m", "tiny-sr", "--overwrite", *options)
        assert (result.code, result.warnings) == (0, []), result.lines
    assert pixels(tmp_path / "a_up2x.png").shape == (27, 41, 3)


def test_what_it_cannot_do_is_one_line(run, photos, tmp_path):
    small = picture(tmp_path / "small.png")
    for arguments, code, words in [
        (["up", small, "--sr", "-m", "tiny-sr", "-s", "4"], 2, "-s 4 contradicts"),
        (["up", small, "--sr", "-m", "tiny-sr", "--temperature", "1"], 2, "--temperature"),
        (["up", small, "-m", "tiny-sr", "--temperature", "1"], 2, "--temperature"),
        (["up", small, "--sr", "-m", "nobody"], 3, "nobody"),
        (["up", small, "-m", "tiny-sr+irn-x2"], 3, "alone"),
        (["down", small, "-m", "tiny-sr"], 3, "does not shrink"),
        (["check", small, "-m", "tiny-sr"], 3, "does not shrink"),
    ]:
        result = run(*arguments)
        assert result.code == code, (arguments, result.lines)
        assert words in result.lines[-1]
        assert sum(line.startswith("irnscale: error") for line in result.lines) <= 1
    with pytest.raises(InputError, match="temperature"):
        irnscale.load("tiny-sr", sr=True).up(pixels(small), temperature=1)
    with pytest.raises(ModelError, match="shrink"):
        irnscale.load("tiny-sr", sr=True).down(pixels(small))


def test_which_model_a_scale_means(monkeypatch):
    def model(name: str, kind: str, scale: int, *, shipped: bool) -> Model:
        card = ModelCard(name, scale, {}, name * 12, kind=kind, base="base", base_digest="base" * 3)
        return Model(card, Path(name), shipped=shipped)

    every = [
        model("base", "irn", 4, shipped=True),
        model("flow", "assistant", 4, shipped=True),
        model("net", "sr", 4, shipped=True),
        model("net.2", "sr", 4, shipped=True),
        model("own", "sr", 4, shipped=False),
        model("two", "assistant", 2, shipped=True),
        model("drawn", "srflow", 4, shipped=True),
        model("three", "srflow", 3, shipped=False),
    ]
    every.sort(key=lambda found: found.card.name)
    named = {found.card.name: found for found in every}
    monkeypatch.setattr(store, "installed", lambda broken=None: every)
    assert super_resolution(4) == (named["net.2"], None)
    assert super_resolution(4, sampling=True) == (named["drawn"], None)
    assert super_resolution(3) == (named["three"], None)
    assert super_resolution("net") == (named["net"], None)
    assert super_resolution("flow")[1] == named["flow"]
    with pytest.raises(ModelError, match="installed: x2, x3, x4"):
        super_resolution(8)
    with pytest.raises(ModelError, match="not for super-resolution"):
        super_resolution("base")


def test_train_export_evaluate(run, photos, tmp_path, folder):
    recipe = SR.but(budget="30", initial_lr=5e-3)
    said: list[str] = []
    train(tmp_path / "run", photos, recipe, val=[photos], say=said.append)
    assert any("psnr_y" in line for line in said)
    assert not any("lr_psnr_y" in line for line in said)
    result = run("models", "export", tmp_path / "run", "--name", "mine")
    assert (result.code, "up --sr -m mine" in result.lines[0]) == (0, True)
    card = find("mine").card
    assert (card.kind, card.scale, card.architecture) == ("sr", 2, {"scale": 2, "channels": 6, "blocks": 2})
    assert load_network(find("mine"), "super-resolution").state_dict().keys() == export(tmp_path / "run")[0].keys()
    (line,) = [line for line in run("models").text.splitlines() if line.startswith("mine ")]
    assert " up --sr " in line
    result = run("evaluate", "--data", photos, "-m", "mine", "--update-card", "--no-cache")
    assert result.code == 0, result.lines
    assert "mine of bicubic" in result.text
    assert set(find("mine").card.scores) == {f"{photos.name}, bicubic LR"}
    assert run("models", "verify", "mine").code == 0


def test_the_objective_by_hand(photos):
    hr, reference = batch(photos, 4)
    objective = objective_of(SR, random_net())
    draws = objective_of(SR).draw(4, step=0)
    draws["damaged"] = torch.tensor([True, False, True, False])
    terms = objective(hr, reference, draws)
    lr = quantize(reference)
    stored = jpeg(lr, draws["quality"], "4:2:0")
    assert (stored != lr).any()
    lr = torch.stack([stored[0], lr[1], stored[2], lr[3]])
    torch.testing.assert_close(terms["loss"], (objective.net(lr) - hr).abs().sum((1, 2, 3)))
    shares = torch.cat([objective_of(SR).draw(16, step=step)["damaged"] for step in range(20)]).float().mean()
    assert 0.35 < shares < 0.65
    assert objective_of(SR.but(jpeg_share=0.0)).draw(4, step=0) == {}


def test_training_learns_and_starts_from_another_scale(photos, tmp_path):
    hr, reference = batch(photos)
    recipe = SR.but(jpeg_share=0.0, channels=12)
    trainer = Trainer(recipe, out=tmp_path / "a", device=CPU)
    records = [trainer.train_step((hr, reference), 3e-3) for _ in range(60)]
    assert records[-1]["loss"] < 0.9 * records[0]["loss"]
    low = Trainer(recipe.but(precision="bfloat16"), out=tmp_path / "b", device=CPU)
    close = low.train_step((hr, reference), 3e-3)["loss"]
    assert close == pytest.approx(float(records[0]["loss"]), rel=0.02)

    body = SRNet(SRConfig(scale=4, channels=6, blocks=2))
    save_model(tmp_path / "models", "four", body.config, body.state_dict())
    net = random_net()
    own = net.tail.weight.clone()
    load_initial(net, "four")
    assert torch.equal(net.tail.weight, own)
    assert torch.equal(net.head.weight, body.head.weight.half().float())


@pytest.mark.parametrize(("fewer", "more"), [(2, 3), (4, 6), (5, 6)])
def test_a_deeper_network_starts_as_the_shallower_one_was(tmp_path, fewer, more):
    shallow, deep = random_net(blocks=fewer), random_net(blocks=more)
    save_model(tmp_path / "models", "shallow", shallow.config, shallow.state_dict())
    assert load_initial(deep, "shallow")
    load_initial(shallow, "shallow")
    lr = torch.rand(1, 3, 9, 8)
    torch.testing.assert_close(deep(lr), shallow(lr))
    deep(lr).sum().backward()
    assert all(block.conv3.weight.grad.any() for block in deep.blocks)  # what was put in learns, too
    with pytest.raises(ModelError, match="does not fit"):
        load_initial(SRNet(SRConfig(scale=2, channels=8, blocks=more)), "shallow")
    if fewer > 2:
        with pytest.raises(ModelError, match="does not fit"):
            load_initial(random_net(blocks=fewer - 1), "shallow")


@pytest.mark.parametrize("scale", [2, 4])
def test_the_recipes_are_the_shipped_networks(scale):
    recipe = load_recipe(f"sr-x{scale}", [])
    assert recipe.network.to_dict() == find(f"sr-x{scale}").card.architecture


@pytest.mark.parametrize(
    ("overrides", "word"),
    [
        (["blocks=1"], "at least 2"),
        (["blocks=0"], "at least 2"),
        (["blocks=2", "channels=0"], "channels"),
        (["blocks=2", "scale=8", "img_size=96"], "2, 3 or 4"),
        (["blocks=2", "assistant_of=irn-x2"], "assistant_of"),
        (["blocks=2", "compression_mode=true"], "compression_mode"),
        (["jpeg_share=0.5"], "objective=super_resolution"),
        (["blocks=2", "jpeg_share=1.5"], "jpeg_share"),
    ],
)
def test_impossible_recipes_are_one_line(overrides, word):
    with pytest.raises(UsageError, match=word) as caught:
        load_recipe("irn-x2", overrides)
    assert "\n" not in str(caught.value)
    assert "blocks" not in Recipe.of().to_dict()


def test_without_a_record_the_shipped_network_is_taken(run, tmp_path):
    small = picture(tmp_path / "a.png")
    out = tmp_path / "b.png"
    for options, model, said in [
        (["-s", "4"], "sr-x4", f"-m {shipped_name(4)}"),
        (["-s", "4", "--sr"], "sr-x4", None),
        (["-s", "2"], "sr-x2", f"-m {shipped_name(2)}"),
        (["-s", "2", "--sr"], "sr-x2", None),
        (["-s", "4", "--no-jpeg-resistant"], shipped_name(4), "--sr"),
        (["-s", "4", "--temperature", "1"], shipped_name(4), "--sr"),
        (["-m", "irn-x4"], "irn-x4", "--sr"),
        (["-m", "irn-sr-x4", "--sr"], "irn-sr-x4", None),
    ]:
        result = run("up", small, "-o", out, "--overwrite", *options)
        assert (result.code, len(result.warnings)) == (0, 0 if said is None else 1), result.lines
        assert said is None or said in result.warnings[0]
        assert read_provenance(out).model == model
    assert run("up", picture(tmp_path / "c.jpg"), "-s", "4").code == 0
    assert read_provenance(tmp_path / "c_up4x.png").model == shipped_name(4, jpeg_resistant=True)
