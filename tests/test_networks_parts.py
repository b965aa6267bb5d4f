"""The parts beyond the paper's IRN x2, x4 and x8: scale 3, activation normalisation, codec blocks."""

from __future__ import annotations

import pytest
import torch
from test_networks import brute_force, randomise, small_irn

from irnscale.engine.executor import run
from irnscale.networks import IRN, ActNorm, ChannelRotation, DenseBlock, EnhancedAffineCoupling, IRNConfig
from irnscale.networks import UnshuffleMatrix as Unshuffle

VARIANTS = [
    {"scale": 3},
    {"scale": 16, "growth": 2},
    {"scale": 2, "actnorm": True},
    {"scale": 4, "codec_blocks": 2},
    {"scale": 3, "actnorm": True, "codec_blocks": 1},
]


def variant(scale: int, growth: int = 4, **config) -> IRN:
    """A narrow network with random weights in float64, with a matrix that can be inverted."""
    net = IRN(IRNConfig(scale=scale, inv_per_ds=2, growth=growth, **config))
    for module in net.module_list:
        if isinstance(module, Unshuffle):
            module.matrix.data += 0.05 * torch.randn(9, 9)
        else:
            randomise(module, gain=0.7)
    return net.double()


def test_scale_3_has_the_papers_parameters():
    net = IRN(IRNConfig(scale=3, inv_per_ds=12))
    assert sum(p.numel() for p in net.parameters()) == 3_139_029


def test_scale_3_starts_with_the_mean():
    net = IRN(IRNConfig(scale=3, inv_per_ds=2, growth=4))
    x = torch.rand(2, 3, 6, 9)
    lr, z = net.downscale(x)
    torch.testing.assert_close(lr, torch.nn.functional.avg_pool2d(x, 3))
    torch.testing.assert_close(z[:, :3], x[..., 0::3, 1::3])
    torch.testing.assert_close(net.upscale(lr, z), x)
    with pytest.raises(ValueError, match="multiples of 3"):
        net.downscale(torch.rand(1, 3, 6, 8))
    with pytest.raises(ValueError, match="multiples of 3"):
        Unshuffle([(3, 3, 3)]).output_dims([(3, 6, 8)])


@pytest.mark.parametrize("config", VARIANTS)
def test_every_variant_is_invertible(config):
    net = variant(**config)
    x = torch.rand(2, 3, 2 * net.scale, 3 * net.scale, dtype=torch.float64)
    y, log_det = net(x)
    back, log_det_back = net(y, rev=True)
    assert (back - x).abs().max() < 1e-9
    torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-7)
    assert (net.enlarge(*net.downscale(x)) - x).abs().max() < 1e-9
    assert (net.upscale(*net.simulate(*net.downscale(x))) - x).abs().max() < 1e-9


@pytest.mark.parametrize("rev", [False, True])
@pytest.mark.parametrize("module", [Unshuffle([(2, 6, 3)]), ActNorm([(3, 6, 3)], keep=1), ChannelRotation([(4, 6, 3)])])
def test_log_determinants(module, rev):
    module = module.double()
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    channels = module.dims_in[0][0]
    shape = (2, 9 * channels, 2, 1) if rev and isinstance(module, Unshuffle) else (2, channels, 6, 3)
    x = torch.randn(shape, dtype=torch.float64)
    (y,), log_det = module((x,), rev=rev)
    for sample, value in zip(x, log_det, strict=True):
        expected = brute_force(lambda v: module((v,), rev=rev)[0][0], sample[None])
        assert value.item() == pytest.approx(expected, abs=1e-9)
    (back,), _ = module((y,), rev=not rev)
    assert (back - x).abs().max() < 1e-12


def test_actnorm_normalises_all_but_the_image():
    net = IRN(IRNConfig(scale=4, inv_per_ds=2, growth=4, actnorm=True))
    assert [type(m).__name__ for m in net.module_list[1:5]] == ["EnhancedAffineCoupling", "ActNorm"] * 2
    x = torch.rand(4, 3, 16, 16)
    x[:, 1] = 0.5  # a channel without detail
    before, _ = net.downscale(x)
    net.initialise(x)
    lr, z = net.downscale(x)
    assert torch.equal(lr, before), "the small image is left as it is"
    assert z.mean((0, 2, 3)).abs().max() < 1e-4
    std = z.std((0, 2, 3), unbiased=False)
    flat = std < 1e-6
    assert flat.sum() == 15, "constant channels stay finite"
    torch.testing.assert_close(std[~flat], torch.ones(30), rtol=0, atol=1e-3)
    torch.testing.assert_close(net.upscale(lr, z), x, rtol=0, atol=1e-5)


def test_codec_blocks_are_left_out_of_downscaling():
    net, plain = variant(4, codec_blocks=2), IRN(IRNConfig(scale=4, inv_per_ds=2, growth=4)).double()
    assert len(net.codec_modules) == 2
    names = plain.state_dict().keys()
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if k in names})
    x = torch.rand(1, 3, 8, 12, dtype=torch.float64)
    lr, rest = net.downscale(x)
    assert torch.equal(lr, plain.downscale(x)[0])
    simulated, z = net.simulate(lr, rest)
    assert torch.equal(torch.cat((simulated, z), 1), net(x)[0])
    for one, two in zip(net.recover(simulated, z), (lr, rest), strict=True):
        torch.testing.assert_close(one, two)
    assert not torch.allclose(net.upscale(lr), plain.upscale(lr))


def test_untrained_codec_blocks_are_the_identity():
    net = IRN(IRNConfig(scale=2, inv_per_ds=1, growth=4, codec_blocks=3))
    lr, z = net.downscale(torch.rand(1, 3, 4, 6))
    for one, two in zip(net.simulate(lr, z), (lr, z), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("config", VARIANTS)
def test_tiling_is_exact_for_every_variant(config):
    net = variant(**config)
    x = torch.rand(1, 3, 8 * net.scale, 7 * net.scale, dtype=torch.float64)
    with torch.inference_mode():
        lr, z = net.downscale(x)
        assert (run(net, x, rev=False, tile=5) - torch.cat((lr, z), 1)).abs().max() < 1e-11
        assert (run(net, torch.cat((lr, z), 1), rev=True, tile=5) - net.upscale(lr, z)).abs().max() < 1e-9


def test_a_coupling_without_its_additive_step():
    block = EnhancedAffineCoupling(
        [(3, 4, 5)], subnet_constructor=lambda i, o: DenseBlock(i, o, 4), split_len=2, additive=False
    )
    randomise(block).double()
    x = torch.randn(1, 3, 4, 5, dtype=torch.float64)
    (y,), log_det = block((x,))
    assert torch.equal(y[:, :2], x[:, :2])
    assert not torch.allclose(y[:, 2:], x[:, 2:])
    (back,), _ = block((y,), rev=True)
    assert (back - x).abs().max() < 1e-12
    assert log_det.item() == pytest.approx(brute_force(lambda v: block((v,))[0][0], x), abs=1e-9)


def test_the_papers_networks_are_unchanged():
    """Shipped weights keep their names: new options are off by default and add nothing."""
    assert small_irn(2).state_dict().keys() == variant(2).state_dict().keys()
    assert IRNConfig(**{"scale": 2, "growth": 4}).to_dict()["codec_blocks"] == 0
