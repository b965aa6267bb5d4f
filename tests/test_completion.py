"""A flow that says what IRN threw away: its density, tiles and bands, `up -m`, records, what is refused."""

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

import irnscale
from irnscale.engine.rescaler import Rescaler
from irnscale.errors import DeviceError, ModelError
from irnscale.images.provenance import read_provenance
from irnscale.networks import IRN, IRNConfig
from irnscale.networks.assisted import LatentFlow
from irnscale.networks.families.assisted import AssistedConfig
from irnscale.networks.flow import Standardise
from irnscale.zoo import find
from irnscale.zoo.save import save_model

TINY = AssistedConfig(scale=2, flow_steps=1, flow_hidden=6, rrdb_blocks=1, rrdb_growth=3)


def flow(config: AssistedConfig = TINY, gain: float = 0.1) -> LatentFlow:
    """Random, so that every value depends on all that it can."""
    torch.manual_seed(3)
    net = LatentFlow(config)
    randomised(net, gain=gain)
    return net


@pytest.fixture
def folder(monkeypatch, tmp_path) -> Path:
    """Models "base", an IRN x2, "completed" for it, "other", of other weights, and "two", x4."""
    path = tmp_path / "models"
    monkeypatch.setenv("IRNSCALE_MODELS", str(path))
    torch.manual_seed(1)
    made = {}
    for name, scale in (("base", 2), ("other", 2), ("two", 4)):
        net = IRN(IRNConfig(scale=scale, inv_per_ds=1, growth=2))
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        made[name] = save_model(path, name, net.config, net.state_dict())
    save_model(path, "completed", TINY, flow().float().state_dict(), base=made["base"])
    return path


@pytest.fixture
def run(folder, capfdbinary, monkeypatch, tmp_path) -> Run:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Image.fromarray(synthetic_photo(33, 41)).save("photo.png")
    return runner(capfdbinary, monkeypatch)


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.mark.parametrize(("scale", "count"), [(4, 1_707_182), (2, 1_466_414)])
def test_counts(scale, count):
    net = LatentFlow(AssistedConfig(scale=scale))
    assert sum(p.numel() for p in net.parameters()) == count
    assert net.support == 60


def test_bad_configurations():
    for change in ({"scale": 5}, {"flow_steps": 0}, {"rrdb_growth": 0}):
        with pytest.raises(ValueError, match="must be"):
            AssistedConfig(**change)


def test_the_last_layer_is_a_gaussian_of_the_condition():
    layer = randomised(Standardise([(4, 3, 2)], [(5, 3, 2)]), gain=0.3)
    x, c = torch.randn(2, 4, 3, 2, dtype=torch.float64), torch.randn(2, 5, 3, 2, dtype=torch.float64)
    (y,), log_det = layer((x,), [c])
    (back,), reverse = layer((y,), [c], rev=True)
    assert (back - x).abs().max() < 1e-12
    assert torch.allclose(log_det, -reverse)
    raw = layer.gauss(c)
    normal = torch.distributions.Normal(raw[:, 0::2], (0.318 * torch.atan(2 * raw[:, 1::2])).exp())
    density = -0.5 * (y.square() + math.log(2 * math.pi)).flatten(1).sum(1) + log_det
    assert torch.allclose(density, normal.log_prob(x).flatten(1).sum(1))
    shared, _ = layer((x,), [c[:1]])
    assert torch.allclose(shared[0][0], y[0])
    untrained = Standardise([(4, 3, 2)], [(5, 3, 2)]).double()
    assert torch.equal(untrained((x,), [c])[0][0], x)


def test_the_density_of_z_is_that_of_the_change_of_variables():
    net = flow()
    lr, z = torch.rand(1, 3, 2, 2, dtype=torch.float64), torch.randn(1, 9, 2, 2, dtype=torch.float64)

    def forwards(x: torch.Tensor) -> torch.Tensor:
        return net.flow(x, [net.condition(lr)])[0]

    noise = forwards(z)
    jacobian = torch.autograd.functional.jacobian(forwards, z).reshape(36, 36)
    expected = -0.5 * (noise.square().sum() + 36 * math.log(2 * math.pi)) + torch.linalg.slogdet(jacobian).logabsdet
    assert torch.allclose(net.log_density(z, lr), expected)
    assert (net.complete(lr, noise) - z).abs().max() < 1e-10
    assert torch.equal(net.complete(lr), net.complete(lr, torch.zeros_like(z)))


def test_a_start_from_data():
    net = LatentFlow(TINY)
    z, lr = 5 + 3 * torch.randn(8, 9, 6, 6), torch.rand(8, 3, 6, 6)
    net.start(z, lr)
    (y,), _ = net.flow.module_list[0]((z,), jac=False)
    assert y.mean((0, 2, 3)).abs().max() < 1e-4
    assert (y.var((0, 2, 3), unbiased=False) - 1).abs().max() < 1e-3


def test_without_the_network_it_would_be_z_0(folder):
    """An untrained flow's mode is not 0 but what its normalisations say; all zero, it is."""
    net = LatentFlow(TINY)
    image = synthetic_photo(9, 13)
    save_model(folder, "nothing", TINY, net.state_dict(), base=find("base"))
    with_it = Rescaler([find("base")], completion=find("nothing"), device="cpu")
    assert np.array_equal(with_it.up(image), Rescaler([find("base")], device="cpu").up(image))


@pytest.mark.parametrize("size", [(9, 70), (70, 9), (1, 1), (64, 5)])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_tiles_change_nothing(folder, size, temperature):
    """Neither the bands that z is made in, nor the direction of the sweep, nor the order of the inverse."""
    image = synthetic_photo(*size)
    results = []
    for options in ({}, {"tile": 16}, {"tile": 24}):
        engine = Rescaler([find("base")], completion=find("completed"), device="cpu", **options)
        assert engine.completing.support < 25, "so that tiles are less than the whole"
        results.append(engine.up(image, temperature=temperature, seed=5, depth=16).astype(int))
    assert np.abs(results[1] - results[0]).max() <= 2
    assert np.abs(results[2] - results[0]).max() <= 2


def test_z_is_what_the_network_says(folder):
    image = synthetic_photo(11, 14)
    engine = Rescaler([find("base")], completion=find("completed"), device="cpu")
    lr = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    expected = engine.networks[0].upscale(lr, engine.completing.complete(lr))
    made = engine.up(lr, depth=16)
    assert (made - expected.clamp(0, 1)).abs().max() < 1.01 / 65535
    assert (made - engine.networks[0].upscale(lr).clamp(0, 1)).abs().max() > 0.01
    samples = [engine.up(lr, temperature=1.0, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])


def test_memory_is_counted(folder):
    plain = Rescaler([find("base")], device="cpu")
    engine = Rescaler([find("base")], completion=find("completed"), device="cpu")
    assert engine.plans("up", 200, 100)[0].total_bytes > plain.plans("up", 200, 100)[0].total_bytes
    assert engine.plans("down", 200, 100)[0].total_bytes == plain.plans("down", 200, 100)[0].total_bytes
    with pytest.raises(DeviceError, match="does not fit"):
        Rescaler([find("base")], completion=find("completed"), device="cpu", max_memory="1M").up(
            synthetic_photo(64, 64)
        )


def test_load_takes_its_base_too(folder):
    engine = irnscale.load("completed", device="cpu")
    assert (engine.name, engine.scale) == ("completed", 2)
    image = synthetic_photo(20, 20)
    plain = irnscale.load("base", device="cpu")
    assert np.array_equal(engine.down(image), plain.down(image))
    assert not np.array_equal(engine.up(plain.down(image)), plain.up(plain.down(image)))


def test_it_belongs_to_one_model(folder):
    for name in ("other", "two"):
        with pytest.raises(ModelError, match=r"completed: was trained for base \([0-9a-f]{12}\), not for " + name):
            Rescaler([find(name)], completion=find("completed"), device="cpu")


# --- the command


def test_up_by_a_completion(run):
    assert run("down", "photo.png", "-m", "base", "--detail", "none").code == 0
    result = run("up", "photo_down2x.png", "-m", "completed", "--json")
    assert (result.code, result.lines) == (0, [])
    assert json.loads(result.text.splitlines()[0])["model"] == "completed"
    record = read_provenance(Path("photo_up2x.png"))
    engine = Rescaler([find("base")], completion=find("completed"), device="cpu")
    assert (record.model, record.digest) == ("completed", engine.digest)
    direct = engine.up(pixels("photo_down2x.png").astype(np.uint8), size=(41, 33))
    assert np.abs(pixels("photo_up2x.png") - direct).max() <= 1
    plain = pixels("photo_up2x.png")
    assert run("up", "photo_down2x.png", "-o", "plain.png").code == 0
    assert not np.array_equal(pixels("plain.png"), plain)
    options = ("-m", "completed", "--temperature", "0.7", "--samples", "2")
    assert run("up", "photo_down2x.png", *options).code == 0
    assert not np.array_equal(pixels("photo_up2x_1.png"), pixels("photo_up2x_2.png"))


def test_the_list_says_what_it_completes(run):
    lines = {line.split()[0]: line for line in run("models", "list").text.splitlines()}
    assert " up, completes base " in lines["completed"]
    assert " down, up " in lines["base"]


def test_detail_is_left_out_and_told(run):
    assert run("down", "photo.png", "-m", "base").code == 0
    result = run("up", "photo_down2x.png", "-m", "completed")
    assert result.code == 0
    assert any("its detail is left out: it belongs to what is restored without -m completed" in w for w in result.lines)


def test_without_a_record(run):
    Image.fromarray(synthetic_photo(8, 9)).save("small.png")
    assert run("up", "small.png", "-m", "completed").code == 0
    assert pixels("small_up2x.png").shape == (16, 18, 3)


def test_workers(run):
    assert run("down", "photo.png", "-m", "base", "--detail", "none").code == 0
    assert run("up", "photo_down2x.png", "-m", "completed", "-o", "a.png").code == 0
    options = ("--backend", "devices", "--workers", "1")
    assert run("up", "photo_down2x.png", "-m", "completed", "-o", "b.png", *options).code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()


def test_evaluate(run):
    Path("set").mkdir()
    Image.fromarray(synthetic_photo(24, 24)).save("set/a.png")
    result = run("evaluate", "--data", "set", "-m", "base", "-m", "completed", "--json", "--no-cache", "--no-baselines")
    assert result.code == 0, result.lines
    rows = {row["method"]: row for row in map(json.loads, result.text.splitlines())}
    assert rows.keys() == {"base", "completed"}
    assert rows["base"]["lr_psnr_y"] == rows["completed"]["lr_psnr_y"], "the same small pictures"
    assert rows["base"]["psnr_y"] != rows["completed"]["psnr_y"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("up", "small.png", "-m", "completed"), 2, "-m completed completes base ("),
        (("up", "foreign.png", "-m", "completed", "-s", "4"), 2, "-s 4 contradicts -m completed, which is x2"),
        (("up", "foreign.png", "-m", "completed", "--require-provenance"), 1, "has no irnscale record"),
        (("up", "foreign.png", "--sr", "-m", "completed"), 3, "completes what base restores (use it for `up`"),
        (("down", "foreign.png", "-m", "completed"), 3, "completes what base restores (use it for `up`"),
        (("check", "foreign.png", "-m", "completed"), 3, "completes what base restores (use it for `up`"),
    ],
)
def test_what_is_refused(run, arguments, code, words):
    Image.fromarray(synthetic_photo(8, 9)).save("foreign.png")
    assert run("down", "photo.png", "-m", "other", "-o", "small.png").code == 0
    result = run(*arguments)
    assert result.code == code, result.lines
    assert len(result.lines) == 1
    assert words in result.lines[0]


def test_a_base_that_is_gone(run, folder):
    assert run("down", "photo.png", "-m", "base").code == 0
    for path in folder.glob("base.*"):
        path.unlink()
    result = run("up", "photo_down2x.png", "-m", "completed")
    assert result.code == 3
    assert "base" in result.lines[-1]
