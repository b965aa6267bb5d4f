"""RRDB and SRFlow: counts, the published arithmetic, inverses, samples, what a pixel depends on."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_flow_layers import randomised
from torch import Tensor, nn

from irnscale.networks.families.rrdb import RRDBConfig
from irnscale.networks.families.srflow import SRFlowConfig
from irnscale.networks.flow import LOG_SCALES, Multiscale
from irnscale.networks.flow_config import SCALES
from irnscale.networks.network import pad_to
from irnscale.networks.rrdb import RRDB, RRDBEncoder, RRDBNet
from irnscale.networks.srflow import SRFlow

LITE = SRFlowConfig(rrdb_blocks=4, flow_steps=8, adapter=64, flow_scale="squish", head=False)


def parameters(net: nn.Module) -> int:
    """How many."""
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("config", "flow", "encoder", "count"),
    [
        (SRFlowConfig(), 22_567_248, 16_697_987, 39_265_235),
        (SRFlowConfig(scale=8, taps=(1, 3, 5, 7)), 33_810_400, 16_734_915, 50_821_891 - 276_576),
        (SRFlowConfig(scale=8, rrdb_blocks=8), 33_810_400, 5_943_555, 40_030_531 - 276_576),
        (LITE, 4_216_272, 2_953_344, 7_231_248),
    ],
)
def test_parameters(config, flow, encoder, count):
    net = SRFlow(config)
    assert parameters(net.flow) == flow
    assert parameters(net.encoder) + (parameters(net.head) if net.head is not None else 0) == encoder
    assert parameters(net) == count
    assert parameters(net.adapters) == (3 * (320 * 64 + 64) if config.adapter else 0)


def test_rrdb_parameters():
    assert parameters(RRDBNet()) == 16_697_987
    assert parameters(RRDBNet(RRDBConfig(scale=8))) == 16_734_915


def tiny(**given) -> SRFlow:
    """A narrow SRFlow with random weights in float64, which stay small enough for inverses to keep the digits."""
    config = {"rrdb_blocks": 2, "rrdb_growth": 4, "taps": (0, 1), "flow_steps": 1, "flow_hidden": 4}
    net = SRFlow(SRFlowConfig(**config | given))
    randomised(net.flow, gain=0.15)
    return net.double()


@pytest.mark.parametrize("given", [{}, {"adapter": 5, "flow_scale": "squish", "head": False}, {"scale": 8}])
@pytest.mark.parametrize("size", [(2, 2), (4, 6), (8, 2)])
def test_large_pictures_and_latents_are_each_others_inverse(given, size):
    net = tiny(**given)
    lr = torch.rand(2, 3, *size, dtype=torch.float64)
    hr = torch.rand(2, 3, size[0] * net.scale, size[1] * net.scale, dtype=torch.float64)
    conditions = net.encoded(lr)
    assert [tuple(c.shape[2:]) for c in conditions] == [
        (hr.shape[2] >> k, hr.shape[3] >> k) for k in range(1, net.config.levels + 1)
    ]
    latents, _ = net.flow.encode(hr, conditions)
    assert [z.shape for z in latents] == [z.shape for z in net.latents(lr, seed=0)]
    assert (net.flow.decode(latents, conditions) - hr).abs().max() < 1e-10
    assert net.log_density(hr, conditions).shape == (2,)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (4, 5), (7, 1)])
def test_any_size_is_enlarged(size):
    net = tiny()
    lr = torch.rand(1, 3, *size, dtype=torch.float64)
    y = net(lr)
    assert y.shape == (1, 3, size[0] * 4, size[1] * 4)
    torch.testing.assert_close(net.enlarge(lr, temperature=0), y)
    assert net.enlarge(lr, temperature=0.8, seeds=(3, 4)).shape == (2, 3, size[0] * 4, size[1] * 4)


def test_odd_sizes_are_padded_by_reflection():
    lr = torch.arange(9.0).view(1, 1, 3, 3)
    assert pad_to(lr, 2)[0, 0].tolist() == [[0, 1, 2, 1], [3, 4, 5, 4], [6, 7, 8, 7], [3, 4, 5, 4]]
    with pytest.raises(ValueError, match="multiples of 2"):
        tiny().encoded(torch.zeros(1, 3, 3, 4, dtype=torch.float64))


def test_samples():
    net = tiny()
    lr = torch.rand(1, 3, 4, 6, dtype=torch.float64)
    three = net.enlarge(lr, temperature=0.8, seeds=(7, 8, 9))
    for index, seed in enumerate((7, 8, 9)):
        torch.testing.assert_close(net.enlarge(lr, temperature=0.8, seeds=(seed,)), three[index : index + 1])
    assert (three[0] - three[1]).abs().max() > 1e-3
    mode = net(lr)
    assert (net.enlarge(lr, temperature=1e-6, seeds=(7,)) - mode).abs().max() < 1e-4
    distances = [(net.enlarge(lr, temperature=t, seeds=(7,)) - mode).abs().mean().item() for t in (0.2, 0.5, 1.0)]
    assert distances == sorted(distances)
    z = net.latents(lr.expand(2, -1, -1, -1), seed=7, temperature=0.5)
    assert all(torch.equal(part[0], part[1]) for part in z), "every picture of a batch gets the same"
    assert z[0].std().item() == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(z[0][0, :3, :4, :6], z[1][0, :3, :4, :6]), "each latent has a field of its own"


def calls(net: nn.Module, kind: type[nn.Module], run) -> int:
    """How often modules of a kind are run."""
    count = [0]
    hooks = [m.register_forward_hook(lambda *_: count.append(1)) for m in net.modules() if isinstance(m, kind)]
    run()
    for hook in hooks:
        hook.remove()
    return sum(count)


def test_samples_share_one_pass_of_the_encoder():
    net = tiny()
    lr = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    assert calls(net, RRDBEncoder, lambda: net.enlarge(lr, temperature=1, seeds=range(5))) == 1


@pytest.mark.parametrize(
    "given", [{}, {"scale": 8, "flow_steps": 2}, {"flow_steps": 2, "adapter": 4}, {"flow_steps": 3}]
)
@torch.no_grad()
def test_a_pixel_depends_on_its_support_alone(given):
    """Tiles with that much around them are parts of the whole, noise and all; with less, some are not."""
    net = tiny(rrdb_blocks=1, taps=(0,), flow_scale="squish", **given)
    for parameter in net.encoder.parameters():
        nn.init.normal_(parameter, std=0.06)
    halo, scale, core = net.support, net.scale, 4
    side = 2 * halo + core + 6
    lr = torch.rand(1, 3, side + 1, core, dtype=torch.float64)  # odd: padded at the end
    whole = net.enlarge(lr, temperature=0.5, seeds=(3,))

    def tile(top: int, around: int) -> Tensor:
        first, last = max(0, top - around), min(lr.shape[2], top + core + around)
        part = net.enlarge(lr[:, :, first:last], temperature=0.5, seeds=(3,), origin=(first, 0))
        return part.narrow(2, (top - first) * scale, min(core, last - top) * scale)

    for top in (0, halo + 2, side - 2):
        expected = whole[:, :, top * scale : (top + core) * scale]
        assert (tile(top, halo) - expected).abs().max() < 1e-9
    # the bound is not much too wide either
    assert (tile(halo + 2, halo // 2) - whole[:, :, (halo + 2) * scale : (halo + 2 + core) * scale]).abs().max() > 1e-12


def test_rrdb_as_published():
    """The arithmetic of the published network, written out."""
    net = randomised(RRDBNet(RRDBConfig(scale=4, rrdb_blocks=2, rrdb_growth=4)), gain=0.3)
    x = torch.rand(1, 3, 5, 4, dtype=torch.float64)

    def conv(layer: nn.Conv2d, y: Tensor) -> Tensor:
        return F.conv2d(y, layer.weight, layer.bias, padding=1)

    def act(y: Tensor) -> Tensor:
        return torch.where(y > 0, y, 0.2 * y)

    y = conv(net.encoder.conv_first, x)
    for rrdb in net.encoder.trunk:
        r = y
        for block in rrdb.blocks:
            features = [r]
            for layer in block.convolutions[:4]:
                features.append(act(conv(layer, torch.cat(features, dim=1))))
            r = r + 0.2 * conv(block.conv5, torch.cat(features, dim=1))
        y = y + 0.2 * r
    y = y + conv(net.encoder.trunk_conv, y)
    for up in net.encoder.upconvs:
        y = act(conv(up, y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)))
    expected = conv(net.head.conv_last, act(conv(net.head.conv_hr, y)))
    torch.testing.assert_close(net(x), expected)
    assert net(x).shape == (1, 3, 20, 16)


def test_conditions_as_published():
    net = tiny()
    lr = torch.rand(1, 3, 4, 6, dtype=torch.float64)
    (last, up2, up4), taps = net.encoder(lr, (0, 1))
    assert up4.shape == (1, 64, 16, 24)
    expected = [
        torch.cat((up2, F.interpolate(taps, size=(8, 12))), dim=1),
        torch.cat((last, taps), dim=1),
        torch.cat((F.interpolate(last, scale_factor=0.5, mode="bilinear"), F.interpolate(taps, size=(2, 3))), dim=1),
    ]
    for ours, theirs in zip(net.encoded(lr), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    adapted = tiny(adapter=5)
    for level, (feature, c) in enumerate(zip(adapted.encoded(lr), plain_conditions(adapted, lr), strict=True)):
        torch.testing.assert_close(feature, adapted.adapters[level](c))


def plain_conditions(net: SRFlow, lr: Tensor) -> list[Tensor]:
    """What the adapters read."""
    (last, up2, *_), taps = net.encoder(lr, tuple(net.config.taps))
    double = taps.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    means = last.unflatten(3, (-1, 2)).mean(4).unflatten(2, (-1, 2)).mean(3)
    return [
        torch.cat((up2, double), dim=1),
        torch.cat((last, taps), dim=1),
        torch.cat((means, taps[:, :, ::2, ::2]), dim=1),
    ]


def test_initial_weights():
    block = RRDB(32).blocks[0]
    std = block.conv5.weight.std().item()
    assert std == pytest.approx(0.1 * (2 / (9 * 192)) ** 0.5, rel=0.02)
    net = tiny()
    assert isinstance(net.flow, Multiscale)


def test_precision_is_the_encoders():
    net = tiny().float()
    net.set_compute_dtype(torch.bfloat16)
    lr = torch.rand(1, 3, 4, 4)
    lowered = net.encoded(lr)
    net.set_compute_dtype(None)
    exact = net.encoded(lr)
    assert all(c.dtype == torch.float32 for c in lowered)
    assert not torch.equal(lowered[1], exact[1])
    torch.testing.assert_close(lowered[1], exact[1], atol=0.05, rtol=0.05)
    assert all(m.compute_dtype is None for m in net.flow.modules() if hasattr(m, "compute_dtype"))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"scale": 3}, "4 or 8"),
        ({"rrdb_blocks": 5}, "taps"),
        ({"rrdb_blocks": 2, "taps": (0, 2)}, "taps"),
        ({"flow_steps": 0}, "flow_steps"),
        ({"flow_scale": "exp"}, "squish"),
    ],
)
def test_what_cannot_be_built(given, words):
    with pytest.raises(ValueError, match=words):
        SRFlowConfig(**given)


def test_names_of_scales():
    assert tuple(LOG_SCALES) == SCALES


def test_rrdb_that_cannot_be_built():
    with pytest.raises(ValueError, match="2, 4 or 8"):
        RRDBConfig(scale=3)
    with pytest.raises(ValueError, match="rrdb_growth"):
        RRDBConfig(rrdb_growth=0)
