"""PSNR and SSIM against scikit-image, hand-computed values and the published bicubic of Set5."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from irnscale.images.bicubic import bicubic_down, bicubic_up
from irnscale.metrics import as_8bit, luma, psnr, ssim

SET5 = Path(__file__).resolve().parents[2] / "shared" / "data" / "test" / "Set5"


def tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 -> (3, H, W) in [0, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def noisy(image: np.ndarray, sigma: float = 12) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, sigma, image.shape)
    return (image + noise).clip(0, 255).round().astype(np.uint8)


def luma_of(image: np.ndarray) -> np.ndarray:
    """The definition, in numpy."""
    return 16 + image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255


def skimage_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """scikit-image's map, cut to where the 11 x 11 window lies inside the image."""
    _, values = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True
    )
    return float(values[5:-5, 5:-5].mean())


def test_luma_of_black_white_and_primaries():
    colours = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]])
    y = luma(colours.double().T.reshape(3, 1, 5))
    assert y.shape == (1, 1, 5)
    assert y.flatten().tolist() == pytest.approx([16, 235, 81.481, 144.553, 40.966])


def test_as_8bit_clamps_and_rounds():
    x = torch.tensor([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 100 / 255, 1.0, 1.7])
    assert as_8bit(x).tolist() == [0, 0, 0, 1, 100, 255, 255]
    assert as_8bit(x).dtype == torch.float64


def test_psnr_by_hand():
    a = torch.full((3, 12, 12), 100 / 255)
    # Every channel off by one grey level: the luma is off by 219 / 255.
    assert psnr(a, a + 1 / 255, y_channel=False).item() == pytest.approx(20 * math.log10(255))
    assert psnr(a, a + 1 / 255).item() == pytest.approx(20 * math.log10(255 * 255 / 219))
    # One pixel of 144 off by 10 levels in green alone.
    b = a.clone()
    b[1, 6, 6] += 10 / 255
    mse = (10 * 128.553 / 255) ** 2 / 144
    assert psnr(a, b).item() == pytest.approx(10 * math.log10(255**2 / mse))
    mse = 100 / (3 * 144)
    assert psnr(a, b, y_channel=False).item() == pytest.approx(10 * math.log10(255**2 / mse))


def test_equal_images_and_differences_below_half_a_level(photo):
    x = tensor(photo)
    assert psnr(x, x).item() == math.inf
    assert psnr(x, x + 0.4 / 255).item() == math.inf, "the scores are those of the 8-bit picture"
    assert ssim(x, x).item() == pytest.approx(1)


@pytest.mark.parametrize("crop", [0, 4])
def test_psnr_equals_scikit_image(photo, crop):
    other = noisy(photo)
    inner = np.s_[crop : photo.shape[0] - crop, crop : photo.shape[1] - crop]
    expected = peak_signal_noise_ratio(luma_of(photo)[inner], luma_of(other)[inner], data_range=255)
    assert psnr(tensor(photo), tensor(other), crop=crop).item() == pytest.approx(expected, abs=1e-9)
    expected = peak_signal_noise_ratio(photo[inner], other[inner], data_range=255)
    value = psnr(tensor(photo), tensor(other), crop=crop, y_channel=False)
    assert value.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("crop", [0, 3])
def test_ssim_equals_scikit_image(photo, crop):
    other = noisy(photo)
    inner = np.s_[crop : photo.shape[0] - crop, crop : photo.shape[1] - crop]
    expected = skimage_ssim(luma_of(photo)[inner], luma_of(other)[inner])
    assert ssim(tensor(photo), tensor(other), crop=crop).item() == pytest.approx(expected, abs=1e-9)
    expected = np.mean(
        [skimage_ssim(photo[inner][..., k].astype(float), other[inner][..., k].astype(float)) for k in range(3)]
    )
    value = ssim(tensor(photo), tensor(other), crop=crop, y_channel=False)
    assert value.item() == pytest.approx(expected, abs=1e-9)


def test_a_batch_is_its_images(photo):
    x, y = tensor(photo), tensor(noisy(photo))
    for score in (psnr, ssim):
        both = score(torch.stack((x, y)), torch.stack((y, y * 0.9)))
        assert both.shape == (2,)
        assert both.tolist() == pytest.approx([score(x, y).item(), score(y, y * 0.9).item()])


def test_ssim_of_constant_images_by_hand():
    a, b = torch.full((3, 11, 11), 100 / 255), torch.full((3, 11, 11), 140 / 255)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 140 + c1) / (100**2 + 140**2 + c1)
    assert ssim(a, b, y_channel=False).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("other", "crop"), [((3, 20, 1), 0), ((3, 20, 20), 10)])
def test_what_cannot_be_compared_has_no_score(other, crop):
    for score in (psnr, ssim):
        with pytest.raises(ValueError, match="cannot be compared"):
            score(torch.zeros(3, 20, 20), torch.zeros(other), crop=crop)


def test_ssim_needs_its_window():
    assert ssim(torch.zeros(3, 11, 11), torch.zeros(3, 11, 11)).item() == pytest.approx(1)
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(torch.zeros(3, 10, 40), torch.zeros(3, 10, 40))
    with pytest.raises(ValueError, match="11 x 11"):
        ssim(torch.zeros(3, 18, 18), torch.zeros(3, 18, 18), crop=4)


def test_bicubic_of_set5_reads_as_the_design_says():
    """Bicubic x4 by this protocol: 28.43 dB and 0.8113 (28.42/0.8104 is published, with rounded luma)."""
    files = sorted(SET5.glob("*.png"))
    if len(files) != 5:
        pytest.skip("Set5 is not beside this checkout (../shared/data/test/Set5)")
    scores = []
    for file in files:
        with Image.open(file) as image:
            x = tensor(np.array(image.convert("RGB")))[None]
        x = x[..., : x.shape[2] // 4 * 4, : x.shape[3] // 4 * 4]
        small = as_8bit(bicubic_down(x, 4)).float() / 255
        large = bicubic_up(small, 4)
        scores.append((psnr(large, x, crop=4).item(), ssim(large, x, crop=4).item()))
    mean_psnr, mean_ssim = np.mean(scores, axis=0)
    assert mean_psnr == pytest.approx(28.43, abs=0.01)
    assert mean_ssim == pytest.approx(0.8113, abs=0.0005)
