"""The networks: parameter counts, the Haar transform, invertibility, log-determinants, receptive field."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from FrEIA.modules import HaarDownsampling
from torch import Tensor, nn

from irnscale.kernels import ACTIVATIONS, LogScale, haar_forward
from irnscale.networks import IRN, DenseBlock, EnhancedAffineCoupling, HaarTransform, IRNConfig
from irnscale.networks.families import irn as families_irn


def randomise(net: nn.Module, gain: float = 1.0) -> nn.Module:
    """Give all weights and biases random values, the fifth convolutions' too, which start at zero."""
    for parameter in net.parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 100
        nn.init.normal_(parameter, std=gain * math.sqrt(1 / fan_in))
    return net


def small_irn(scale: int, **config) -> IRN:
    """A narrow network with random weights in float64."""
    net = IRN(IRNConfig(scale=scale, inv_per_ds=2, growth=4, **config))
    return randomise(net).double()


@pytest.mark.parametrize(("scale", "count"), [(2, 1_667_952), (4, 4_355_136), (8, 11_119_248)])
def test_learnable_parameters(scale, count):
    net = IRN(IRNConfig(scale=scale))
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == count
    assert sum(t.numel() for t in net.state_dict().values()) == count, "nothing but weights is stored"


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_untrained_is_exactly_haar(scale):
    net = IRN(IRNConfig(scale=scale, inv_per_ds=3))
    x = torch.rand(2, 3, 3 * scale, 2 * scale)
    expected = x
    for _ in range(net.config.levels):
        expected = haar_forward(expected)
    lr, z = net.downscale(x)
    assert torch.equal(torch.cat((lr, z), dim=1), expected)
    block_means = x.unfold(2, scale, scale).unfold(3, scale, scale).mean(dim=(4, 5))
    torch.testing.assert_close(lr, block_means)
    torch.testing.assert_close(net.upscale(lr, z), x)


@pytest.mark.parametrize("shape", [(1, 3, 4, 6), (3, 12, 2, 8)])
def test_haar_equals_freia(shape):
    ours = HaarTransform([shape[1:]])
    theirs = HaarDownsampling([shape[1:]], order_by_wavelet=True, rebalance=0.5).double()
    x = torch.randn(shape, dtype=torch.float64)
    (y,), log_det = ours((x,))
    (y_theirs,), log_det_theirs = theirs((x.clone(),))
    torch.testing.assert_close(y, y_theirs)
    assert log_det.shape == (shape[0],)
    assert log_det.tolist() == pytest.approx([log_det_theirs] * shape[0])
    (back,), log_det = ours((y,), rev=True)
    (back_theirs,), log_det_theirs = theirs((y.clone(),), rev=True)
    torch.testing.assert_close(back, back_theirs)
    torch.testing.assert_close(back, x)
    assert log_det.tolist() == pytest.approx([log_det_theirs] * shape[0])


def test_haar_shapes_agree_with_output_dims():
    assert HaarTransform([(3, 6, 4)]).output_dims([(3, 6, 4)]) == [(12, 3, 2)]
    with pytest.raises(ValueError, match="even"):
        HaarTransform([(3, 6, 4)]).output_dims([(3, 6, 5)])


@pytest.mark.parametrize("size", [(5, 4), (4, 5), (6, 8), (1, 1)])
def test_odd_sizes_are_refused(size):
    with pytest.raises(ValueError, match="even"):
        IRN(IRNConfig(scale=4, inv_per_ds=1, growth=2)).downscale(torch.zeros(1, 3, *size))


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"scale": 5}, "scale"),
        ({"scale": 1}, "scale"),
        ({"inv_per_ds": 0}, "inv_per_ds"),
        ({"codec_blocks": -1}, "codec"),
    ],
)
def test_impossible_networks_are_refused(config, word):
    with pytest.raises(ValueError, match=word):
        IRNConfig(**config)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("clamp", "tightness"), [(1.0, 1.0), (0.7, 5.0)])
def test_inverse_undoes_forward(batch, scale, activation, clamp, tightness):
    net = small_irn(scale, clamp=clamp, clamp_activation=activation, clamp_tightness=tightness)
    x = torch.rand(batch, 3, 2 * scale, 5 * scale, dtype=torch.float64)
    y, log_det = net(x)
    back, log_det_back = net(y, rev=True)
    assert y.shape == (batch, 3 * scale**2, 2, 5)
    assert (y[:, :3] - net.downscale(x)[0]).abs().max() == 0
    assert (back - x).abs().max() < 1e-10
    torch.testing.assert_close(log_det_back, -log_det, rtol=0, atol=1e-8)


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_inverse_undoes_forward_at_full_width(scale):
    net = randomise(IRN(IRNConfig(scale=scale)), gain=0.3).double()
    x = torch.rand(1, 3, 2 * scale, 3 * scale, dtype=torch.float64)
    lr, z = net.downscale(x)
    assert (lr - small_mean(x, scale)).abs().max() > 1e-3, "the couplings must do something"
    assert (net.upscale(lr, z) - x).abs().max() < 1e-10


def small_mean(x: Tensor, scale: int) -> Tensor:
    """The mean of each block: what an untrained network makes."""
    return nn.functional.avg_pool2d(x, scale)


def brute_force(function, x: Tensor) -> float:
    """log|det| of the Jacobian of `function` at one sample `x`."""
    jacobian = torch.autograd.functional.jacobian(function, x).reshape(x.numel(), x.numel())
    return torch.linalg.slogdet(jacobian).logabsdet.item()


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("rev", [False, True])
def test_coupling_log_determinant(activation, rev):
    block = EnhancedAffineCoupling(
        [(12, 2, 3)],
        subnet_constructor=lambda i, o: DenseBlock(i, o, 4),
        log_scale=LogScale(0.8, 1.5, activation),
    )
    randomise(block).double()
    x = torch.randn(2, 12, 2, 3, dtype=torch.float64)
    _, log_det = block((x,), rev=rev)
    for sample, value in zip(x, log_det, strict=True):
        expected = brute_force(lambda v: block((v,), rev=rev)[0][0], sample[None])
        assert value.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rev", [False, True])
def test_network_log_determinant(rev):
    net = small_irn(4)
    x = torch.rand((1, 48, 1, 2) if rev else (1, 3, 4, 8), dtype=torch.float64)
    _, log_det = net(x, rev=rev)
    assert log_det.shape == (1,)
    assert log_det.item() == pytest.approx(brute_force(lambda v: net(v, rev=rev)[0], x), abs=1e-8)


def test_conditions_reach_the_subnets():
    block = EnhancedAffineCoupling(
        [(12, 4, 6)], [(2, 4, 6), (1, 4, 6)], subnet_constructor=lambda i, o: DenseBlock(i, o, 4)
    )
    randomise(block).double()
    assert [block.p.in_channels, block.s.in_channels, block.t.in_channels] == [12, 6, 6]
    x = torch.randn(2, 12, 4, 6, dtype=torch.float64)
    c = [torch.randn(2, n, 4, 6, dtype=torch.float64) for n in (2, 1)]
    (y,), log_det = block((x,), c)
    (back,), log_det_back = block((y,), c, rev=True)
    assert (back - x).abs().max() < 1e-10
    torch.testing.assert_close(log_det_back, -log_det)
    assert not torch.allclose(block((x,), [c[0], c[1] + 1])[0][0], y)


def test_coupling_is_the_papers_formula():
    block = EnhancedAffineCoupling(
        [(12, 4, 4)], subnet_constructor=lambda i, o: DenseBlock(i, o, 4), log_scale=LogScale(0.9)
    )
    randomise(block).double()
    x = torch.randn(1, 12, 4, 4, dtype=torch.float64)
    y1 = x[:, :3] + block.p(x[:, 3:])
    y2 = x[:, 3:] * torch.exp(0.9 * (2 * torch.sigmoid(block.s(y1)) - 1)) + block.t(y1)
    torch.testing.assert_close(block((x,))[0][0], torch.cat((y1, y2), dim=1))


def test_irn_2t_is_tanh():
    """A sigmoid clamp of tightness 2 and a tanh clamp of tightness 1 are one function."""
    sigmoid, tanh = small_irn(4, clamp_tightness=2.0), small_irn(4, clamp_activation="tanh")
    tanh.load_state_dict(sigmoid.state_dict())
    x = torch.rand(1, 3, 8, 12, dtype=torch.float64)
    torch.testing.assert_close(sigmoid(x)[0], tanh(x)[0], rtol=1e-13, atol=1e-13)


def test_threads_share_a_model():
    net = small_irn(4).float()
    inputs = [torch.rand(1 + k % 3, 3, 8 + 4 * (k % 2), 16) for k in range(12)]

    def both_ways(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            lr, _ = net.downscale(x)
            return lr, net.upscale(lr)

    alone = [both_ways(x) for x in inputs]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(both_ways, inputs))
    for one, two in zip(alone, together, strict=True):
        assert torch.equal(one[0], two[0])
        assert torch.equal(one[1], two[1])


def test_dense_block_sees_exactly_five_pixels():
    block = randomise(DenseBlock(3, 4, growth=4)).double()
    x = torch.randn(1, 3, 15, 15, dtype=torch.float64)
    centre = block(x)[..., 7, 7]
    for dy, dx in ((0, 1), (1, 0), (1, 1), (0, -1), (-1, 0), (-1, 1)):
        outside, inside = x.clone(), x.clone()
        outside[..., 7 + 6 * dy, 7 + 6 * dx] += 100
        inside[..., 7 + 5 * dy, 7 + 5 * dx] += 100
        assert torch.equal(block(outside)[..., 7, 7], centre)
        assert not torch.allclose(block(inside)[..., 7, 7], centre)
    assert DenseBlock.support == 5


def test_dense_block_is_the_papers():
    block = randomise(DenseBlock(3, 9))
    x = torch.randn(2, 3, 6, 7)
    features = [x]
    for k, conv in enumerate(block.convolutions):
        y = nn.functional.conv2d(torch.cat(features, 1), conv.weight, conv.bias, padding=1)
        features.append(nn.functional.leaky_relu(y, 0.2) if k < 4 else y)
    torch.testing.assert_close(block(x), features[-1], rtol=1e-4, atol=1e-5)


def test_reduced_precision_stays_close():
    net = randomise(IRN(IRNConfig(scale=4, inv_per_ds=4)), gain=0.25)
    x = torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        exact_lr, exact_z = net.downscale(x)
        net.set_compute_dtype(torch.bfloat16)
        lr, z = net.downscale(x)
        back = net.upscale(lr, z)
    assert lr.dtype == torch.float32
    assert (lr - exact_lr).abs().max() < 0.02 < exact_lr.abs().max()
    assert not torch.equal(lr, exact_lr), "the convolutions did run in bfloat16"
    assert (z - exact_z).square().mean().sqrt() < 0.02 * exact_z.square().mean().sqrt()
    # Both directions round alike: the trunk is exact up to float32.
    assert (back - x).abs().max() < 1e-4


def test_gradients_reach_every_parameter():
    net = small_irn(4)
    lr, z = net.downscale(torch.rand(1, 3, 8, 8, dtype=torch.float64))
    (lr.square().sum() + z.square().sum() + net.upscale(lr).square().sum()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_state_dict_travels():
    net, other = small_irn(2), small_irn(2)
    x = torch.rand(1, 3, 4, 4, dtype=torch.float64)
    assert not torch.allclose(net(x)[0], other(x)[0])
    other.load_state_dict(net.state_dict())
    assert torch.equal(net(x)[0], other(x)[0])


def test_configurations_allow_the_activations_of_the_kernels():
    """They have a list of their own, since they are read without torch."""
    assert tuple(families_irn.ACTIVATIONS) == ACTIVATIONS
