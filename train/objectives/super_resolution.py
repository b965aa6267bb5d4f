"""Plain super-resolution: a network learns to undo bicubic reduction, and JPEG after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from irnscale.kernels import quantize
from irnscale.networks.network import SuperResolutionNetwork
from irnscale.train.groups import ObjectiveConfig
from irnscale.train.jpeg import jpeg
from irnscale.train.jpeg_keys import JPEGKeys
from irnscale.train.keys import not_negative, one_of, share
from irnscale.train.losses import NORMS, image_loss
from irnscale.train.objective import Draws, Objective


@dataclass(frozen=True)
class ForeignKeys(JPEGKeys):
    """jpeg_share: the part of the small pictures that went through JPEG as the other keys say."""

    jpeg_share: float = share(0.0)

    def foreign_draws(self, count: int, generator: torch.Generator) -> Draws:
        """What `foreign` needs for so many crops: "quality", "subsampling" and "damaged", or nothing."""
        if not self.jpeg_share:
            return {}
        draws = self.jpeg_draws(count, generator)
        draws["damaged"] = torch.rand(count, generator=generator, device=generator.device) < self.jpeg_share
        return draws

    def foreign(self, lr_reference: Tensor, draws: Draws) -> Tensor:
        """Bicubic LR (N, 3, h, w) as small pictures come: in 8 bits, and for `jpeg_share` of them what JPEG leaves."""
        lr = quantize(lr_reference)
        if "damaged" not in draws:
            return lr
        stored = jpeg(lr, draws["quality"], self.chroma or draws["subsampling"])
        return torch.where(draws["damaged"].view(-1, 1, 1, 1), stored, lr)


@dataclass(frozen=True)
class SuperResolutionConfig(ForeignKeys, ObjectiveConfig):
    """lambda_recon times the distance `recon_norm`, of which `y_channel_usage` is of luma, is minimised."""

    name = "super_resolution"

    lambda_recon: float = not_negative(1.0)
    recon_norm: str = one_of("charbonnier", tuple(NORMS))
    y_channel_usage: float = share(0.0)


class SuperResolution(Objective):
    """The distance `recon_norm` of HR from what the network makes of LR.

    LR is the bicubic picture in 8 bits, as foreign pictures are, and for `jpeg_share` of the crops what JPEG leaves.
    """

    Config = SuperResolutionConfig
    trains = SuperResolutionNetwork

    config: SuperResolutionConfig
    net: SuperResolutionNetwork

    def draws(self, count: int, generator: torch.Generator, epochs: float, fraction: float) -> Draws:
        """See `ForeignKeys.foreign_draws`."""
        return self.config.foreign_draws(count, generator)

    def upscale(self, lr: Tensor) -> Tensor:
        """What the network makes of LR as stored."""
        return cast(Tensor, self.net(lr))

    def forward(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        """See `Objective.forward`: "recon" alone."""
        config = self.config
        restored = self.net(config.foreign(lr_reference, draws))
        distance = image_loss(config.recon_norm, restored, hr, config.y_channel_usage)
        return {"loss": config.lambda_recon * distance, "recon": distance}


OBJECTIVE = SuperResolution
