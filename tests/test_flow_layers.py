"""The layers of conditional flows: inverses and log-determinants against brute force, FrEIA's classes as references."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from FrEIA.modules import AffineCouplingOneSided, ConditionalAffineTransform, IRevNetDownsampling
from test_networks import brute_force
from torch import Tensor, nn

from irnscale.freia import SequenceINN
from irnscale.networks.families.srflow import SRFlowConfig
from irnscale.networks.flow import (
    LOG_SCALES,
    ActNorm,
    AffineInjector,
    ConditionalCoupling,
    FactorisedConv,
    FlowConfig,
    GaussianSplit,
    InvertibleConv,
    Multiscale,
    Squeeze,
    Subnet,
    ZeroConv,
    bits_per_dimension,
    standard_normal,
)
from irnscale.networks.srflow import SRFlow
from irnscale.zoo import load_network
from irnscale.zoo.save import save_model

SCALES = tuple(LOG_SCALES)


def randomised(net: nn.Module, gain: float = 0.3) -> nn.Module:
    """Random weights in float64; mixing stays near a rotation, so that its inverse keeps the digits."""
    net.double()
    for name, parameter in net.named_parameters():
        noise = gain * torch.randn_like(parameter)
        square = parameter.dim() == 2
        parameter.data = parameter + 0.1 * noise if square else noise * (1.0 if parameter.dim() == 1 else 0.5)
        assert parameter.isfinite().all(), name
    return net


def layer(kind: str, scale: str, condition: int, size: tuple[int, int, int]) -> nn.Module:
    """One layer for data of `size` with random weights."""
    c = [(condition, *size[1:])] if condition else []
    made: dict[str, nn.Module] = {
        "squeeze": Squeeze([size]),
        "actnorm": ActNorm([size]),
        "mixing": InvertibleConv([size]),
        "plu": FactorisedConv([size]),
        "coupling": ConditionalCoupling([size], c, hidden=5, scale=scale),
    }
    if condition:
        made["injector"] = AffineInjector([size], c, hidden=5, scale=scale)
    return randomised(made[kind])


CASES = [
    *((kind, "glow", 0) for kind in ("squeeze", "actnorm", "mixing", "plu")),
    *(("coupling", scale, condition) for scale in SCALES for condition in (0, 2)),
    *(("injector", scale, 2) for scale in SCALES),
]


@pytest.mark.parametrize(("kind", "scale", "condition"), CASES)
@pytest.mark.parametrize("size", [(3, 4, 2), (4, 4, 6)])
def test_inverse_and_log_determinant(kind, scale, condition, size):
    module = layer(kind, scale, condition, size)
    x = torch.randn(2, *size, dtype=torch.float64)
    c = [torch.randn(2, condition, *size[1:], dtype=torch.float64)] if condition else []
    (y,), log_det = module((x,), c=c)
    (back,), back_det = module((y,), c=c, rev=True)
    assert (back - x).abs().max() < 1e-10
    assert kind == "squeeze" or (y - x).abs().max() > 1e-2
    total = log_det if isinstance(log_det, Tensor) else torch.full((2,), log_det, dtype=torch.float64)
    torch.testing.assert_close(total, -torch.zeros_like(total) - back_det)
    for n in range(2):
        one = [t[n : n + 1] for t in c]
        expected = brute_force(lambda v, one=one: module((v,), c=one)[0][0], x[n : n + 1])
        assert total[n].item() == pytest.approx(expected, abs=1e-9)
    assert module((x,), c=c, jac=False)[1] == 0.0
    assert torch.equal(module((x,), c=c, jac=False)[0][0], y)


@pytest.mark.parametrize("size", [(3, 4, 2), (4, 2, 2)])
def test_split(size):
    module = randomised(GaussianSplit([size]))
    x = torch.randn(2, *size, dtype=torch.float64)
    (kept, eps), log_det = module((x,))
    assert kept.shape[1] + eps.shape[1] == size[0]
    assert module.output_dims([size]) == [tuple(kept.shape[1:]), tuple(eps.shape[1:])]
    (back,), back_det = module((kept, eps), rev=True)
    assert (back - x).abs().max() < 1e-12
    torch.testing.assert_close(back_det, -log_det)
    expected = brute_force(lambda v: torch.cat(module((v,))[0], dim=1), x[:1])
    assert log_det[0].item() == pytest.approx(expected, abs=1e-9)
    # log p of what left is that of a Gaussian with the mean and deviation that the subnet gives
    raw = module.gauss(kept)
    gauss = torch.distributions.Normal(raw[:, 0::2], raw[:, 1::2].exp())
    density = gauss.log_prob(x[:, kept.shape[1] :]).flatten(1).sum(1)
    torch.testing.assert_close(standard_normal([eps]) + log_det, density)


def test_an_untrained_split_with_the_prior_is_the_unsplit_gaussian():
    x = torch.randn(3, 4, 2, 2, dtype=torch.float64)
    (kept, eps), log_det = GaussianSplit([(4, 2, 2)]).double()((x,))
    whole = torch.distributions.Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(standard_normal([kept, eps]) + log_det, whole)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("condition", [0, 3])
def test_coupling_equals_freia(scale, condition):
    size = (5, 4, 3)
    ours = layer("coupling", scale, condition, size)
    c = [(condition, 4, 3)] if condition else []

    def subnet(inputs: int, outputs: int) -> nn.Module:
        assert (inputs, outputs) == (2 + condition, 6)
        return nn.Module()

    theirs = AffineCouplingOneSided([size], c, subnet, clamp=1, clamp_activation=LOG_SCALES[scale], split_len=2)
    theirs.subnet.forward = lambda joined: halves(
        ours.subnet(joined[:, :2], joined[:, 2:] if condition else None), scale
    )
    x = torch.randn(2, *size, dtype=torch.float64)
    conditions = [torch.randn(2, condition, 4, 3, dtype=torch.float64)] if condition else []
    for rev in (False, True):
        (y,), log_det = ours((x,), c=conditions, rev=rev)
        (expected,), expected_det = theirs((x,), c=conditions, rev=rev)
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(log_det, expected_det)


@pytest.mark.parametrize("scale", SCALES)
def test_injector_equals_freia(scale):
    size = (4, 3, 2)
    ours = layer("injector", scale, 3, size)
    theirs = ConditionalAffineTransform(
        [size], [(3, 3, 2)], lambda _i, _o: nn.Module(), clamp=1, clamp_activation=LOG_SCALES[scale]
    )
    theirs.subnet.forward = lambda c: halves(ours.subnet(None, c), scale)
    x, c = torch.randn(2, *size, dtype=torch.float64), torch.randn(2, 3, 3, 2, dtype=torch.float64)
    for rev in (False, True):
        (y,), log_det = ours((x,), c=[c], rev=rev)
        (expected,), expected_det = theirs((x,), c=[c], rev=rev)
        torch.testing.assert_close(y, expected)
        torch.testing.assert_close(log_det, expected_det)


def halves(raw: Tensor, scale: str) -> Tensor:
    """Our interleaved (shift, u) as FrEIA's (u, t) of g x + t: t = shift g."""
    shift, u = raw[:, 0::2], raw[:, 1::2]
    return torch.cat((u, shift * LOG_SCALES[scale](u).exp()), dim=1)


def test_squeeze_equals_freia_and_pixel_unshuffle():
    x = torch.randn(2, 3, 6, 4)
    (y,), _ = Squeeze([(3, 6, 4)])((x,))
    assert torch.equal(y, F.pixel_unshuffle(x, 2))
    (theirs,), _ = IRevNetDownsampling([(3, 6, 4)])((x,))
    torch.testing.assert_close(y, theirs)
    assert y[1, 4 * 2 + 2 * 1 + 0, 2, 1] == x[1, 2, 5, 2]
    assert Squeeze([(3, 6, 4)]).output_dims([(3, 6, 4)]) == [(12, 3, 2)]
    with pytest.raises(ValueError, match="even"):
        Squeeze([(3, 6, 4)])((x[..., :3],))
    with pytest.raises(ValueError, match="even"):
        Squeeze([(3, 6, 4)]).output_dims([(3, 5, 4)])


def test_scales_are_as_published():
    u = torch.linspace(-8, 8, 101, dtype=torch.float64)
    torch.testing.assert_close(LOG_SCALES["glow"](u).exp(), 1 / (1 + (-u - 2).exp()) + 1e-4)
    torch.testing.assert_close(LOG_SCALES["squish"](u).exp(), 0.5 + 0.5 / (1 + (-u - 2).exp()))
    torch.testing.assert_close(LOG_SCALES["atan"](u), 0.318 * torch.atan(2 * u))
    assert LOG_SCALES["squish"](u).exp().min() >= 0.5


def test_actnorm_starts_from_data():
    x = 3 + 2 * torch.randn(4, 3, 5, 5)
    x[:, 1] = 7.0  # a constant channel stays finite
    module = ActNorm([(3, 5, 5)])
    assert torch.equal(module((x,))[0][0], x)
    module.initialise(x)
    (y,), log_det = module((x,))
    torch.testing.assert_close(y.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    spread = y.std(dim=(0, 2, 3), unbiased=False)
    torch.testing.assert_close(spread[[0, 2]], torch.ones(2), atol=1e-4, rtol=0)
    assert log_det.isfinite().all()


def test_factorised_mixing_starts_as_a_rotation_and_is_what_it_says():
    torch.manual_seed(5)
    module = FactorisedConv([(7, 1, 1)]).double()
    eye = torch.eye(7, dtype=torch.float64).view(7, 7, 1, 1)

    def matrix() -> torch.Tensor:
        return module((eye,), jac=False)[0][0].flatten(1).T

    assert (matrix() @ matrix().T - torch.eye(7)).abs().max() < 1e-6
    assert abs(module((eye,))[1][0].item()) < 1e-6
    with torch.no_grad():
        module.log_diagonal.sub_(2.0)
        module.triangles.add_(0.1 * torch.randn_like(module.triangles))
    (y,), log_det = module((eye,))
    assert abs(log_det[0].item() - (module.log_diagonal.sum().item())) < 1e-9
    assert (module((y,), rev=True)[0][0] - eye).abs().max() < 1e-6
    lower = module.triangles.tril(-1) + torch.eye(7)
    upper = module.triangles.triu(1) + torch.diag(module.sign * module.log_diagonal.exp())
    permutation = torch.eye(7, dtype=torch.float64)[module.order]
    torch.testing.assert_close(matrix(), permutation @ lower @ upper)


def test_factorised_mixing_keeps_its_permutation_in_a_model(tmp_path, monkeypatch):
    """Its order and signs are numbers that float16 holds."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path))
    config = SRFlowConfig(rrdb_blocks=1, rrdb_growth=4, taps=(0,), flow_steps=1, flow_hidden=4, flow_mixing="plu")
    net = SRFlow(config)
    loaded = load_network(save_model(tmp_path, "plu", config, net.state_dict()), "super-resolution")
    own, kept = net.state_dict(), loaded.state_dict()
    orders = [name for name in own if name.endswith(("order", "sign"))]
    assert len(orders) == 2 * 3 * (2 + 1)
    assert all(torch.equal(own[name], kept[name]) for name in orders)
    hr, lr = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 4, 4)
    conditions = loaded.encoded(lr)
    assert (loaded.decode(loaded.encode(hr, conditions), conditions) - hr).abs().max() < 1e-3


def test_mixing_starts_as_a_rotation():
    module = InvertibleConv([(48, 2, 2)])
    torch.testing.assert_close(module.weight @ module.weight.T, torch.eye(48), atol=1e-5, rtol=0)
    assert module((torch.randn(2, 48, 3, 5),))[1].abs().max() < 1e-3


def test_subnet_as_written():
    net = randomised(Subnet(2, 3, 4, 6))
    x, c = (torch.randn(2, n, 5, 4, dtype=torch.float64) for n in (2, 3))
    h = F.conv2d(torch.cat((x, c), dim=1), net.conv1.weight, padding=1)
    h = F.relu(net.norm1(h))
    h = F.relu(net.norm2(F.conv2d(h, net.conv2.weight)))
    tail = net.conv3
    h = F.conv2d(h, tail.weight, padding=1) + tail.bias.view(1, -1, 1, 1)
    expected = h * (3 * tail.log_gain).exp().view(1, -1, 1, 1)
    torch.testing.assert_close(net(x, c), expected)
    shared = net(x, c[:1])
    torch.testing.assert_close(shared, net(x, c[:1].expand(2, -1, -1, -1)))
    assert not Subnet(2, 3, 4, 6)(x.float(), c.float()).any(), "an untrained one gives zero"
    assert not ZeroConv(2, 4)(x.float()).any()
    with pytest.raises(ValueError, match="condition of 3"):
        net(x)
    count = 9 * 5 * 6 + 12 + 36 + 12 + 9 * 6 * 4 + 8
    assert sum(p.numel() for p in net.parameters()) == count


def test_gradients():
    size = (3, 2, 2)
    for kind in ("actnorm", "mixing", "coupling", "injector"):
        module = layer(kind, "glow", 2 if kind in ("coupling", "injector") else 0, size)
        c = [torch.randn(1, 2, 2, 2, dtype=torch.float64)] if kind in ("coupling", "injector") else []
        x = torch.randn(1, *size, dtype=torch.float64, requires_grad=True)

        def run(x: Tensor, *_: Tensor, module: nn.Module = module, c: list[Tensor] = c) -> tuple[Tensor, Tensor]:
            (y,), log_det = module((x,), c=c)
            return y, log_det

        assert torch.autograd.gradcheck(run, (x, *module.parameters()), fast_mode=True)


@pytest.mark.parametrize(
    ("given", "count"),
    [
        ({"condition": 320}, 22_567_248),
        ({"condition": 320, "levels": 4}, 33_810_400),
        ({"condition": 320, "splits": "all"}, 20_890_848),
        ({"condition": 320, "levels": 4, "splits": "all"}, 30_213_952),
        ({"condition": 64, "levels": 4}, 14_936_032),
        ({"condition": 64, "steps": 8, "scale": "squish"}, 4_216_272),
        ({"steps": 32, "hidden": 512, "splits": "all", "transitions": 0}, 44_052_720),
        ({"channels": 1, "steps": 32, "hidden": 512, "splits": "all", "transitions": 0}, 31_570_304),
    ],
)
def test_parameters(given, count):
    flow = Multiscale(FlowConfig(**given))
    assert sum(p.numel() for p in flow.parameters()) == count
    assert sum(t.numel() for t in flow.state_dict().values()) == count, "nothing but weights is stored"


def small(**given) -> Multiscale:
    """A narrow flow of three levels with random weights."""
    return randomised(Multiscale(FlowConfig(steps=2, hidden=4, **given)), gain=0.15)


def conditions_of(x: Tensor, channels: int, levels: int, samples: int | None = None) -> list[Tensor]:
    """Random ones for each level."""
    n, _, h, w = x.shape
    shape = (samples or n, channels)
    return [torch.randn(*shape, h >> k, w >> k, dtype=x.dtype) for k in range(1, levels + 1)]


@pytest.mark.parametrize("splits", ["srflow", "all"])
@pytest.mark.parametrize("condition", [0, 3])
@pytest.mark.parametrize("size", [(8, 8), (16, 24), (40, 8)])
def test_multiscale_inverse(splits, condition, size):
    flow = small(splits=splits, condition=condition)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    c = conditions_of(x, condition, 3) if condition else []
    latents, log_det = flow.encode(x, c)
    assert [tuple(z.shape[1:]) for z in latents] == flow.latent_shapes(*size)
    assert sum(z[0].numel() for z in latents) == x[0].numel()
    assert (flow.decode(latents, c) - x).abs().max() < 1e-10
    assert log_det.shape == (2,)
    again, nothing = flow.encode(x, c, jac=False)
    assert nothing == 0.0
    assert all(torch.equal(a, b) for a, b in zip(again, latents, strict=True))
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda _: flow.decode(latents, c), range(4)):
            assert (result - x).abs().max() < 1e-10


@pytest.mark.parametrize("condition", [0, 2])
def test_multiscale_log_determinant(condition):
    flow = small(levels=2, splits="all", condition=condition)
    x = torch.randn(1, 3, 4, 8, dtype=torch.float64)
    c = conditions_of(x, condition, 2) if condition else []

    def joined(v: Tensor) -> Tensor:
        return torch.cat([z.flatten() for z in flow.encode(v, c)[0]])

    assert flow.encode(x, c)[1].item() == pytest.approx(brute_force(joined, x), abs=1e-8)


def test_samples_share_a_condition():
    flow = small(condition=3)
    x = torch.randn(3, 3, 8, 16, dtype=torch.float64)
    c = conditions_of(x, 3, 3, samples=1)
    latents, log_det = flow.encode(x, c)
    repeated = [t.expand(3, -1, -1, -1) for t in c]
    expected, expected_det = flow.encode(x, repeated)
    torch.testing.assert_close(log_det, expected_det)
    torch.testing.assert_close(flow.decode(latents, c), flow.decode(expected, repeated))


def test_initialise_reaches_trunk_and_subnets():
    flow = Multiscale(FlowConfig(steps=2, hidden=8, condition=4, splits="all", levels=2)).double()
    x = 0.5 + 0.2 * torch.randn(4, 3, 16, 16, dtype=torch.float64)
    c = conditions_of(x, 4, 2)
    flow.initialise(x, c)
    seen: list[Tensor] = []
    for module in flow.modules():
        if isinstance(module, ActNorm):
            module.register_forward_hook(lambda _m, _i, out: seen.append(out[0][0]))
    latents, _ = flow.encode(x, c)
    assert len(seen) == 2 * (2 + 2)
    for y in [*seen, *latents]:
        assert y.isfinite().all()
    for y in seen:
        torch.testing.assert_close(y.mean(dim=(0, 2, 3)), y.new_zeros(y.shape[1]), atol=1e-6, rtol=0)
        torch.testing.assert_close(y.std(dim=(0, 2, 3), unbiased=False), y.new_ones(y.shape[1]), atol=1e-3, rtol=0)
    subnets = [m for m in flow.modules() if isinstance(m, Subnet)]
    assert len(subnets) == 8
    for net in subnets:
        assert net.norm1.log_scale.abs().min() > 0
        assert net.norm2.log_scale.abs().min() > 0
    injector = flow.levels[0].module_list[7]
    assert isinstance(injector, AffineInjector)
    h = injector.subnet.norm1(injector.subnet.conv1(c[0]))
    torch.testing.assert_close(h.mean(dim=(0, 2, 3)), h.new_zeros(8), atol=1e-6, rtol=0)


def test_the_density_of_two_pixels_integrates_to_one():
    net = SequenceINN(2, 1, 1)
    for _ in range(2):
        net.append(ActNorm)
        net.append(InvertibleConv)
        net.append(AffineInjector, cond=0, cond_shape=(1, 1, 1), hidden=4)
        net.append(ConditionalCoupling, cond=0, cond_shape=(1, 1, 1), hidden=4)
    split = GaussianSplit([(2, 1, 1)])
    both = randomised(nn.ModuleList([net, split]), gain=0.2)
    assert both[1] is split
    c = torch.randn(1, 1, 1, 1, dtype=torch.float64)
    side = torch.linspace(-30, 30, 401, dtype=torch.float64)
    x = torch.cartesian_prod(side, side).view(-1, 2, 1, 1)
    total = 0.0
    for part in x.split(50_000):
        y, log_det = net(part, [c])
        (kept, eps), split_det = split((y,))
        total += (standard_normal([kept, eps]) + log_det + split_det).exp().sum().item()
    assert total * (side[1] - side[0]).item() ** 2 == pytest.approx(1, abs=1e-4)


def test_it_learns_one_picture_better_than_a_gaussian():
    y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    picture = torch.stack([x / 8, y / 8, (x + y > 8).float()])[None]
    noise = torch.Generator().manual_seed(3)

    def noisy(count: int) -> Tensor:
        return picture + (torch.rand(count, 3, 8, 8, generator=noise)) / 256

    test = noisy(64)
    data = noisy(512)
    spread = data.var(dim=(0, 2, 3), unbiased=False).view(1, 3, 1, 1)
    mean = data.mean(dim=(0, 2, 3)).view(1, 3, 1, 1)
    gauss = torch.distributions.Normal(mean, spread.sqrt()).log_prob(test).flatten(1).sum(1)
    flow = Multiscale(FlowConfig(steps=1, levels=2, hidden=16))
    flow.initialise(noisy(16))
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss = bits_per_dimension(flow.log_density(noisy(8)), 192).mean()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        reached = bits_per_dimension(flow.log_density(test), 192).mean()
    assert reached < bits_per_dimension(gauss, 192).mean() - 1
    assert reached > 0, "no density of dequantised data can be above that of its grid"


def test_bits_of_uniform_data():
    # 8-bit data that are known cost none, those that may be anything in [0, 1) eight
    assert bits_per_dimension(torch.tensor([5 * math.log(256)]), 5).item() == pytest.approx(0, abs=1e-5)
    assert bits_per_dimension(torch.zeros(1), 7).item() == 8


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": 0}, "steps"),
        ({"condition": -1}, "condition"),
        ({"splits": "some"}, "srflow"),
        ({"scale": "exp"}, "squish"),
    ],
)
def test_what_cannot_be_built(given, words):
    with pytest.raises(ValueError, match=words):
        FlowConfig(**given)


def test_wrong_sizes_and_conditions_are_refused():
    flow = small(condition=3)
    with pytest.raises(ValueError, match="multiples of 8"):
        flow.latent_shapes(8, 12)
    with pytest.raises(ValueError, match="each of 3 levels"):
        flow.encode(torch.zeros(1, 3, 8, 8, dtype=torch.float64))
