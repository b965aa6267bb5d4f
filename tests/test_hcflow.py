"""HCFlow for rescaling: layers, both ways, its conditional flows, the engine's tiles, `down` and `up`."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from commandline import runner
from conftest import synthetic_photo
from PIL import Image
from test_flow_layers import randomised

from irnscale.engine import executor
from irnscale.engine.rescaler import Rescaler
from irnscale.kernels import haar_forward
from irnscale.networks import IRN
from irnscale.networks.families.hcflow import HCFlowConfig
from irnscale.networks.half_couplings import ImageFromRest, KeptFirst, PartedNorm, RestFromImage
from irnscale.networks.hcflow import HCFlow
from irnscale.zoo import find
from irnscale.zoo.save import save_model

TINY = HCFlowConfig(main_steps=2, growth=2, flow_steps=1, flow_hidden=4, rrdb_blocks=1, rrdb_growth=2)


def network(gain: float = 0.1) -> HCFlow:
    """Random, so that every value depends on all that it can."""
    torch.manual_seed(2)
    net = HCFlow(TINY)
    randomised(net, gain=gain)
    return net


def jacobian_log_det(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    size = x.numel()
    matrix = torch.autograd.functional.jacobian(lambda v: layer((v,))[0][0], x).reshape(size, size)
    return torch.linalg.slogdet(matrix).logabsdet


@pytest.mark.parametrize("parked", [0, 3])
@pytest.mark.parametrize("kind", [PartedNorm, RestFromImage, ImageFromRest])
def test_layers(kind, parked):
    options = {} if kind is PartedNorm else {"growth": 2}
    layer = randomised(kind([(8, 3, 2)], parked=parked, **options), gain=0.5)
    x = torch.randn(1, 8, 3, 2, dtype=torch.float64)
    (y,), log_det = layer((x,))
    (back,), reverse = layer((y,), rev=True)
    assert (back - x).abs().max() < 1e-12
    assert torch.allclose(log_det, jacobian_log_det(layer, x))
    assert torch.allclose(reverse, -log_det)
    assert torch.equal(y[:, 8 - parked :], x[:, 8 - parked :])
    image_stays, rest_stays = torch.equal(y[:, :3], x[:, :3]), torch.equal(y[:, 3 : 8 - parked], x[:, 3 : 8 - parked])
    assert (image_stays, rest_stays) == {
        PartedNorm: (False, False),
        RestFromImage: (True, False),
        ImageFromRest: (False, True),
    }[kind]


def test_the_kept_come_first():
    x = torch.arange(12.0).view(1, 12, 1, 1)  # three channels' LL, then their HL, LH and HH
    layer = KeptFirst([(12, 1, 1)], kept=2)
    (y,), _ = layer((x,))
    assert y.flatten().tolist() == [0, 1, 3, 4, 6, 7, 9, 10, 2, 5, 8, 11]
    assert torch.equal(layer((y,), rev=True)[0][0], x)


def test_the_published_size():
    """ "4.4M" in its authors' and in the dissertation's tables."""
    assert sum(p.numel() for p in HCFlow().parameters()) == 4_396_206


def test_bad_configurations():
    for change in ({"scale": 2}, {"main_steps": 0}):
        with pytest.raises(ValueError, match="must be"):
            HCFlowConfig(**change)


def test_untrained_it_is_the_haar_transform():
    x = torch.rand(1, 3, 16, 24)
    net = HCFlow(TINY)
    lr, _ = net.downscale(x)
    assert torch.equal(lr, IRN().downscale(x)[0])
    left = torch.cat((lr, super(HCFlow, net).downscale(x)[1]), dim=1)
    first = haar_forward(x)
    assert torch.equal(left[:, :3], haar_forward(first)[:, :3])


def test_both_ways():
    net = network()
    x = torch.rand(2, 3, 16, 24, dtype=torch.float64)
    lr, z = net.downscale(x)
    assert (lr.shape, z.shape) == ((2, 3, 4, 6), (2, 45, 4, 6))
    assert (net.upscale(lr, z) - x).abs().max() < 1e-9
    assert (net.upscale(lr) - net.upscale(lr, torch.zeros_like(z))).abs().max() == 0
    assert (net.upscale(lr) - x).abs().max() > 0.01
    tail = net.completion
    raw = super(HCFlow, net).downscale(x)[1]
    assert (tail.complete(lr, z) - raw).abs().max() < 1e-9
    assert (tail.noise_of(raw, lr) - z).abs().max() == 0


def test_the_density_is_that_of_the_change_of_variables():
    """Of a2 and a1 given LR; y1, which a1's flow sees, is a function of LR and a2."""
    tail = network().tail
    lr, raw = torch.rand(1, 3, 1, 1, dtype=torch.float64), torch.randn(1, 45, 1, 1, dtype=torch.float64)

    def noise(left: torch.Tensor) -> torch.Tensor:
        return tail.noise_of(left, lr)

    made = noise(raw)
    jacobian = torch.autograd.functional.jacobian(noise, raw).reshape(45, 45)
    normal = -0.5 * (made.square().sum() + 45 * math.log(2 * math.pi))
    haar = torch.autograd.functional.jacobian(
        lambda a: haar_forward(a), torch.zeros(1, 6, 2, 2, dtype=torch.float64)
    ).reshape(24, 24)
    expected = normal + torch.linalg.slogdet(jacobian).logabsdet + torch.linalg.slogdet(haar).logabsdet
    assert torch.allclose(tail.log_density(raw, lr), expected)


def test_a_start_from_data():
    net = HCFlow(TINY)
    x = torch.rand(4, 3, 32, 32)
    lr = net.downscale(x)[0]
    net.initialise(x)
    assert torch.allclose(net.downscale(x)[0], lr, atol=1e-6), "LR stays a picture, while couplings are the identity"
    z = net.downscale(x)[1]
    assert 0.5 < z.std() < 2


def test_gradients_reach_everything():
    net = HCFlow(TINY)
    randomised(net, gain=0.1)
    x = torch.rand(1, 3, 16, 16, dtype=torch.float64)
    lr, z = net.downscale(x)
    (net.upscale(lr, torch.randn_like(z)).square().sum() + z.square().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


ORDERS = [(32, None, False), (100, 40, False), (32, 5, True), (9, 1, False)]


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("size", [(4, 4), (84, 92), (8, 420)], ids=str)
@torch.no_grad()
def test_the_trunk_in_the_engine(size, order):
    net = network()
    x = torch.rand(1, 3, *size, dtype=torch.float64)
    tile, band, columns = order
    options = {"tile": tile, "band": band, "columns": columns}
    whole = torch.cat([*super(HCFlow, net).downscale(x)], dim=1)
    assert (executor.run(net, x, rev=False, **options) - whole).abs().max() < 1e-10
    assert (executor.run(net, whole, rev=True, **options) - x).abs().max() < 1e-8


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A model "hc", whose results are pictures in no way but in range."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    net = network(gain=0.05)
    save_model(tmp_path / "models", "hc", net.config, net.float().state_dict())
    return tmp_path


@pytest.mark.parametrize("size", [(33, 300), (300, 33), (1, 1)])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_tiles_change_nothing(folder, size, temperature):
    image = synthetic_photo(*size)
    made = []
    for options in ({}, {"tile": 16}):
        engine = Rescaler([find("hc")], device="cpu", **options)
        assert engine.networks[0].completion.support < 70, "so that tiles are less than the whole"
        small = engine.down(image)
        restored = engine.up(small, size=size[::-1], temperature=temperature, seed=3, depth=16)
        made.append((small.astype(int), restored.astype(int)))
    assert np.array_equal(made[0][0], made[1][0])
    assert np.abs(made[0][1] - made[1][1]).max() <= 2


def test_the_engine_is_the_network(folder):
    engine = Rescaler([find("hc")], device="cpu")
    x = torch.from_numpy(synthetic_photo(24, 40)).permute(2, 0, 1)[None].float() / 255
    net = engine.networks[0]
    lr = engine.down(x)
    assert (lr - net.downscale(x)[0].clamp(0, 1)).abs().max() < 0.51 / 255
    assert (engine.up(lr, depth=16) - net.upscale(lr).clamp(0, 1)).abs().max() < 1.01 / 65535


def test_down_and_up(folder, capfdbinary, monkeypatch):
    monkeypatch.chdir(folder)
    run = runner(capfdbinary, monkeypatch)
    Image.fromarray(synthetic_photo(45, 38)).save("photo.png")
    assert run("down", "photo.png", "-m", "hc", "--detail", "none").code == 0
    result = run("up", "photo_down4x.png")
    assert (result.code, result.lines) == (0, [])
    with Image.open("photo_up4x.png") as image:
        assert image.size == (38, 45)
    assert run("down", "photo.png", "-m", "hc", "-o", "small.png").code == 0, "with detail"
    assert run("up", "small.png", "-o", "large.png").code == 0
    plain, detailed = (np.asarray(Image.open(name)).astype(float) for name in ("photo_up4x.png", "large.png"))
    photo = np.asarray(Image.open("photo.png")).astype(float)
    assert np.square(detailed - photo).mean() < np.square(plain - photo).mean()
