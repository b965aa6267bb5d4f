"""JPEG as tensor arithmetic, against Pillow's bytes, and training through it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from conftest import synthetic_photo
from PIL import Image
from safetensors.torch import save_file
from training import CPU, TINY, batch, train

from irnscale.errors import ModelError, UsageError
from irnscale.kernels import quantize
from irnscale.train.config import load_recipe
from irnscale.train.constants import constant
from irnscale.train.data import Photographs
from irnscale.train.initial import load_initial
from irnscale.train.jpeg import SUBSAMPLINGS, jpeg, quantisation_tables
from irnscale.train.objective import objective_of
from irnscale.train.trainer import Trainer

C = TINY.but(compression_mode=True)


def picture(height: int, width: int) -> torch.Tensor:
    """(1, 3, H, W) on the 8-bit grid: photograph on the left, noise on the right."""
    pixels = synthetic_photo(height, width, seed=3).copy()
    noise = np.random.default_rng(0).integers(0, 256, pixels.shape, dtype=np.uint8)
    pixels[:, width // 2 :] = noise[:, width // 2 :]
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def through_pillow(x: torch.Tensor, quality: int, subsampling: str) -> torch.Tensor:
    """What Pillow reads back from the JPEG that it writes."""
    file = io.BytesIO()
    pixels = (x[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality, subsampling=subsampling)
    with Image.open(file) as back:
        return torch.from_numpy(np.array(back)).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
@pytest.mark.parametrize("size", [(64, 80), (37, 51), (9, 17), (1, 1), (3, 5), (2, 3)])
def test_equals_pillow(size, subsampling):
    x = picture(*size)
    for quality in (1, 10, 30, 50, 75, 90, 95, 100):
        ours = jpeg(x, torch.tensor([quality]), subsampling)
        theirs = through_pillow(x, quality, subsampling)
        levels = (ours - theirs).abs() * 255
        # It is equal with libjpeg-turbo; other builds of libjpeg may choose other arithmetic.
        assert (levels <= 1.01).double().mean() >= 0.99, (quality, levels.max())


def test_every_image_has_its_own_quality_and_subsampling():
    x = torch.cat([picture(24, 40)] * 3)
    qualities, kinds = torch.tensor([20, 90, 90]), torch.tensor([2, 0, 2])
    together = jpeg(x, qualities, kinds)
    for n in range(3):
        alone = jpeg(x[n : n + 1], qualities[n : n + 1], SUBSAMPLINGS[kinds[n]])
        assert torch.equal(together[n : n + 1], alone)
    assert not torch.equal(together[1], together[2])
    assert torch.equal(together, (together * 255).round() / 255), "on the 8-bit grid"


def test_tables_are_those_that_pillow_writes():
    for quality in (1, 25, 50, 90, 100):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
        with Image.open(file) as image:
            written = [torch.tensor(image.quantization[k]).view(8, 8) for k in (0, 1)]
        assert torch.equal(quantisation_tables(torch.tensor([quality]))[0], torch.stack(written).double())


def test_gradients():
    weights = torch.randn(1, 3, 32, 32)
    gradients = {}
    for kind in ("identity", "dct"):
        for subsampling in ("4:4:4", "4:2:0"):
            x = picture(32, 32).requires_grad_()
            (jpeg(x, torch.tensor([50]), subsampling, gradient=kind) * weights).sum().backward()
            gradients[kind, subsampling] = x.grad
    assert torch.equal(gradients["identity", "4:2:0"], weights)
    # Colour conversion and DCT undo themselves, up to libjpeg's rounded constants.
    torch.testing.assert_close(gradients["dct", "4:4:4"], weights, rtol=0, atol=2e-3)
    # Of the chroma only what survives averaging and interpolation comes back; luma passes whole.
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    seen = gradients["dct", "4:2:0"]
    torch.testing.assert_close(seen.sum(1), weights.sum(1), rtol=0, atol=2e-3)
    chroma = (weights - luma * weights.sum(1, keepdim=True)).norm()
    assert 0.2 < (seen - luma * seen.sum(1, keepdim=True)).norm() / chroma < 0.7


def test_training_after_a_validation_that_came_first():
    """What inference mode leaves behind must not be trained with."""
    constant.cache_clear()
    x, quality = picture(16, 16), torch.tensor([50])
    with torch.inference_mode():
        seen = jpeg(x, quality, gradient="dct")
    y = jpeg(x.requires_grad_(), quality, gradient="dct")
    y.sum().backward()
    assert torch.equal(y, seen)


def test_unknown_names_are_refused():
    x, quality = picture(8, 8), torch.tensor([50])
    with pytest.raises(ValueError, match="subsampling"):
        jpeg(x, quality, "4:1:1")
    with pytest.raises(ValueError, match="gradient"):
        jpeg(x, quality, gradient="none")


def test_draws_follow_the_recipe():
    objective = objective_of(C)
    drawn = [objective.draw(64, step=step)["quality"] for step in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    many = torch.cat([objective.draw(64, step=step)["quality"] for step in range(50)])
    assert (many.min(), many.max()) == (10, 99)
    assert "subsampling" not in objective.draw(4, step=0)
    narrow = C.but(compression_quality="30-32", compression_subsampling="random")
    draws = objective_of(narrow).draw(64, step=0)
    assert set(draws["quality"].tolist()) == {30, 31, 32}
    assert set(draws["subsampling"].tolist()) == {0, 1, 2}
    assert objective_of(TINY).draw(4, step=0) == {}


@pytest.mark.parametrize("gradient", ["identity", "dct"])
def test_the_objective_restores_from_the_jpeg(photos, gradient):
    recipe = C.but(compression_quality="30", compression_subsampling="444", compression_gradient=gradient)
    hr, lr_reference = batch(photos)
    objective = objective_of(recipe)
    draws = objective_of(recipe).draw(2, step=0)
    terms = objective(hr, lr_reference, draws)
    net = objective.net
    lr = quantize(net.downscale(hr)[0])
    expected = objective_of(TINY, net)
    restored = net.upscale(torch.cat([through_pillow(lr[n : n + 1].detach(), 30, "4:4:4") for n in range(2)]))
    by_hand = ((restored - hr) ** 2 + 1e-6).sqrt().sum((1, 2, 3))
    torch.testing.assert_close(terms["recon"], by_hand)
    assert (terms["recon"] > expected(hr, lr_reference, {})["recon"]).all()


def test_training_through_jpeg_helps_jpeg(photos, tmp_path):
    """Twins from one start: the one that saw JPEG restores better from JPEG."""
    hr, lr = Photographs([photos], scale=2, crop=32).batch(4, seed=0, step=0)
    scores = []
    judged = C.but(compression_quality="10", growth=8, img_size=32, batch_size=4)
    for mode in (True, False):
        trainer = Trainer(judged.but(compression_mode=mode), out=tmp_path / str(mode), device=CPU)
        for _ in range(40):
            trainer.train_step((hr, lr), 2e-3)
        objective = objective_of(judged, trainer.net)
        scores.append(objective(hr, lr, objective.draw(4, step=0))["recon"].mean().item())
    assert scores[0] < 0.97 * scores[1]


def test_validation_judges_after_jpeg(photos, tmp_path):
    said: list[str] = []
    train(tmp_path, photos, C.but(budget="1"), val=[photos], say=said.append)
    (line,) = [line for line in said if "psnr_y" in line]
    assert "psnr_y_q90" in line
    assert "psnr_y_q50" in line


@pytest.mark.parametrize("spelling", ["420", "4:2:0", "'4:2:0'"])
def test_spellings_of_a_subsampling(spelling):
    """YAML reads 4:2:0 as a number in base sixty."""
    assert load_recipe("irn-x2", [f"compression_subsampling={spelling}"]).objective.chroma == "4:2:0"


@pytest.mark.parametrize(
    "wrong",
    [
        "compression_quality=0-50",
        "compression_quality=60-50",
        "compression_quality=101",
        "compression_quality=high",
        "compression_subsampling=411",
        "compression_gradient=none",
        "compression_mode=perhaps",
    ],
)
def test_wrong_values_are_one_line(wrong):
    with pytest.raises(UsageError, match=wrong.split("=")[0]) as caught:
        load_recipe("irn-x2", [wrong])
    assert "\n" not in str(caught.value)


def test_codec_blocks_learn_the_codec(photos, tmp_path):
    """The codec blocks' term falls, and the LR that is saved is taken before them."""
    recipe = C.but(codec_blocks=2, lambda_codec=100.0, compression_quality="30", growth=8, img_size=32, batch_size=4)
    hr, lr = Photographs([photos], scale=2, crop=32).batch(4, seed=0, step=0)
    trainer = Trainer(recipe, out=tmp_path, device=CPU)
    records = [trainer.train_step((hr, lr), 2e-3) for _ in range(15)]
    assert records[-1]["codec"] < 0.9 * records[0]["codec"]
    net = trainer.net
    small, rest = net.downscale(hr)
    assert not torch.equal(net.simulate(small, rest)[0], small)
    objective = objective_of(recipe, net)
    assert torch.equal(objective.downscale(hr), small)
    # By hand, where the blocks do nothing yet: three distances between LR, bicubic and their JPEGs.
    fresh = objective_of(recipe)
    draws = objective_of(recipe).draw(4, step=0)
    terms = fresh(hr, lr, draws)
    small = fresh.downscale(hr)
    stored, reference = fresh.stored(small, draws), fresh.stored(lr, draws)
    distances = [(small - reference), (small - stored), (stored - quantize(small))]
    torch.testing.assert_close(terms["codec"], sum((d**2).sum((1, 2, 3)) for d in distances))
    weighted = 4 * terms["guide"] + terms["recon"] + terms["distr"] + 100 * terms["codec"]
    torch.testing.assert_close(terms["loss"], weighted)


def test_codec_blocks_start_from_a_model_without_them(photos, tmp_path):
    first = objective_of(TINY)
    for parameter in first.net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_file(first.net.state_dict(), tmp_path / "plain.safetensors")
    recipe = C.but(codec_blocks=2, init=str(tmp_path / "plain.safetensors"))
    trainer = Trainer(recipe, out=tmp_path / "run", device=CPU)
    hr, _ = batch(photos)
    assert torch.equal(trainer.net.downscale(hr)[0], first.net.downscale(hr)[0])
    with pytest.raises(ModelError, match="does not fit"):
        load_initial(objective_of(recipe.but(inv_per_ds=2)).net, str(tmp_path / "plain.safetensors"))


def test_codec_blocks_need_a_codec():
    with pytest.raises(UsageError, match="compression_mode"):
        load_recipe("irn-x2", ["codec_blocks=2"])
