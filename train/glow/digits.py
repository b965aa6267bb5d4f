"""scikit-learn's 8x8 digits: 1,797 gray pictures with whole values from 0 to 16."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irnscale.errors import UsageError
from irnscale.train.groups import Data
from irnscale.train.keys import bounded

LEVELS = 17
WHITE = LEVELS - 1
TRAIN = 1617


@dataclass(frozen=True)
class DigitBatches(Data):
    """Batches of the training pictures. dequantize: with noise, see `add_noise`, whose density is then the proper
    likelihood of whole numbers; without it the raw values 0 to 16 are taken for one, which has no upper bound.
    """

    batch_size: int = bounded(64, lambda size: 2 <= size <= TRAIN, f"must be from 2 to {TRAIN}, the training pictures")
    dequantize: bool = True

    def accept(self, sources: Sequence[Path], val: Sequence[Path]) -> None:
        """See `Data`: the digits come with scikit-learn."""
        for name, given in (("data", sources), ("val", val)):
            if given:
                what = f"`{name}` has no use here: the digits come with scikit-learn"
                raise UsageError(what, "leave it out", parameters=(name,))

    def open(self, sources: Sequence[Path], *, scale: int, seed: int, device: torch.device) -> Digits:
        """See `Data`; `seed` is that of `load_digits`."""
        return replace(load_digits(seed), dequantize=self.dequantize, device=device)


@dataclass(frozen=True)
class Digits:
    """Training and test pictures (N, 1, 8, 8) float32 in 0..16, and which digit each of them is, (N,) int64.

    dequantize: whether batches have noise; device: where they are. See `Dataset` for the methods.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    dequantize: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __len__(self) -> int:
        return len(self.train)

    def introduction(self) -> list[str]:
        """See `Dataset`."""
        return [f"{len(self.train)} digits, {len(self.test)} to test on"]

    def batch(self, size: int, *, seed: int, step: int, rows: slice = slice(None)) -> tuple[Tensor]:
        """((N, 1, 8, 8),): every picture comes once per epoch, in a new order.

        What does not fill the last batch of an epoch is left out of it.
        """
        x = self.train[self._numbers(size, seed, step)]
        x = add_noise(x, noise_of(seed, step)) if self.dequantize else x
        return (x[rows].to(self.device),)

    def batches(self, size: int, *, seed: int, first: int, rows: slice = slice(None)) -> Generator[tuple[Tensor]]:
        """See `Dataset`."""
        for step in count(first):
            yield self.batch(size, seed=seed, step=step, rows=rows)

    def place(self, size: int, *, seed: int, step: int, example: int) -> dict[str, Any]:
        """See `Dataset`: the digit, and its number among the training pictures."""
        number = int(self._numbers(size, seed, step)[example])
        return {"picture": number, "digit": int(self.train_labels[number])}

    def _numbers(self, size: int, seed: int, step: int) -> Tensor:
        epoch, index = divmod(step, len(self.train) // size)
        order = torch.randperm(len(self.train), generator=_generator(seed, 2 * epoch))
        return order[index * size : (index + 1) * size]


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


def noise_of(seed: int, step: int) -> torch.Generator:
    """The generator of the noise of a step."""
    return _generator(seed, 2 * step + 1)


def to_levels(x: Tensor) -> Tensor:
    """What a sample shows as a picture: rounded and clamped to 0..16; NaN is 0.

    A sample can overflow: the inverse divides by g(s), which Glow's clamp lets come near 0.
    """
    return x.nan_to_num(0.0).round().clamp(0, WHITE)


def _generator(seed: int, index: int) -> torch.Generator:
    # torch's generator on the CPU takes 32 bits of a seed and ignores the rest.
    return torch.Generator().manual_seed(int(np.random.SeedSequence((seed, index)).generate_state(1)[0]))
