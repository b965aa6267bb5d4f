"""Tiles side by side on a CPU: equal results, one thread each, limits of memory, failures, Ctrl-C."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

import irnscale
from irnscale.engine import executor
from irnscale.engine import rescaler as rescaler_module
from irnscale.engine.plan import make_plan
from irnscale.engine.workers import Workers, take_one_thread, threads_of
from irnscale.errors import InputError
from irnscale.networks import IRN, IRNConfig

CPU = torch.device("cpu")
SIDE_BY_SIDE = "irnscale-tile"


def loaded(precision: str = "float32", **more) -> irnscale.Rescaler:
    rescaler = irnscale.Rescaler(irnscale.load(2).models, device="cpu", precision=precision, **more)
    rescaler.said = []
    rescaler._warn = rescaler.said.append
    return rescaler


@pytest.fixture
def picture(photo) -> np.ndarray:
    """32 x 48: going up, six tiles of 16 in each of the 16 steps."""
    return photo[:32, :48]


@pytest.fixture
def two(monkeypatch):
    """Two tiles at once, on whatever machine this is."""
    monkeypatch.setattr(rescaler_module, "threads_of", lambda device: 2)


def watched(rescaler, monkeypatch, act=lambda results: results):
    """Where each tile of its network was computed; `act` on what the subnets made of it."""
    names: list[str] = []
    subnets = rescaler._prepared[rescaler.networks[0]].subnets
    for modules, honest in subnets.items():

        def watching(source, border, honest=honest):
            names.append(threading.current_thread().name)
            return act(honest(source, border))

        monkeypatch.setitem(subnets, modules, watching)
    return names


@pytest.mark.parametrize("at_once", [2, 5])
@pytest.mark.parametrize("order", [(8, None, False), (8, 3, True), (64, None, False)], ids=str)
def test_the_same_numbers(order, at_once):
    """In whatever order tiles are done, in bands too, where a few are left over, and where there is but one."""
    net = IRN(IRNConfig(scale=4, inv_per_ds=2, growth=4)).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    tile, band, columns = order
    for rev, shape in ((False, (2, 3, 44, 52)), (True, (1, 48, 11, 13))):
        x, ways = torch.rand(shape, dtype=torch.float64), {"rev": rev, "tile": tile, "band": band, "columns": columns}
        alone = executor.run(net, x, **ways)
        assert torch.equal(executor.run(net, x, **ways, at_once=at_once), alone)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_same_pictures(precision, picture, monkeypatch):
    rescaler = loaded(precision, tile=8)
    lr = rescaler.down(picture)
    hr = rescaler.up(lr)
    names = watched(rescaler, monkeypatch)
    monkeypatch.setattr(rescaler_module, "threads_of", lambda device: 4)
    assert np.array_equal(rescaler.down(picture), lr)
    assert np.array_equal(rescaler.up(lr), hr)
    beside = [name.startswith(SIDE_BY_SIDE) for name in names]
    steps = 2 * 8 * 2
    assert (sum(beside), len(beside)) == (steps * 4, steps * 6), "two of six are left over in each step"
    assert len(set(names)) > 2


def test_a_thread_has_its_own_number_of_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert threads_of(CPU) == 3
        assert threads_of(torch.device("meta")) == 1, "no CPU"
        with Workers(2) as workers:
            assert [done for _, done in workers.each([torch.get_num_threads] * 4)] == [1] * 4
            assert all(done for _, done in workers.each([torch.is_inference_mode_enabled] * 4))
        assert torch.get_num_threads() == 3
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 3, "later threads begin as they did"
            assert pool.submit(take_one_thread).result()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def plan(width, height, **more):
    return make_plan(IRN(IRNConfig(scale=2)).program(rev=True), width, height, device=CPU, dtype=torch.bfloat16, **more)


def test_plans_count_all_tiles_at_once():
    alone, beside = plan(768, 512), plan(768, 512, threads=4)
    assert (alone.at_once, beside.at_once) == (1, 4)
    assert beside.tile_bytes == 4 * alone.tile_bytes
    assert beside.total_bytes - alone.total_bytes == 3 * alone.tile_bytes
    assert ", 4 at once, " in beside.describe()
    assert " at once" not in alone.describe()
    assert plan(768, 512, threads=7).at_once == 1, "there are six tiles"
    large = plan(10_000, 12_000, threads=8)
    assert (large.order, large.at_once) == ("rows", 8)


@pytest.mark.parametrize("size", [(768, 512), (6_000, 4_000), (100_000, 1_000)])
def test_a_limit_of_memory_is_for_all_tiles(size):
    free, alone = plan(*size, threads=3), plan(*size)
    between = (free.total_bytes + alone.total_bytes) // 2
    assert plan(*size, threads=3, max_memory=free.total_bytes) == replace(free, limit=free.total_bytes)
    assert free.at_once == 3
    limited = plan(*size, threads=3, max_memory=between)
    assert (limited.at_once, limited.tile) == (1, free.tile)
    assert limited.total_bytes <= between


def test_where_memory_runs_out_one_tile_after_the_other(two, picture, monkeypatch):
    rescaler = loaded(tile=16)
    expected = rescaler.up(picture)
    failed = []

    def act(results):
        if threading.current_thread().name.startswith(SIDE_BY_SIDE) and len(failed) < 2:
            failed.append(1)
            raise MemoryError
        return results

    names = watched(rescaler, monkeypatch, act)
    assert np.array_equal(rescaler.up(picture), expected)
    assert rescaler.said == ["out of memory with 2 tiles at once: going on with one after the other"]
    beside = sum(name.startswith(SIDE_BY_SIDE) for name in names)
    assert 0 < beside <= 6, "of the first step"
    assert len(set(names[beside:])) == 1


def test_what_is_not_finite_is_computed_again(two, picture, monkeypatch):
    rescaler = loaded("bfloat16", tile=16)
    expected = rescaler.up(picture)
    times = iter(range(10**6))
    watched(rescaler, monkeypatch, lambda y: [v.fill_(float("nan")) for v in y] if next(times) == 3 else y)
    result = rescaler.up(picture)
    assert rescaler.said == ["a tile came out not finite and is computed again in float32"]
    assert (np.abs(result.astype(int) - expected) <= 1).mean() > 0.99
    exact = loaded("float32", tile=16)
    watched(exact, monkeypatch, lambda y: [v.fill_(float("nan")) for v in y])
    with pytest.raises(InputError, match="not finite, nothing is written"):
        exact.up(picture)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_failure_or_ctrl_c_ends_all(two, picture, monkeypatch, error):
    """Where the caller's thread is interrupted, what has begun ends, nothing else begins, and no thread is left."""
    rescaler = loaded(tile=16)
    names = watched(rescaler, monkeypatch)
    seen = []

    def progress(done, total):
        seen.append(threading.current_thread())
        if len(seen) == 5:
            raise error

    with pytest.raises(error):
        rescaler.up(picture, progress=progress)
    assert set(seen) == {threading.current_thread()}, "callbacks are the caller's"
    assert len(names) < 5 + 6, "of 96"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(SIDE_BY_SIDE)]


def test_an_error_inside_a_tile_is_the_callers(two, picture, monkeypatch):
    rescaler = loaded(tile=16)

    def act(results):
        raise RuntimeError("a bug")

    names = watched(rescaler, monkeypatch, act)
    with pytest.raises(RuntimeError, match="a bug"):
        rescaler.up(picture)
    assert len(names) <= 6
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(SIDE_BY_SIDE)]
