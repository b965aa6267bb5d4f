"""What every test shares: Triton's interpreter where there is no GPU, fixed seeds, a photograph."""

from __future__ import annotations

import os
from pathlib import Path

# Before torch is imported, for this process and those that tests start. Most tensors here are tiny, and a
# second thread that shares its core with another process makes them ten times slower, not faster.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings
from PIL import Image

settings.register_profile("irnscale", deadline=None)  # a machine that is busy with other tests is no bug
settings.load_profile("irnscale")

HAS_CUDA = torch.cuda.is_available()
if not HAS_CUDA:
    # Read by triton when it is first imported, so it is set before any test module is.
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Before any test imports FrEIA itself, whose own warnings would be errors.
import irnscale.freia  # noqa: E402, F401


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `gpu` where there is none."""
    if HAS_CUDA:
        return
    skip = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test starts from the same random state, alone or in company."""
    torch.manual_seed(0)


def synthetic_photo(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
    """(H, W, 3) uint8: smooth shading, hard and slanted edges, a fine texture and a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = x / width, y / height
    a, b, c = rng.uniform(0.2, 0.8, 3)
    picture = np.stack([0.2 + 0.6 * u, 0.3 + 0.4 * v, 0.7 - 0.3 * u * v], axis=-1)
    disc = (u - a) ** 2 + (v - b) ** 2 < 0.04
    picture[disc] = [0.85, 0.35, 0.2]
    picture[(u + 0.5 * v > 1.1) & ~disc] *= 0.55
    stripes = 0.12 * np.sin(2 * np.pi * (x * (2 + c) + 1.5 * y) / 11)
    picture[..., :] += (stripes * (v > 0.6))[..., None]
    picture += rng.normal(0, 0.01, picture.shape)
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


@pytest.fixture
def photo() -> np.ndarray:
    """A synthetic photograph, 96 x 128, the same every time."""
    return synthetic_photo()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three small photographs."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(3):
        Image.fromarray(synthetic_photo(40 + 8 * seed, 48, seed)).save(folder / f"{seed}.png")
    return folder
