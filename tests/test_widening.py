"""Convolutions of few channels are what they are without channels of zeros, and the same for tiles of any width."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from irnscale.networks.widening import MULTIPLE, convolve_few, missing_channels, widen

torch.manual_seed(0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels", [1, 3, 8, 12])
def test_zeros_change_nothing(channels, dtype):
    x = torch.rand(2, channels, 7, 9, requires_grad=True)
    weight, bias = torch.randn(5, channels, 3, 3, requires_grad=True), torch.randn(5)
    got = convolve_few(x, weight, bias, dtype)
    wanted = F.conv2d(x.to(dtype).float(), weight.to(dtype).float(), bias.to(dtype).float(), padding=1)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), wanted, atol=1e-5, rtol=2**-8 if dtype == torch.bfloat16 else 1e-5)
    got.float().sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert weight.grad is not None
    assert weight.grad.shape == weight.shape


def test_how_many_are_missing():
    assert [missing_channels(channels, torch.bfloat16) for channels in (3, 8, 12, 45)] == [5, 0, 4, 3]
    assert missing_channels(3, torch.float32) == 0
    x = torch.rand(1, 3, 2, 2)
    assert widen(x, 0) is x
    assert torch.equal(widen(x, MULTIPLE - 3)[:, 3:], torch.zeros(1, MULTIPLE - 3, 2, 2))


@torch.inference_mode()
def test_no_width_changes_a_sample():
    # Large sums that cancel, so that their order counts.
    x = (100 + torch.randn(1, 3, 40, 90)).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(48, 3, 3, 3)
    weight -= weight.mean(dim=(1, 2, 3), keepdim=True)
    whole = convolve_few(x, weight, torch.zeros(48), torch.bfloat16)
    for width in range(3, 60, 5):
        got = convolve_few(x[..., 7 : 7 + width], weight, torch.zeros(48), torch.bfloat16)
        assert torch.equal(got[..., 1:-1], whole[..., 8 : 6 + width]), width
