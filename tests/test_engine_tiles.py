"""Tiles, bands and mapped files change nothing but memory and speed."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from irnscale.engine import executor
from irnscale.engine.executor import Region, Sweep
from irnscale.engine.memory import mapped_file
from irnscale.engine.prepared import Prepared
from irnscale.networks import IRN, AssistantConfig, AssistantFlow, DenseBlock, IRNConfig

SIZES = [(2, 2), (14, 18), (84, 92), (2, 420), (150, 42), (6, 2100)]
"""Height and width of the image: tiny, odd, square, long, and too long for a tile of 512; rounded up to the scale."""
ORDERS = [
    (32, None, False),
    (64, None, True),
    (100, 40, False),
    (512, None, False),
    (32, 3, False),
    (32, 5, True),
    (9, 1, False),
]
"""Tile, rows of the small image per band (None: the plain order), whether columns are swept."""


def random_net(scale: int, **more: object) -> IRN:
    """Narrow, so that many sizes are affordable; weights large enough for every pixel in reach to matter."""
    net = IRN(IRNConfig(scale=scale, inv_per_ds=2 if scale in (2, 4) else 1, growth=4 if scale < 8 else 2, **more))
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return net


@pytest.fixture(scope="module")
def nets() -> dict[int, IRN]:
    torch.manual_seed(1)
    return {scale: random_net(scale).double() for scale in (2, 4, 8)}


@torch.no_grad()
def both_ways(net: IRN, x: torch.Tensor, **order: object) -> tuple[float, float]:
    """How far the tiled results are from the untiled ones, relative to the largest, forward and inverse."""
    whole, _ = net(x)
    z = torch.randn_like(whole)
    back, _ = net(z, rev=True)
    forward = (executor.run(net, x, rev=False, **order) - whole).abs().max() / whole.abs().max()
    inverse = (executor.run(net, z, rev=True, **order) - back).abs().max() / back.abs().max()
    return forward.item(), inverse.item()


LONG = [(size, order) for size in SIZES[4:] for order in ORDERS[4:]]
"""Hundreds of tiles each, of sizes and orders that others have, too."""


@pytest.mark.parametrize(
    ("size", "order"),
    [
        pytest.param(size, order, id=f"{size}-{order}", marks=pytest.mark.slow if (size, order) in LONG else [])
        for size in SIZES
        for order in ORDERS
    ],
)
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_tiled_is_untiled(nets, scale, size, order):
    height, width = (-(-side // scale) * scale for side in size)
    x = torch.rand(1, 3, height, width, dtype=torch.float64)
    tile, band, columns = order
    assert max(both_ways(nets[scale], x, tile=tile, band=band, columns=columns)) < 1e-10


@pytest.mark.parametrize(
    ("size", "order"),
    [
        *((size, order) for size in [(136, 104), (2104, 8)] for order in ORDERS[:4]),
        ((136, 104), ORDERS[4]),
        pytest.param((2104, 8), ORDERS[4], marks=pytest.mark.slow),  # hundreds of bands
    ],
    ids=str,
)
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_tiled_is_untiled_in_float32(scale, size, order):
    tile, band, columns = order
    x = torch.rand(1, 3, *size)
    assert max(both_ways(random_net(scale), x, tile=tile, band=band, columns=columns)) < 1e-5


@pytest.mark.parametrize("band", [None, 4])
@pytest.mark.parametrize("scale", [2, 4, 8])
def test_a_smaller_halo_is_not_enough(nets, scale, band, monkeypatch):
    """What the tests above would not see otherwise: a halo of 4 differs, so they can fail."""
    monkeypatch.setattr(DenseBlock, "support", DenseBlock.support - 1)
    x = torch.rand(1, 3, 48 * scale, 8 * scale, dtype=torch.float64)
    forward, inverse = both_ways(nets[scale], x, tile=16, band=band)
    assert forward > 1e-9
    assert inverse > 1e-9


@pytest.mark.parametrize("band", [None, 3])
@torch.no_grad()
def test_networks_of_other_kinds(band):
    """Scale 3, activation normalisation, codec blocks, and the assistant flow of super-resolution."""
    x = torch.rand(1, 3, 60, 36, dtype=torch.float64)
    for net in (random_net(3).double(), random_net(2, actnorm=True).double()):
        assert max(both_ways(net, x, tile=8, band=band)) < 1e-10
    net = random_net(2, codec_blocks=1).double()
    lr, z = net.downscale(x)
    small = executor.run(net, x, rev=False, tile=8, band=band)
    assert (small - torch.cat((lr, z), 1)).abs().max() < 1e-10
    assert (executor.run(net, small, rev=True, tile=8, band=band) - net.upscale(lr, z)).abs().max() < 1e-10
    flow = AssistantFlow(AssistantConfig(assistant_steps=2, growth=4)).double()
    for parameter in flow.parameters():
        torch.nn.init.normal_(parameter, std=0.03)
    assert (executor.run(flow, x, rev=False, tile=16, band=band) - flow.assist(x)).abs().max() < 1e-10


def test_a_mapped_window_changes_nothing(nets):
    net = nets[4]
    x = torch.rand(1, 3, 64, 48, dtype=torch.float64)
    rows = []
    sweep = Sweep(
        Prepared(net), (1, 64, 48), rev=False, tile=9, band=2, allocate=lambda shape: mapped_file(shape, torch.float64)
    )
    sweep.run(lambda a, b: x[:, :, a:b], lambda _, head, rest: rows.append(torch.cat((head, rest), 1).clone()))
    whole = executor.run(net, x, rev=False, tile=9)
    assert (torch.cat(rows, 2) - whole).abs().max() < 1e-12


@pytest.mark.parametrize("tile", [1, 7, 16, 100])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 33, 100])
def test_tiles_cover_everything_once(length, tile):
    counts = torch.zeros(length, 21)
    shapes = set()
    for computed, target in Region(0, length, 0, 21).tiles(tile):
        counts[target.top : target.bottom, target.left : target.right] += 1
        assert computed.top <= target.top
        assert computed.left <= target.left
        shapes.add((computed.bottom - computed.top, computed.right - computed.left))
    assert (counts == 1).all()
    assert len(shapes) == 1, "one shape"
    assert max(shapes.pop()) <= tile


@pytest.mark.parametrize("band", [None, 2])
def test_the_executor_leaves_its_input_alone_and_reports(nets, band):
    for rev, channels, size in ((False, 3, (40, 24)), (True, 48, (10, 6))):
        seen = []
        x = torch.rand(1, channels, *size, dtype=torch.float64)
        before = x.clone()
        executor.run(nets[4], x, rev=rev, tile=8, band=band, progress=lambda *both, seen=seen: seen.append(both))
        assert torch.equal(x, before)
        assert seen[-1] == (nets[4].program(rev).work(40, 24),) * 2
        assert len(seen) == 4 * (3 * 2 + 2) or (band and len(seen) > 4 * (3 * 2 + 2)), "once per tile"
        assert all(a < b for (a, _), (b, _) in pairwise(seen))
    for wrong in ({"tile": 0}, {"tile": 8, "band": 0}):
        with pytest.raises(ValueError, match="tile"):
            executor.run(nets[2], torch.zeros(1, 3, 4, 4), rev=False, **wrong)
    with pytest.raises(ValueError, match="multiples of 4"):
        executor.run(nets[4], torch.zeros(1, 3, 6, 8), rev=False, tile=8)


def test_a_band_keeps_only_its_window(nets):
    """However long the image is, the windows hold the same few rows."""
    sizes = []
    for height in (400, 4000):
        held = []

        def allocate(shape, held=held):
            held.append(math.prod(shape))
            return torch.empty(tuple(shape), dtype=torch.float64)

        Sweep(Prepared(nets[4]), (1, height, 40), rev=True, tile=8, band=4, allocate=allocate)
        sizes.append(sum(held))
    assert sizes[0] == sizes[1]
