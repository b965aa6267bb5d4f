"""Samples of a network that knows many large pictures for a small one: tiles, seeds, what is drawn again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import synthetic_photo
from PIL import Image
from test_flow_layers import randomised
from torch import Tensor

from irnscale.engine.enlarging import Enlarging
from irnscale.engine.rescaler import Rescaler
from irnscale.errors import DeviceError, InputError
from irnscale.networks.families.srflow import SRFlowConfig
from irnscale.networks.rrdb import RRDBEncoder
from irnscale.networks.srflow import SRFlow
from irnscale.zoo import find
from irnscale.zoo.save import save_model

SMALL = SRFlowConfig(
    rrdb_blocks=1, rrdb_growth=4, taps=(0,), flow_steps=1, flow_hidden=8, adapter=6, flow_scale="squish", head=False
)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """A folder of models with a narrow SRFlow in it, whose samples look like pictures in no way but are in range."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    net = SRFlow(SMALL)
    randomised(net.flow, gain=0.1)
    net.float()
    with torch.no_grad():
        norm = net.flow.levels[0].module_list[1]
        norm.bias.sub_(0.5)
        norm.log_scale.add_(1.5)
    save_model(tmp_path / "models", "narrow", net.config, net.state_dict())
    return tmp_path / "models"


def rescaler(**options) -> Rescaler:
    return Rescaler([find("narrow")], **options)


def small(height: int = 10, width: int = 13) -> np.ndarray:
    return synthetic_photo(height, width)


def test_a_seed_is_a_picture():
    image = small()
    engine = rescaler()
    first, second = engine.samples(image, temperature=0.7, seeds=[3, 4])
    assert first.shape == (40, 52, 3)
    assert np.abs(first.astype(int) - second).max() > 10
    assert np.abs(engine.up(image, temperature=0.7, seed=4).astype(int) - second).max() <= 1
    (again,) = engine.samples(image, temperature=0.7, seeds=[3])
    assert np.abs(again.astype(int) - first).max() <= 1
    mode = engine.up(image)
    assert np.abs(engine.samples(image, temperature=0.0, seeds=[9])[0].astype(int) - mode).max() <= 1
    spread = [np.abs(engine.up(image, temperature=t, seed=3) - mode.astype(float)).mean() for t in (0.1, 0.4, 0.8)]
    assert spread == sorted(spread)
    cropped = engine.samples(image, temperature=0.7, seeds=[3], size=(49, 38))[0]
    assert np.abs(cropped.astype(int) - first[:38, :49]).max() <= 1


@pytest.mark.parametrize(("tile", "size"), [(31, (90, 3)), (13, (3, 79))])
def test_tiles_change_nothing(tile, size):
    image = torch.from_numpy(small(*size)).permute(2, 0, 1).double() / 255
    whole, tiled = rescaler(), rescaler(tile=tile)
    for engine in (whole, tiled):
        engine.enlarging.net.double()
        engine.enlarging._own = torch.float64
    assert tiled.enlarging.net.support < 40, "so that several tiles are less than the whole"
    expected = whole.samples(image, temperature=0.7, seeds=[0, 1], depth=16)
    for a, b in zip(tiled.samples(image, temperature=0.7, seeds=[0, 1], depth=16), expected, strict=True):
        assert (a - b).abs().max() <= 1.01 / 65535
    assert (tiled.up(image, depth=16) - whole.up(image, depth=16)).abs().max() <= 1.01 / 65535


def test_one_pass_of_the_encoder():
    engine = rescaler(tile=8)
    passes = []
    for module in engine.enlarging.net.modules():
        if isinstance(module, RRDBEncoder):
            module.register_forward_hook(lambda *_: passes.append(1))
    engine.samples(small(16, 8), temperature=0.7, seeds=range(5))
    assert len(passes) == 2, "one for each tile"


def test_several_pictures_draw_the_same_noise():
    batch = np.stack([small(), small()[::-1]])
    engine = rescaler()
    both = engine.up(batch, temperature=0.5, seed=2)
    for one, image in zip(both, batch, strict=True):
        assert np.abs(one.astype(int) - engine.up(image, temperature=0.5, seed=2)).max() <= 1


class Broken:
    """Makes samples of a seed infinite above a temperature."""

    def __init__(self, net: SRFlow, seed: int, above: float) -> None:
        self.net, self.seed, self.above, self.plain = net, seed, above, net.latents

    def __call__(self, lr: Tensor, *, seed: int, temperature: float = 1.0, origin=(0, 0)) -> list[Tensor]:
        found = self.plain(lr, seed=seed, temperature=temperature, origin=origin)
        if seed == self.seed and temperature > self.above:
            found = [z.clone() for z in found]
            found[0][..., 0, 0] = float("inf")
        return found


def test_what_is_not_finite_is_drawn_again_and_told(monkeypatch):
    said: list[str] = []
    engine = rescaler(warn=said.append, tile=8)
    image = small()
    sound = engine.samples(image, temperature=0.8, seeds=[0, 1, 2])
    colder = engine.samples(image, temperature=0.45, seeds=[1])
    assert not said
    net = engine.enlarging.net
    monkeypatch.setattr(net, "latents", Broken(net, seed=1, above=0.5))
    again = engine.samples(image, temperature=0.8, seeds=[0, 1, 2])
    for k in (0, 2):
        assert np.abs(again[k].astype(int) - sound[k]).max() <= 1
    assert np.abs(again[1].astype(int) - colder[0]).max() <= 1
    assert said == [
        "the sample of seed 1 was not finite and is drawn again at temperature 0.6",
        "the sample of seed 1 was not finite and is drawn again at temperature 0.45",
    ]
    monkeypatch.setattr(net, "latents", Broken(net, seed=1, above=-1))
    with pytest.raises(InputError, match="not finite, nothing is written"):
        engine.samples(image, temperature=0.8, seeds=[0, 1])
    assert "at temperature 0" in said[-1]


def test_what_is_not_possible():
    engine = rescaler()
    for temperature, seeds in ((-1, [0]), (1, []), (1, [-1])):
        with pytest.raises(InputError, match="not possible"):
            engine.samples(small(), temperature=temperature, seeds=seeds)
    from irnscale.zoo import default_model

    plain = Rescaler([default_model(2)])
    with pytest.raises(InputError, match="draws no samples"):
        plain.samples(small(), temperature=0.5, seeds=[1])


def test_memory_limits_the_tiles():
    (plan,) = rescaler(max_memory="300M").plans("up", 4000, 4000)
    (free,) = rescaler().plans("up", 4000, 4000)
    assert plan.tile < free.tile
    assert plan.total_bytes <= 300 * 2**20
    assert free.tile == 192
    with pytest.raises(DeviceError, match="does not fit into max_memory"):
        rescaler(max_memory="60M").plans("up", 4000, 4000)


def test_wide_overlaps_make_large_tiles():
    wide = SRFlow(SRFlowConfig(rrdb_blocks=4, rrdb_growth=4, flow_steps=8, flow_hidden=8, adapter=6, head=False))
    enlarging = Enlarging(wide, torch.float32, print)
    options = {"model": "wide", "tile": None, "max_memory": None, "pictures": 0}
    assert enlarging.plan(2000, 1600, **options).tile == 500, "in one piece where there is room"
    huge = enlarging.plan(40_000, 40_000, **options)
    assert 192 <= huge.tile < 10_000
    assert huge.tile_bytes <= 3 * 2**30
    assert enlarging.plan(4000, 4000, **options, draws=5).tile_bytes > enlarging.plan(4000, 4000, **options).tile_bytes


def test_lower_precision_is_the_encoders():
    image = small()
    exact, lowered = rescaler(), rescaler(precision="bfloat16")
    a, b = (engine.up(image, temperature=0.7, seed=1).astype(int) for engine in (exact, lowered))
    assert 0 < np.abs(a - b).max() < 40
    assert rescaler(precision="auto").dtype == torch.float32


def test_evaluate_measures_samples(tmp_path, capsys):
    from irnscale.cli.main import main

    (tmp_path / "set").mkdir()
    Image.fromarray(synthetic_photo(24, 32)).save(tmp_path / "set" / "a.png")
    arguments = ["evaluate", "--data", str(tmp_path / "set"), "-m", "narrow", "--sr", "--no-baselines", "--json"]
    scores = ["--metrics", "psnr,lr-psnr,diversity", "--temperature", "0.2,0.8", "--draws", "3"]
    assert main([*arguments, *scores]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["method"] for row in rows] == [f"narrow of bicubic{t}" for t in ("", " T=0.2", " T=0.8")]
    diversity = [row.get("diversity") or 0 for row in rows]
    assert 0 < diversity[1] < diversity[2]
