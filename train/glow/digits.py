"""scikit-learn's 8x8 digits: 1,797 gray pictures with whole values from 0 to 16."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from irnscale.errors import UsageError

LEVELS = 17
WHITE = LEVELS - 1
TRAIN = 1617


@dataclass(frozen=True)
class Digits:
    """Training and test pictures (N, 1, 8, 8) float32 in 0..16, and which digit each of them is, (N,) int64."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    def batch(self, size: int, *, seed: int, step: int, dequantize: bool) -> Tensor:
        """(size, 1, 8, 8): a function of seed and step alone. Every picture comes once per epoch, in a new order.

        What does not fill the last batch of an epoch is left out of it.
        """
        epoch, index = divmod(step, len(self.train) // size)
        order = torch.randperm(len(self.train), generator=_generator(seed, 2 * epoch))
        x = self.train[order[index * size : (index + 1) * size]]
        return add_noise(x, _generator(seed, 2 * step + 1)) if dequantize else x


def load_digits(seed: int) -> Digits:
    """The 1,617 training and 180 test pictures of the dissertation's section 3.2.2, shuffled by `seed`.

    They come with scikit-learn; nothing is downloaded. Raises UsageError where it is not installed.
    """
    try:
        from sklearn.datasets import load_digits as load
    except ImportError as error:
        raise UsageError("the digits come with scikit-learn", "pip install 'irnscale[train]'") from error
    found = load()
    images = torch.as_tensor(found.images, dtype=torch.float32)[:, None]
    labels = torch.as_tensor(found.target, dtype=torch.int64)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    images, labels = images[order], labels[order]
    return Digits(images[:TRAIN], labels[:TRAIN], images[TRAIN:], labels[TRAIN:])


def add_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """x + u, u uniform on [-1/2, 1/2): uniform dequantisation with the whole number in the middle of its cell.

    The middle, so that the density at the raw value says something; at the cell's corner it would not.
    """
    return x + torch.rand(x.shape, generator=generator, dtype=x.dtype) - 0.5


def to_levels(x: Tensor) -> Tensor:
    """What a sample shows as a picture: rounded and clamped to 0..16; NaN is 0.

    A sample can overflow: the inverse divides by g(s), which Glow's clamp lets come near 0.
    """
    return x.nan_to_num(0.0).round().clamp(0, WHITE)


def _generator(seed: int, index: int) -> torch.Generator:
    # torch's generator on the CPU takes 32 bits of a seed and ignores the rest.
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, index)).generate_state(1)[0]))
