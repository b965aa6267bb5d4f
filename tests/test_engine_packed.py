"""The CPU's own arrangement of the dense blocks computes what the modules do, at every kind of border."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import force_triton

from irnscale.engine import packed
from irnscale.engine.fused import FusedSubnets
from irnscale.engine.packed import PackedSubnets, packs
from irnscale.engine.subnets import Border, ModuleSubnets
from irnscale.networks import DenseBlock, EnhancedAffineCoupling

BORDERS = [(5, 5, 5, 5), (0, 0, 0, 0), (0, 5, 5, 0), (5, 0, 0, 5), (3, 5, 1, 5), (5, 4, 5, 2), (2, 1, 4, 3)]


def coupling(channels: int) -> EnhancedAffineCoupling:
    made = EnhancedAffineCoupling([(channels, 8, 8)], subnet_constructor=lambda i, o: DenseBlock(i, o, 8))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("border", BORDERS, ids=str)
@pytest.mark.parametrize("channels", [12, 48])
@torch.inference_mode()
def test_packed_is_plain(channels, border, fused, monkeypatch):
    if not fused:
        monkeypatch.setattr(packed, "has_fused_convolution", lambda dtype: False)
    module = coupling(channels)
    ways = [(ModuleSubnets(m), PackedSubnets(m, torch.float32)) for m in ([module.p], [module.s, module.t])]
    for height, width in ((9, 12), (1, 1), (2, 1)):
        edge = Border(*border)
        size = height + edge.top + edge.bottom, width + edge.left + edge.right
        u2, u1 = torch.randn(2, channels - 3, *size), torch.randn(2, 3, *size)
        both = [(quick(u, edge), plain(u, edge)) for u, (plain, quick) in zip((u2, u1), ways, strict=True)]
        for got, wanted in (pair for results in both for pair in zip(*results, strict=True)):
            assert got.shape == wanted.shape
            assert (got - wanted).abs().max() < 1e-5 * wanted.abs().max().clamp(min=1)


@torch.inference_mode()
def test_packed_in_bfloat16():
    module = coupling(12)
    subnets = [module.s, module.t]
    plain, quick = ModuleSubnets(subnets), PackedSubnets(subnets, torch.bfloat16)
    edge = Border(5, 5, 5, 5)
    x = torch.randn(1, 3, 26, 26)
    for got, wanted in zip(quick(x, edge), plain(x, edge), strict=True):
        assert (got - wanted).square().mean() < 4e-4 * wanted.square().mean()
        assert torch.equal(got, quick(x, edge)[0]) or torch.equal(got, quick(x, edge)[1]), "the same each time"


def fine() -> DenseBlock:
    """Of three channels: some hundredths around 5, where bfloat16 has steps of 1/32."""
    block = DenseBlock(9, 3, 16)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    torch.nn.init.normal_(block.conv5.weight, std=2e-3)
    torch.nn.init.constant_(block.conv5.bias, 5)
    return block.requires_grad_(False)


@pytest.mark.parametrize("way", [PackedSubnets, FusedSubnets], ids=lambda way: way.__name__)
@torch.inference_mode()
def test_what_changes_the_picture_is_not_rounded_to_bfloat16(way, monkeypatch):
    block, edge = fine(), Border(5, 0, 0, 5)
    x = torch.rand(1, 9, 21, 17)
    wanted = ModuleSubnets([block])(x, edge)[0] - 5
    force_triton(monkeypatch)
    (got,) = way([block], torch.bfloat16)(x, edge)
    assert got.dtype == torch.float32
    assert (got - 5 - wanted).norm() < 0.02 * wanted.norm()
    assert (got.bfloat16().float() - 5 - wanted).norm() > 0.1 * wanted.norm(), "or the test says nothing"


@pytest.mark.parametrize("channels", [3, 9, 12, 45])
@torch.inference_mode()
def test_no_width_changes_a_sample(channels):
    block = DenseBlock(channels, 9)
    for conv in block.convolutions:
        torch.nn.init.normal_(conv.weight, std=conv.weight[0].numel() ** -0.5)
    # Large sums that cancel, so that their order counts.
    block.conv1.weight -= block.conv1.weight.mean(dim=(1, 2, 3), keepdim=True)
    subnets, edge = PackedSubnets([block], torch.bfloat16), Border(5, 5, 5, 5)
    x = 100 + torch.randn(1, channels, 40, 90)
    (whole,) = subnets(x, edge)
    for width in range(1, 60, 5):
        (got,) = subnets(x[..., 7 : 17 + width], edge)
        assert torch.equal(got, whole[..., 7 : 7 + width]), width


@pytest.mark.parametrize("border", BORDERS, ids=str)
@torch.inference_mode()
def test_what_rounding_took_is_as_good_as_float32(border, monkeypatch):
    subnets = PackedSubnets([fine()], torch.bfloat16)
    x = torch.rand(2, 9, 19, 23)
    (got,) = subnets(x, Border(*border))
    monkeypatch.setattr(packed, "has_adding_convolution", lambda: False)
    (wanted,) = subnets(x, Border(*border))
    assert got.dtype == wanted.dtype == torch.float32
    assert (got - wanted).abs().max() < 2**-14 * (wanted - 5).abs().max()


@pytest.mark.parametrize("way", [PackedSubnets, FusedSubnets], ids=lambda way: way.__name__)
def test_nor_is_a_constant(way):
    block = fine()
    torch.nn.init.zeros_(block.conv5.weight)
    torch.nn.init.constant_(block.conv5.bias, 0.3)
    (got,) = way([block], torch.bfloat16)(torch.rand(1, 9, 4, 4), Border(0, 0, 0, 0))
    assert torch.equal(got, torch.full((1, 3, 4, 4), 0.3))


def test_what_is_not_packed():
    module = coupling(12)
    assert packs([module.s, module.t], torch.float32)
    assert not packs([module.s, module.t], torch.float64)
    assert not packs([torch.nn.Conv2d(3, 9, 1), module.t], torch.float32)
