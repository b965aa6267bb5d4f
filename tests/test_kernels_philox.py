"""Counter-based noise: published test vectors, Triton against torch, independence of tiling, statistics."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import CASES, DEVICES, SHAPES, force_triton

from irnscale.kernels import philox_normal, philox_reference

FORMATS = (torch.contiguous_format, torch.channels_last)
ones = 0xFFFFFFFF
# Random123's kat_vectors, philox4x32 with 10 rounds: counter, key, result.
VECTORS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ones, ones, ones, ones), (ones, ones), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.fixture(autouse=True)
def _forced(monkeypatch):
    force_triton(monkeypatch)


@pytest.mark.parametrize(("counter", "key", "wanted"), VECTORS)
def test_published_vectors(counter, key, wanted):
    words = philox_reference.philox4x32([torch.tensor([c]) for c in counter], key)
    assert tuple(w.item() for w in words) == wanted


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("counter", "key", "wanted"), VECTORS)
def test_published_vectors_on_triton(device, counter, key, wanted):
    """The integers of the kernel itself, through the helper kernel below."""
    from kernel_philox_words import words_of

    assert words_of(counter, key, device) == wanted


@pytest.mark.parametrize("device", DEVICES)
@CASES
@given(
    shape=SHAPES,
    memory_format=st.sampled_from(FORMATS),
    seed=st.integers(0, 2**64 - 1),
    origin=st.tuples(*[st.sampled_from((0, 1, 2, 3, 2**31 - 1, 2**32 - 40))] * 4),
)
def test_triton_equals_torch(device, shape, memory_format, seed, origin):
    settings = {"seed": seed, "origin": origin, "device": device, "memory_format": memory_format}
    got = philox_normal(shape, **settings)
    wanted = philox_reference.philox_normal(shape, **settings)
    assert got.is_contiguous(memory_format=memory_format)
    assert (got - wanted).abs().max() <= 1e-6


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_the_same_noise(device, dtype):
    got = philox_normal((1, 2, 3, 5), seed=3, dtype=dtype, device=device)
    wanted = philox_reference.philox_normal((1, 2, 3, 5), seed=3, dtype=torch.float64, device=device)
    assert got.dtype == dtype
    tolerance = {torch.bfloat16: 2**-7, torch.float16: 2**-11, torch.float64: 1e-13}[dtype]
    torch.testing.assert_close(got.double(), wanted, rtol=tolerance, atol=1e-13 if dtype == torch.float64 else 1e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("left", [0, 1, 2, 3, 5])
def test_a_tile_is_a_part_of_the_whole(device, left):
    whole = philox_normal((2, 3, 9, 20), seed=11, device=device)
    part = philox_normal((1, 2, 4, 7), seed=11, origin=(1, 1, 3, left), device=device)
    assert torch.equal(part, whole[1:, 1:, 3:7, left : left + 7])


def test_statistics_of_the_definition():
    z = philox_reference.philox_normal((2, 3, 64, 128), seed=1, dtype=torch.float64)
    n = z.numel()
    assert z.mean().abs() < 4 / n**0.5
    assert (z.var() - 1).abs() < 4 * (2 / n) ** 0.5
    assert ((z**4).mean() - 3).abs() < 4 * (96 / n) ** 0.5
    other_seed = philox_reference.philox_normal(z.shape, seed=2, dtype=torch.float64)
    pairs = [z[..., 1:] * z[..., :-1], z[..., 1:, :] * z[..., :-1, :], z[:, 1:] * z[:, :-1], z[1:] * z[:-1]]
    for products in (*pairs, z * other_seed):
        assert products.mean().abs() < 4.5 / products.numel() ** 0.5
