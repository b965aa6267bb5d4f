"""Composed scales, JPEG-resistant models and the assistant: tiles and limits of memory change nothing there either."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import irnscale
from irnscale.engine import rescaler as rescaler_module
from irnscale.engine.canvas import Sink
from irnscale.engine.executor import Sweep
from irnscale.engine.prepared import Prepared
from irnscale.errors import DeviceError
from irnscale.kernels import philox_normal
from irnscale.networks import IRN, AssistantConfig, AssistantFlow, DenseBlock, IRNConfig
from irnscale.zoo import Model
from irnscale.zoo.save import save_model

KINDS = {
    "x8": [{"scale": 4}, {"scale": 2}],
    "x16": [{"scale": 4}, {"scale": 4}],
    "jpeg": [{"scale": 2, "codec_blocks": 1}],
    "jpeg x8": [{"scale": 4, "codec_blocks": 1}, {"scale": 2, "codec_blocks": 2}],
    "sr": [{"scale": 4}],
}
"""Configurations of the networks, in the order of downscaling."""
SIZES = {"rows": (320, 64), "columns": (48, 336)}
"""Height and width: long enough for each network's windows to be less than the whole."""


def randomised(net: torch.nn.Module) -> dict[str, Tensor]:
    """Weights large enough for every pixel in reach to matter."""
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return net.state_dict()


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, tuple[list[Model], Model | None]]:
    """For each kind its narrow untrained models, and the assistant."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models")
    found: dict[str, tuple[list[Model], Model | None]] = {}
    for kind, configs in KINDS.items():
        made = []
        for index, values in enumerate(configs):
            config = IRNConfig(inv_per_ds=1, growth=4, **values)
            name = f"{kind.replace(' ', '-')}-{index}"
            made.append(save_model(folder, name, config, randomised(IRN(config)), jpeg_resistant="jpeg" in kind))
        assistant = None
        if kind == "sr":
            flow = AssistantConfig(assistant_steps=2, growth=4)
            assistant = save_model(folder, "assistant", flow, randomised(AssistantFlow(flow)), base=made[0])
        found[kind] = made, assistant
    return found


class Exact(Sink):
    """Keeps what comes before rounding."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._exact = torch.zeros(self._result.shape, dtype=torch.float64)

    def write(self, first: int, rows: Tensor, *, columns: bool) -> None:
        """Unrounded."""
        axis = 3 if columns else 2
        self._exact.narrow(axis, first, rows.shape[axis]).copy_(rows)

    def finish(self) -> Tensor:
        """(N, 3, H, W), float64."""
        return self._exact


class Ran(NamedTuple):
    """A sweep: of columns, in bands, with its window in a file."""

    columns: bool
    bands: bool
    mapped: bool


@pytest.fixture
def ran(monkeypatch) -> list[Ran]:
    """Results are not rounded, and it is seen how they were made."""
    seen: list[Ran] = []

    class Seen(Sweep):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            seen.append(Ran(more["columns"], more["band"] < self._length, more["allocate"] is not None))

    monkeypatch.setattr("irnscale.engine.plan.TEMPORARIES", 0)  # it is more than these small images
    monkeypatch.setattr(rescaler_module, "Sink", Exact)
    monkeypatch.setattr(rescaler_module, "Sweep", Seen)
    return seen


def rescaler_of(models: tuple[list[Model], Model | None], dtype: torch.dtype, tile: int | None) -> irnscale.Rescaler:
    made = irnscale.Rescaler(models[0], assistant=models[1], device="cpu", precision="float32", tile=tile)
    if dtype == torch.float64:
        made._prepared = {net: Prepared(net.double()) for net in made._prepared}
    return made


@torch.no_grad()
def whole_down(rescaler: irnscale.Rescaler, x: Tensor) -> Tensor:
    """The modules one after the other on the whole image."""
    for net in rescaler.networks:
        x, _ = net.downscale(x)
    return x


@torch.no_grad()
def whole_up(rescaler: irnscale.Rescaler, x: Tensor, temperature: float, seed: int) -> Tensor:
    """The same for the inverse, with noise for the whole of each network."""
    if rescaler.flow is not None:
        x = rescaler.flow.assist(x)
    for index, net in reversed(list(enumerate(rescaler.networks))):
        shape = (1, 3 * (net.scale**2 - 1), *x.shape[2:])
        z = philox_normal(shape, seed=seed, origin=(0, index << 16, 0, 0)) * temperature
        x = net.upscale(x, z.to(x.dtype))
    return x


def limited(rescaler: irnscale.Rescaler, kind: str, width: int, height: int, order: str, trunk: str) -> None:
    """Allow so little memory that one network at least is run in bands of this order, its window in this place."""
    rescaler.max_memory = None
    largest = usual = max(plan.total_bytes for plan in rescaler.plans(kind, width, height, bytes_per_pixel=24.0))
    least = 0
    while largest - least > 1:
        rescaler.max_memory = (least + largest) // 2
        try:
            rescaler.plans(kind, width, height, bytes_per_pixel=24.0)
        except DeviceError:
            least = rescaler.max_memory
        else:
            largest = rescaler.max_memory
    for step in range(100):
        rescaler.max_memory = largest + (usual - largest) * step // 100
        plans = rescaler.plans(kind, width, height, bytes_per_pixel=24.0)
        whole = max(width, height) // rescaler.scale
        if any((p.order, p.trunk) == (order, trunk) and (p.band < whole or trunk == "mapped file") for p in plans):
            return


def off(got: Tensor, wanted: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    assert got.shape == wanted.shape
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize(
    ("dtype", "order", "tile", "trunk"),
    [
        (torch.float64, "plain", 9, None),
        (torch.float64, "rows", 32, "host memory"),
        (torch.float64, "columns", None, "mapped file"),
        (torch.float32, "rows", None, "mapped file"),
        (torch.float32, "columns", 20, "host memory"),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in ("x16", "jpeg x8") else []) for kind in KINDS]
)
def test_tiles_and_limits_change_nothing(models, ran, kind, dtype, order, tile, trunk):
    height, width = SIZES.get(order, SIZES["rows"])
    limit = 1e-10 if dtype == torch.float64 else 1e-5
    rescaler = rescaler_of(models[kind], dtype, tile)
    x = torch.rand(1, 3, height, width, dtype=torch.float64)

    def run(verb: str, image: Tensor, **more: Any) -> Tensor:
        if trunk is not None:
            limited(rescaler, verb, width, height, order, trunk)
        ran.clear()
        result = getattr(rescaler, verb)(image, **more)
        assert len(ran) == len(KINDS[kind]) + (kind == "sr" and verb == "up")
        if trunk is not None:
            assert any(
                columns == (order == "columns") and (mapped if trunk == "mapped file" else bands)
                for columns, bands, mapped in ran
            ), "one of the networks at least"
        return result

    lr = whole_down(rescaler, x.to(dtype))
    assert off(run("down", x), lr) < limit
    for temperature, seed in ((0.0, 0), (0.7, 5)):
        wanted = whole_up(rescaler, lr, temperature, seed)
        assert off(run("up", lr.double(), temperature=temperature, seed=seed), wanted) < limit


@pytest.mark.parametrize("kind", KINDS)
def test_a_smaller_halo_shows(models, ran, kind, monkeypatch):
    """So that the test above can fail."""
    monkeypatch.setattr(DenseBlock, "support", DenseBlock.support - 1)
    rescaler = rescaler_of(models[kind], torch.float64, 16)
    x = torch.rand(1, 3, 160, 96, dtype=torch.float64)
    lr = whole_down(rescaler, x)
    assert off(rescaler.down(x), lr) > 1e-9
    assert off(rescaler.up(lr), whole_up(rescaler, lr, 0.0, 0)) > 1e-9


@pytest.mark.parametrize("kind", ["x8", "x16"])
def test_plans_count_everything_that_is_held(models, kind):
    """The large picture stays while the second network runs, and what lies between the two is not rounded."""
    rescaler = rescaler_of(models[kind], torch.float32, None)
    megapixel = 1024 * 1024
    for verb in ("down", "up"):
        plans = rescaler.plans(verb, 1024, 1024)
        between = 3 * 4 * megapixel / 16
        pictures = 3 * megapixel * (1 + 1 / rescaler.scale**2)
        assert [plan.picture_bytes for plan in plans] == [pictures + between] * 2
        deep = rescaler.plans(verb, 1024, 1024, bytes_per_pixel=3.0, result_bytes_per_pixel=6.0)
        more = 3 * megapixel / (rescaler.scale**2 if verb == "down" else 1)
        assert [plan.picture_bytes for plan in deep] == [pictures + between + more] * 2
