"""The shipped srflow-x4 on the photograph that comes with irnscale: its samples, and transfer by its latents."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import astronaut
from PIL import Image
from torch import Tensor

import irnscale
from irnscale.images.bicubic import bicubic_down
from irnscale.kernels import quantize

pytestmark = pytest.mark.slow


def face(side: int = 96) -> np.ndarray:
    """A face of `side` x `side` pixels, uint8."""
    return np.asarray(astronaut())[:side, :side].copy()


def tensor(pixels: np.ndarray) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255


def small(pixels: np.ndarray) -> Tensor:
    """Bicubic, in 8 bits."""
    return quantize(bicubic_down(tensor(pixels), 4))


def decibels(a: Tensor, b: Tensor) -> float:
    """PSNR of values in [0, 1]."""
    return -10 * torch.log10((a - b).square().mean()).item()


def test_samples_differ_and_keep_the_small_picture():
    original = face()
    given = (small(original)[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    drawn = irnscale.load("srflow-x4", sr=True)
    scores = []
    for temperature in (0.0, 0.5, 0.8):
        made = drawn.samples(given, temperature=temperature, seeds=[0, 1, 2])
        assert min(decibels(small(one), tensor(given)) for one in made) > 40
        scores.append(np.mean([decibels(tensor(one), tensor(original)) for one in made]))
        spread = np.stack(made).astype(float).std(axis=0).mean()
        assert (spread == 0) if not temperature else (2 < spread / temperature < 15)
    assert scores == sorted(scores, reverse=True)
    with Image.fromarray(given) as image:
        enlarged = np.asarray(image.resize(original.shape[1::-1], Image.Resampling.BICUBIC))
    assert scores[0] > decibels(tensor(enlarged), tensor(original)) + 1


def test_what_is_pasted_is_made_to_agree_with_the_small_picture(tmp_path: Path):
    target = face()
    source = np.minimum(target[:, ::-1].astype(int) * 9 // 8 + 6, 255).astype(np.uint8)
    for name, pixels in (("source", source), ("target", target)):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    pasted = target.copy()
    pasted[24:72, 20:68] = source[24:72, 32:80]
    box = {"box": (32, 24, 48, 48), "at": (20, 24)}
    agreed = decibels(small(pasted), small(target))
    for options in ({"normalize": "local"}, {"mode": "style"}):
        out = tmp_path / "out.png"
        irnscale.transfer_file(
            tmp_path / "source.png", tmp_path / "target.png", out, model="srflow-x4", overwrite=True, **box, **options
        )
        with Image.open(out) as image:
            result = np.asarray(image)
        assert decibels(small(result), small(target)) > agreed + 10
        change = np.abs(result.astype(int) - target)
        inside = change[24:72, 20:68].mean()
        assert inside > 2
        assert change[:12].mean() < inside / 3
