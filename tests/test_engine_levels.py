"""8-bit pixels go straight into the first Haar transform and come straight out of the last, and nothing differs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import irnscale
from irnscale.engine import executor
from irnscale.engine.canvas import Sink, Source
from irnscale.errors import InputError
from irnscale.kernels import haar_forward, haar_inverse, quantize
from irnscale.networks import haar


@pytest.fixture(scope="module", params=[2, 4])
def rescaler(request) -> irnscale.Rescaler:
    return irnscale.load(request.param, device="cpu", precision="float32")


@pytest.fixture
def seen(monkeypatch) -> Iterator[list[torch.dtype]]:
    """The dtypes that Haar transforms read, going forward, and write, going back."""
    found: list[torch.dtype] = []

    def forward(x: Tensor) -> Tensor:
        found.append(x.dtype)
        return haar_forward(x)

    def inverse(y: Tensor, *, to_uint8: bool = False) -> Tensor:
        x = haar_inverse(y, to_uint8=to_uint8)
        found.append(x.dtype)
        return x

    monkeypatch.setattr(haar, "haar_forward", forward)
    monkeypatch.setattr(haar, "haar_inverse", inverse)
    return found


@torch.no_grad()
def plain(rescaler: irnscale.Rescaler, pixels: np.ndarray, rev: bool, top: int = 255) -> np.ndarray:
    """The network on x / top, and its result rounded: no kernel that reads or writes grey levels."""
    (net,) = rescaler.networks
    x = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None] / top
    if rev:
        n, _, h, w = x.shape
        x = torch.cat((x, x.new_zeros(n, 3 * net.scale**2 - 3, h, w)), dim=1)
    y, _ = net(x, rev=rev, jac=False)
    depth = 8 if top == 255 else 16
    return quantize(y[:, :3], depth=depth, to_integer=True)[0].permute(1, 2, 0).numpy()


def noise(height: int, width: int, kind: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max + 1, (height, width, 3), kind)


@pytest.mark.parametrize("shape", [(48, 32), (16, 160)], ids=["rows", "columns"])
def test_eight_bit_pixels_never_become_a_float_picture(rescaler, seen, shape):
    pixels = noise(*shape)
    small = rescaler.down(pixels)
    assert seen[0] == torch.uint8
    assert set(seen[1:]) <= {torch.float32}
    seen.clear()
    large = rescaler.up(small)
    assert seen[-1] == torch.uint8
    assert set(seen[:-1]) <= {torch.float32}
    # the order of the sums differs, which is seen where a value lies between two levels
    for ours, wanted in ((small, plain(rescaler, pixels, False)), (large, plain(rescaler, small, True))):
        differs = np.abs(ours.astype(int) - wanted)
        assert differs.max() <= 1
        assert np.mean(differs > 0) < 0.002


def test_rows_at_the_border_are_reflected_before_they_are_read(rescaler, seen):
    pixels = noise(33, 27)
    height, width = (-(-side // rescaler.scale) * rescaler.scale for side in (33, 27))
    padded = np.pad(pixels, ((0, height - 33), (0, width - 27), (0, 0)), mode="reflect")
    assert np.array_equal(rescaler.down(pixels), rescaler.down(padded))
    assert seen[0] == torch.uint8


def test_deeper_pixels_and_tensors_stay_numbers(rescaler, seen):
    deep = noise(32, 32, np.uint16)
    small = rescaler.down(deep, depth=16)
    assert torch.uint8 not in seen
    differs = np.abs(small.astype(int) - plain(rescaler, deep, False, 65535))
    assert differs.max() <= 1
    seen.clear()
    tensor = torch.from_numpy(noise(32, 32)).permute(2, 0, 1) / 255
    rescaler.up(rescaler.down(tensor))
    rescaler.up(noise(8, 8), depth=16)
    assert torch.uint8 not in seen


def test_a_result_that_is_not_a_number_is_not_written_as_black(rescaler, monkeypatch):
    spoiled = [False]

    def steps(self: executor.Sweep, level: executor.LevelState) -> None:
        level.done = [level.window.filled] * len(level.done)
        if level is self._levels[-1]:
            level.window.view("rest", level.window.top, level.window.filled, 0, level.window.width).fill_(float("nan"))
            spoiled[0] = True

    monkeypatch.setattr(executor.Sweep, "_run_steps", steps)
    with pytest.raises(InputError, match="not finite, nothing is written"):
        rescaler.up(noise(16, 16))
    assert spoiled[0]


def test_source_and_sink_keep_levels():
    pixels = noise(6, 5)
    source = Source(pixels, 2)
    levels = source.read(2, 6, columns=False, device=torch.device("cpu"), levels=True)
    values = source.read(2, 6, columns=False, device=torch.device("cpu"))
    assert levels.dtype == torch.uint8
    assert levels.shape == values.shape == (1, 3, 4, 6)
    assert torch.equal(levels / 255, values)
    sink = Sink(pixels, 1, 6, 5, 8)
    assert sink.takes_levels
    sink.write(2, levels, columns=False)
    assert np.array_equal(sink.finish()[2:6], pixels[2:6])
    assert not Sink(pixels, 1, 6, 5, 16).takes_levels
    assert not Sink(torch.zeros(3, 6, 5), 1, 6, 5, 8).takes_levels
