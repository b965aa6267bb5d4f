"""The engine: tiles change nothing, every kind of image comes back as it is, and failures are named."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from commandline import astronaut, decibel, shipped_name
from conftest import HAS_CUDA
from PIL import Image

import irnscale
from irnscale.engine import precision
from irnscale.engine.device import choose_device
from irnscale.engine.precision import choose_precision
from irnscale.errors import DeviceError, InputError, ModelError, UsageError
from irnscale.zoo import find, load_network

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def x4():
    return irnscale.load("x4", device="cpu", precision="float32")


@pytest.fixture(scope="module")
def x2():
    return irnscale.load(2, device="cpu", precision="float32")


def test_the_shipped_model_beats_bicubic(x2, x4, photo):
    image = astronaut()
    truth = np.asarray(image)
    for model, gain in ((x2, 4), (x4, 3)):
        small = (image.width // model.scale, image.height // model.scale)
        bicubic = image.resize(small, Image.Resampling.BICUBIC).resize(image.size, Image.Resampling.BICUBIC)
        assert decibel(model.up(model.down(truth)), truth) > decibel(np.asarray(bicubic), truth) + gain
    image = Image.fromarray(photo)
    bicubic = image.resize((64, 48), Image.Resampling.BICUBIC).resize((128, 96), Image.Resampling.BICUBIC)
    assert decibel(x2.up(x2.down(photo)), photo) > decibel(np.asarray(bicubic), photo) + 2


@pytest.mark.parametrize("size", [(14, 21), (1, 1), (3, 50), (50, 3), (4, 8)])
def test_every_kind_of_image(x4, size):
    height, width = size
    array = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    small_size = (-(-height // 4), -(-width // 4))
    small = x4.down(array)
    assert (small.dtype, small.shape) == (np.uint8, (*small_size, 3))
    back = x4.up(small, size=(width, height))
    assert (back.dtype, back.shape) == (np.uint8, array.shape)
    assert x4.up(small).shape == (4 * small_size[0], 4 * small_size[1], 3)
    assert np.array_equal(x4.up(small)[:height, :width], back), "cropped at the right and the bottom"

    sixteen = x4.down(array.astype(np.uint16) * 257)
    assert np.array_equal(sixteen.astype(int), small)

    picture = x4.down(Image.fromarray(array))
    assert isinstance(picture, Image.Image)
    assert np.array_equal(np.asarray(picture), small)
    gray = x4.down(Image.fromarray(array).convert("L"))
    assert (gray.mode, gray.size) == ("L", small_size[::-1])
    assert x4.up(gray, size=(width, height)).mode == "L"

    tensor = torch.from_numpy(array).permute(2, 0, 1).double() / 255
    before = tensor.clone()
    small_tensor = x4.down(tensor)
    assert (small_tensor.dtype, small_tensor.shape) == (torch.float64, (3, *small_size))
    x4.up(tensor)
    assert torch.equal(tensor, before), "the input is not changed"
    assert np.array_equal((small_tensor * 255).round().permute(1, 2, 0).byte().numpy(), small)
    batch = x4.down(torch.stack((tensor.flip(2), tensor)).float())
    torch.testing.assert_close(batch[1].double(), small_tensor, atol=1e-6, rtol=0)
    assert x4.up(batch, size=(width, height)).shape == (2, 3, height, width)


@pytest.mark.parametrize("size", [(88, 56), (84, 52), (85, 56), (0, 0), (-1, 5), (21, 14)])
def test_impossible_sizes(x4, size):
    """A picture of 21 x 14 comes from 81..84 x 53..56."""
    with pytest.raises(InputError, match="at most 84 x 56"):
        x4.up(np.zeros((14, 21, 3), np.uint8), size=size)
    for possible in ((81, 53), (84, 56)):
        assert x4.up(np.zeros((14, 21, 3), np.uint8), size=possible).shape == (*possible[::-1], 3)


@pytest.mark.parametrize("scale", [8, 16])
def test_composed_scales_do_not_round_in_between(scale, x2, x4):
    composed = irnscale.load(f"x{scale}", device="cpu", precision="float32")
    assert (composed.scale, composed.name) == (scale, f"{shipped_name(4)}+{shipped_name(scale // 4)}")
    first, second = load_network(find(shipped_name(4))), load_network(find(shipped_name(scale // 4)))
    x = torch.rand(1, 3, 4 * scale, 3 * scale)
    with torch.no_grad():
        by_hand = second.downscale(first.downscale(x)[0])[0]
        lr = composed.down(x)
        assert (lr - by_hand.clamp(0, 1)).abs().max() < 0.5001 / 255, "nothing but the rounding at the end"
        middle = second.upscale(lr, lr.new_zeros(1, 3 * second.scale**2 - 3, 4, 3))
        by_hand = first.upscale(middle, lr.new_zeros(1, 45, *middle.shape[2:])).clamp(0, 1)
        assert (composed.up(lr) - by_hand).abs().max() < 0.5001 / 255
    other = x2 if scale == 8 else x4
    assert not torch.equal(lr, other.down(x4.down(x))), "rounding in between would show"


def test_two_threads_get_the_same_answers(x4):
    images = [torch.rand(3, 20 + 4 * n, 30) for n in range(4)]
    alone = [x4.up(x4.down(image)) for image in images]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda image: x4.up(x4.down(image)), images * 3))
    assert all(torch.equal(a, b) for a, b in zip(alone * 3, together, strict=True))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3)), "uint8 or uint16, got .* float64"),
        (np.zeros((4, 4), np.uint8), r"\(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (Image.new("RGBA", (4, 4)), "mode RGBA.*convert"),
        (Image.new("P", (4, 4)), "mode P"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "uint8"),
        (torch.zeros(1, 4, 4, 4), r"\(1, 4, 4, 4\)"),
        (torch.zeros(4, 4), r"\(4, 4\)"),
        (torch.zeros(0, 3, 4, 4), r"\(0, 3, 4, 4\)"),
        (torch.zeros(3, 0, 4), r"\(3, 0, 4\)"),
        ("photo.png", "str is not an image"),
        (None, "NoneType is not an image"),
    ],
)
def test_what_is_no_image(x2, image, words):
    for function in (x2.down, x2.up):
        with pytest.raises(InputError, match=words):
            function(image)


def test_results_that_are_not_finite_are_refused(x2):
    for function in (x2.down, x2.up):
        with pytest.raises(InputError, match="not finite"):
            function(torch.full((3, 4, 4), float("nan")))


def test_devices(monkeypatch):
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if HAS_CUDA else "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == CPU
    for name in ("cuda", "cuda:3", "mps"):
        with pytest.raises(DeviceError, match="use device=cpu"):
            choose_device(name)
    for name in ("abacus", "meta", "", "cuda:x"):
        with pytest.raises(UsageError, match="use auto"):
            choose_device(name)


def test_precisions(monkeypatch):
    for native in (False, True):
        monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda native=native: native)
        assert choose_precision("auto", CPU) == (torch.bfloat16 if native else torch.float32)
        assert choose_precision("float32", CPU) == torch.float32
        assert choose_precision("bfloat16", CPU) == torch.bfloat16
    assert irnscale.load(2, device="cpu", precision="bfloat16").dtype == torch.bfloat16
    with pytest.raises(DeviceError, match="float32"):
        choose_precision("float16", CPU)
    with pytest.raises(UsageError, match="float8"):
        choose_precision("float8", CPU)


def test_auto_takes_only_measured_precisions(monkeypatch):
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: True)
    model = find("irn-x2")
    for measured, dtype in ((("float32",), torch.float32), (("float32", "bfloat16"), torch.bfloat16)):
        card = replace(model.card, precisions=measured, precision_costs={})
        assert irnscale.Rescaler([replace(model, card=card)], device="cpu").dtype == dtype


def test_auto_takes_no_precision_that_costs_the_model_much(monkeypatch):
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: True)
    model = find("irn-x2")
    dear, cheap = ({"bfloat16": {"Set5": 0.01, "Kodak24": lost}} for lost in (0.031, 0.03))

    def with_costs(costs):
        return replace(model, card=replace(model.card, precisions=("float32", "bfloat16"), precision_costs=costs))

    assert irnscale.Rescaler([with_costs(cheap)], device="cpu").dtype == torch.bfloat16
    assert irnscale.Rescaler([with_costs(dear)], device="cpu").dtype == torch.float32
    assert irnscale.Rescaler([with_costs(cheap), with_costs(dear)], device="cpu").dtype == torch.float32
    asked_for = irnscale.Rescaler([with_costs(dear)], device="cpu", precision="bfloat16")
    assert asked_for.dtype == torch.bfloat16, "what is asked for is done"


def test_loading():
    assert [m.card.name for m in irnscale.load("irn-x2+irn-x4", device="cpu").models] == ["irn-x2", "irn-x4"]
    for file in (find("irn-x2").weights, str(find("irn-x2").weights)):
        assert irnscale.load(file, device="cpu").name == "irn-x2"
    for options in ({"tile": -1}, {"tile": 0}, {"max_memory": 0}, {"jpeg_resistant": True}):
        with pytest.raises(UsageError):
            irnscale.load("irn-x2", device="cpu", **options)
    for wrong in (3, "x3", "nobody", "irn-x2+nobody", "x²"):
        with pytest.raises(ModelError):
            irnscale.load(wrong)
    with pytest.raises(AttributeError):
        _ = irnscale.nonsense
