"""An objective in one file, with two players: a network against a judge. What CONTRIBUTING says an objective needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor, nn

from irnscale.kernels import quantize
from irnscale.networks.network import RescalingNetwork
from irnscale.train.config import Recipe
from irnscale.train.groups import ObjectiveConfig
from irnscale.train.keys import above_zero, not_negative
from irnscale.train.losses import l1_sum
from irnscale.train.objective import Draws, Objective, Player


@dataclass(frozen=True)
class ToyObjectiveConfig(ObjectiveConfig):
    """lambda_judge: weight of being taken for a photograph. judge_lr: the judge's rate, which does not change."""

    name = "toy_adversarial"

    lambda_judge: float = not_negative(0.1)
    judge_lr: float = above_zero(1e-3)


class Adversarial(Objective):
    """Distances of both pictures, and the non-saturating loss of Goodfellow et al. 2014 from a small judge."""

    Config = ToyObjectiveConfig
    trains = RescalingNetwork

    config: ToyObjectiveConfig
    net: RescalingNetwork
    makes_lr = True

    def __init__(self, recipe: Recipe, net: RescalingNetwork | None = None) -> None:
        super().__init__(recipe, net)
        self.judge = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 3))

    def players(self) -> list[Player]:
        optim = replace(self.optim, optimizer="adam", initial_lr=self.config.judge_lr, schedule="constant")
        return [*super().players(), Player("judge", dict(self.judge.named_parameters()), optim, loss="judge")]

    def downscale(self, hr: Tensor) -> Tensor:
        return self.net.downscale(hr)[0]

    def upscale(self, lr: Tensor) -> Tensor:
        return self.net.upscale(lr)

    def forward(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        lr = self.downscale(hr)
        restored = self.upscale(quantize(lr))
        fooled = F.softplus(-self.judge(restored)).mean((1, 2, 3))
        judged = F.softplus(-self.judge(hr)) + F.softplus(self.judge(restored.detach()))
        distance = l1_sum(restored, hr) + l1_sum(lr, lr_reference)
        return {"loss": distance + self.config.lambda_judge * fooled, "fooled": fooled, "judge": judged.mean((1, 2, 3))}


OBJECTIVE = Adversarial
