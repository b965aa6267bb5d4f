"""Digits as a distribution: a normalising flow is given the likelihood of pictures to raise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from irnscale.images.atomic import write_bytes_atomic
from irnscale.networks.glow import Glow
from irnscale.train.glow.digits import DigitBatches, Digits, add_noise, noise_of
from irnscale.train.glow.metrics import log_likelihood, measure
from irnscale.train.glow.pictures import grid, sheet
from irnscale.train.groups import Dataset, ObjectiveConfig
from irnscale.train.keys import not_negative
from irnscale.train.objective import Draws, Objective, Player

COLUMNS, ROWS = 12, 8


@dataclass(frozen=True)
class DensityConfig(ObjectiveConfig):
    """temperature: of the samples in pictures. `evaluate_steps` is the run's `validate_steps`."""

    name = "density"
    renamed: ClassVar[Mapping[str, str]] = {"evaluate_steps": "validate_steps"}

    temperature: float = not_negative(1.0)


class Density(Objective):
    """The mean of -log p(x) in nats. Source: the dissertation's algorithm 1 and equation 2.16."""

    Config = DensityConfig
    Data = DigitBatches
    trains = Glow

    config: DensityConfig
    data: DigitBatches
    net: Glow
    graphable = False

    def players(self) -> list[Player]:
        """The flow. What is no subnet does not decay: a mixing or an ActNorm that shrinks would be paid for in the
        log-determinant.
        """
        named = dict(self.net.named_parameters())
        return [Player("", named, self.optim, undecayed=[name for name in named if "subnet" not in name])]

    def initialise(self, *batch: Tensor) -> None:
        """Run the first batch, always with noise: three of the 64 pixels are 0 in every picture."""
        self._start(self.net, batch[0])

    def _start(self, flow: Glow, x: Tensor) -> None:
        if not self.data.dequantize:
            x = add_noise(x.cpu(), noise_of(self.seed, 0)).to(x.device)
        with torch.no_grad():
            flow(x)

    def forward(self, x: Tensor, draws: Draws) -> dict[str, Tensor]:  # type: ignore[override] # one tensor a batch
        """Pictures (N, 1, 8, 8) in 0..16 -> "loss", nats, (N,)."""
        return {"loss": -self.net(x)}

    def show(self, *example: Tensor) -> Tensor:
        """See `Objective`: the picture itself."""
        return sheet(example[0][None], 1)

    def examine(self, validation: list[Tensor], data: Dataset, device: torch.device) -> tuple[dict[str, float], Tensor]:
        """See `Objective`: mean log-likelihoods of the test pictures, raw and with one draw of noise; and samples."""
        assert isinstance(data, Digits)
        noisy = add_noise(data.test, torch.Generator().manual_seed(self.seed))
        scores = {"test_raw": log_likelihood(self.net, data.test), "test_dequantized": log_likelihood(self.net, noisy)}
        return scores, sheet(self._samples(), COLUMNS)

    def conclude(self, data: Dataset, out: Path) -> dict[str, float]:
        """See `Objective`: the numbers of `measure`, and `samples.png`."""
        assert isinstance(data, Digits)
        write_bytes_atomic(grid(self._samples(), COLUMNS), out / "samples.png", overwrite=True)
        return measure(self.net, self._untrained(data), data, self.seed)

    def _samples(self) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return self.net.sample(COLUMNS * ROWS, self.config.temperature, generator).cpu()

    def _untrained(self, data: Digits) -> Glow:
        """What the run began with."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            flow = Glow(self.net.config)
        (x,) = data.batch(self.data.batch_size, seed=self.seed, step=0)
        self._start(flow.to(x.device), x)
        return flow


OBJECTIVE = Density
