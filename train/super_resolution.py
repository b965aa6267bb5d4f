"""Plain super-resolution: a network learns to undo bicubic reduction, and JPEG after it."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from irnscale.kernels import quantize
from irnscale.networks.network import SuperResolutionNetwork
from irnscale.train.config import Recipe
from irnscale.train.jpeg import jpeg
from irnscale.train.losses import image_loss
from irnscale.train.objective import Draws, Objective, network_of


def foreign(recipe: Recipe, lr_reference: Tensor, draws: Draws) -> Tensor:
    """Bicubic LR (N, 3, h, w) as small pictures come: in 8 bits, and for `jpeg_share` of them what JPEG leaves."""
    lr = quantize(lr_reference)
    if "damaged" not in draws:
        return lr
    stored = jpeg(lr, draws["quality"], recipe.chroma or draws["subsampling"])
    return torch.where(draws["damaged"].view(-1, 1, 1, 1), stored, lr)


class SuperResolution(Objective):
    """The distance `recon_norm` of HR from what the network makes of LR.

    LR is the bicubic picture in 8 bits, as foreign pictures are, and for `jpeg_share` of the crops what JPEG leaves.
    """

    net: SuperResolutionNetwork
    makes_lr = False

    def __init__(self, recipe: Recipe, net: SuperResolutionNetwork | None = None) -> None:
        super().__init__(recipe)
        self.net = net if net is not None else network_of(recipe, SuperResolutionNetwork)

    def upscale(self, lr: Tensor) -> Tensor:
        """What the network makes of it."""
        return cast(Tensor, self.net(lr))

    def forward(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        """See `Objective.forward`: "recon" alone."""
        recipe = self.recipe
        lr = foreign(recipe, lr_reference, draws)
        distance = image_loss(recipe.recon_norm, self.net(lr), hr, recipe.y_channel_usage)
        return {"loss": recipe.lambda_recon * distance, "recon": distance}
