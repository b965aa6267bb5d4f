"""How the house features were taught: Barlow Twins on small crops of photographs, without labels.

Zbontar et al., "Barlow Twins: self-supervised learning via redundancy reduction", ICML 2021. Two views of a crop must
have the same code, whose numbers must say different things. The views differ by position, reflection and colour. What
spoils a picture (blur, noise, JPEG) is the same for both, as in Re-IQA (Saha et al., CVPR 2023): a network that is
taught to look through it could not tell a good picture from a spoilt one.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor, nn

from irnscale.errors import InputError
from irnscale.metrics.features import OUTPUT, PATCH, STAGES, convolutions
from irnscale.train.photos import decoded

Pixels = NDArray[np.uint8]

AREA = PATCH + 16
"""Side of the crop in which both views lie."""
_REDUCED = 3.0
"""Half of the crops are reduced by up to this factor, so that a view shows more than texture."""
_REDUNDANCY = 0.0051
"""Weight of the correlations that should vanish: lambda of the paper's equation 1."""
_WIDTH = 256
"""Of the two layers between the features and the loss, which are left behind."""
SETTLING = 50
"""Batches over which the normalisations' statistics are measured at the end."""


@dataclass
class Pairs:
    """Pairs of views of photographs, (H, W, 3) in 0..255 each, deterministic from the generator."""

    photographs: Sequence[Pixels]
    rng: np.random.Generator

    def batch(self, size: int) -> Tensor:
        """(2, size, 3, 64, 64) in about [0, 1]."""
        areas = [self._spoilt(self._area()) for _ in range(size)]
        views = [self._view(area) for _ in range(2) for area in areas]
        x = torch.from_numpy(np.stack(views)).float().permute(0, 3, 1, 2) / 255
        return self._recoloured(x).view(2, size, 3, PATCH, PATCH)

    def _area(self) -> Image.Image:
        """AREA x AREA pixels of a photograph."""
        photograph = self.photographs[int(self.rng.integers(len(self.photographs)))]
        height, width = photograph.shape[:2]
        factor = _REDUCED ** self.rng.uniform() if self.rng.uniform() < 0.5 else 1.0
        side = min(round(AREA * factor), height, width)
        top, left = (int(self.rng.integers(length - side + 1)) for length in (height, width))
        cut = Image.fromarray(np.ascontiguousarray(photograph[top : top + side, left : left + side]))
        return cut if side == AREA else cut.resize((AREA, AREA), Image.Resampling.BICUBIC)

    def _spoilt(self, area: Image.Image) -> Pixels:
        """Blurred, noisy, through JPEG: each now and then, by a random amount."""
        rng = self.rng
        if rng.uniform() < 0.35:
            area = area.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 2.5)))
        pixels: Any = np.asarray(area)
        if rng.uniform() < 0.3:
            noise = rng.standard_normal(pixels.shape, np.float32) * np.float32(20 * rng.uniform() ** 2 + 1)
            pixels = (pixels + noise).clip(0, 255).round().astype(np.uint8)
        if rng.uniform() < 0.4:
            file = io.BytesIO()
            quality, subsampling = int(rng.integers(8, 96)), int(rng.choice((0, 2)))
            Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
            pixels = np.asarray(Image.open(file))
        return np.asarray(pixels, np.uint8)

    def _view(self, area: Pixels) -> Pixels:
        top, left = self.rng.integers(AREA - PATCH + 1, size=2)
        view = area[top : top + PATCH, left : left + PATCH]
        return view[:, ::-1] if self.rng.uniform() < 0.5 else view

    def _recoloured(self, x: Tensor) -> Tensor:
        """Other saturation, contrast, white and brightness, each about a tenth off."""

        def off(*shape: int) -> Tensor:
            return torch.from_numpy(self.rng.standard_normal((len(x), *shape, 1, 1), np.float32)) * 0.1

        gray = x.mean(dim=1, keepdim=True)
        x = gray + (x - gray) * (3 * off(1)).exp()
        middle = x.mean(dim=(1, 2, 3), keepdim=True)
        return (middle + (x - middle) * off(1).exp()) * off(3).exp() * off(1).exp()


class FeatureNetwork(nn.Module):
    """The features as they are taught, with batch normalisation before each rectifier and on the output."""

    def __init__(self) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for name, width, channels, kernel, stride in convolutions():
            if name.endswith(".0") and stages:
                stages.append(nn.AvgPool2d(2))
            stages.append(nn.Conv2d(width, channels, kernel, stride, kernel // 2, bias=False))
            stages += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        self.stages = nn.Sequential(*stages)
        self.output = nn.Linear(STAGES[-1][-1], OUTPUT, bias=False)
        self.normalised = nn.BatchNorm1d(OUTPUT, affine=False)
        self.projector = nn.Sequential(
            *(nn.Linear(OUTPUT, _WIDTH, bias=False), nn.BatchNorm1d(_WIDTH), nn.ReLU(inplace=True)),
            nn.Linear(_WIDTH, _WIDTH, bias=False),
        )

    def features(self, x: Tensor) -> Tensor:
        """(N, 64) of (N, 3, 64, 64) in [0, 1]."""
        found: Tensor = self.normalised(self.output(self.stages(4 * x - 2).mean(dim=(2, 3))))
        return found

    def forward(self, x: Tensor) -> Tensor:
        """What the loss compares, (N, 256)."""
        found: Tensor = self.projector(self.features(x))
        return found

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """The tensors of `metrics.features.Features`: the normalisation, by its statistics, is part of the weights."""
        state: dict[str, Tensor] = {}
        layers = [layer for layer in self.stages if not isinstance(layer, nn.AvgPool2d | nn.ReLU)]
        for (name, *_), conv, norm in zip(convolutions(), layers[::2], layers[1::2], strict=True):
            assert isinstance(norm, nn.BatchNorm2d)
            mean, gain = _statistics(norm)
            gain = norm.weight * gain
            state[f"{name}.weight"] = conv.get_parameter("weight") * gain.view(-1, 1, 1, 1)
            state[f"{name}.bias"] = norm.bias - mean * gain
        mean, gain = _statistics(self.normalised)
        state["output.weight"] = self.output.weight * gain.view(-1, 1)
        state["output.bias"] = -mean * gain
        return {name: x.contiguous() for name, x in state.items()}


def _statistics(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a normalisation subtracts, and what it multiplies with."""
    return norm.get_buffer("running_mean"), 1 / (norm.get_buffer("running_var") + norm.eps).sqrt()


def barlow_twins(one: Tensor, other: Tensor, redundancy: float = _REDUNDANCY) -> Tensor:
    """The paper's equation 1 of two views' codes (N, D): cross-correlation against the identity, summed."""
    one, other = ((x - x.mean(0)) / (x.std(0, unbiased=False) + 1e-5) for x in (one, other))
    correlation = one.T @ other / len(one)
    same = correlation.diagonal()
    between = correlation.square().sum() - same.square().sum()
    return (1 - same).square().sum() + redundancy * between


def teach(
    photographs: Sequence[Pixels],
    *,
    steps: int,
    batch: int = 128,
    rate: float = 2e-3,
    settling: int = SETTLING,
    seed: int = 0,
    watch: Callable[[int, float], None] = lambda step, loss: None,
) -> FeatureNetwork:
    """A network taught on pairs of views; AdamW, `rate` reached in a twentieth of the steps, then by a cosine to 0.

    The same photographs, steps and seed give the same network on the same machine. `watch` is told each step's loss.
    """
    torch.manual_seed(seed)
    pairs, network = Pairs(photographs, np.random.default_rng(seed)), FeatureNetwork()
    for weight in network.parameters():
        if weight.dim() == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=1e-4)
    for step in range(steps):
        warm = min(1.0, (step + 1) / max(1, steps // 20))
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * (1 + math.cos(math.pi * step / steps)) / 2
        views = pairs.batch(batch)
        codes = network(views.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        loss = barlow_twins(*codes.chunk(2))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        watch(step + 1, float(loss.detach()))
    _settle(network, pairs, batch, settling)
    return network.eval()


@torch.no_grad()
def _settle(network: FeatureNetwork, pairs: Pairs, batch: int, batches: int) -> None:
    """Measure what the normalisations divide by once more, with the weights that they will have."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean over batches
    for _ in range(batches):
        network(pairs.batch(batch).flatten(0, 1).contiguous(memory_format=torch.channels_last))


def as_file(network: FeatureNetwork) -> bytes:
    """The folded network as .safetensors in float16."""
    return safetensors.torch.save({name: x.half() for name, x in network.folded().items()})


def read(sources: Sequence[Path], unreadable: list[str]) -> list[Pixels]:
    """The photographs of folders and archives that a crop fits in; a line for each that cannot be read.

    Raises InputError where none is left.
    """
    found = []
    for _, image in decoded(list(sources)):
        if isinstance(image, str):
            unreadable.append(image)
        elif min(image.shape[1:]) >= AREA:
            found.append(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    if not found:
        what = f"no photographs of at least {AREA} x {AREA} pixels in {', '.join(map(str, sources))}"
        raise InputError(what, f"{len(unreadable)} are unreadable")
    return found
