"""Graphs and uploads. Without a GPU, what decides when a graph is made; with one, that nothing changes by it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import irnscale
from irnscale.engine import cuda
from irnscale.engine.cuda import Graph, GraphedSubnets, GraphPool, Upload
from irnscale.engine.subnets import Border

EDGE = Border(5, 5, 5, 5)


def doubling(source, border):
    """Subnets that are easy to predict."""
    return border.crop(2 * source), border.crop(-source)


def recorded(run, source, pool):
    """A stand-in for a graph: like one, it writes into the same results each time."""
    static = source.clone()
    results = tuple(x.clone() for x in run(static))

    def replay():
        for result, new in zip(results, run(static), strict=True):
            result.copy_(new)

    return Graph(static, results, replay)


def test_a_shape_that_comes_again_is_recorded_once():
    made = []
    graphed = GraphedSubnets(doubling, GraphPool(), lambda *a: made.append(a[1].shape) or recorded(*a))
    for _ in range(cuda.WORTH + 3):
        x = torch.randn(1, 3, 14, 16)
        s, t = graphed(x, EDGE)
        assert torch.equal(s, EDGE.crop(2 * x))
        assert torch.equal(t, EDGE.crop(-x))
    assert len(made) == 1
    for border in (Border(0, 5, 5, 5), Border(5, 0, 5, 5)):
        assert torch.equal(graphed(x, border)[0], border.crop(2 * x))
    assert len(made) == 1, "other borders are other shapes"


def test_the_number_of_graphs_is_bounded():
    made = []
    graphed = GraphedSubnets(doubling, GraphPool(), lambda *a: made.append(1) or recorded(*a))
    for width in range(11, 40):
        for _ in range(cuda.WORTH + 1):
            x = torch.randn(1, 3, 11, width)
            assert torch.equal(graphed(x, EDGE)[0], EDGE.crop(2 * x))
    assert len(made) == cuda.MOST_GRAPHS


def test_another_thread_has_no_part_in_the_graphs():
    """A recorded run has one place for its source and its results, which a second thread would overwrite."""
    pool = GraphPool()
    graphed = [GraphedSubnets(doubling, pool, recorded) for _ in range(2)]
    for _ in range(cuda.WORTH + 1):
        mine = graphed[0](x := torch.randn(1, 3, 14, 16), EDGE)
    with ThreadPoolExecutor(1) as other:
        for subnets in graphed:
            for _ in range(cuda.WORTH + 2):
                y = torch.randn(1, 3, 14, 16)
                assert torch.equal(other.submit(subnets, y, EDGE).result()[0], EDGE.crop(2 * y))
    assert torch.equal(mine[0], EDGE.crop(2 * x)), "results stay until the same thread comes again"


def test_graphs_are_off_by_default(monkeypatch):
    device = torch.device("cuda")
    monkeypatch.delenv("IRNSCALE_CUDA_GRAPHS", raising=False)
    assert not cuda.wants_graphs(device)
    monkeypatch.setenv("IRNSCALE_CUDA_GRAPHS", "1")
    assert cuda.wants_graphs(device)
    assert not cuda.wants_graphs(torch.device("cpu"))


@pytest.mark.gpu
def test_graphs_change_nothing(photo, monkeypatch):
    plain = irnscale.load(2, device="cuda", tile=24)
    small = plain.down(photo)
    monkeypatch.setenv("IRNSCALE_CUDA_GRAPHS", "1")
    graphed = irnscale.load(2, device="cuda", tile=24)
    assert np.array_equal(graphed.down(photo), small)
    assert np.array_equal(graphed.up(small), plain.up(small))


@pytest.mark.gpu
def test_uploads_arrive():
    upload = Upload(torch.device("cuda"))
    sources = [torch.randn(n, 3, 1000) for n in (5, 3, 9, 2, 9)]
    uploaded = [upload(x) for x in sources]
    assert all(torch.equal(a.cpu(), b) for a, b in zip(uploaded, sources, strict=True))
