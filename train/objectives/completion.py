"""What a frozen IRN throws away, as a distribution: a conditional flow is given the likelihood of z to raise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from irnscale.errors import UsageError
from irnscale.kernels import quantize
from irnscale.metrics import psnr
from irnscale.networks.flow import bits_per_dimension
from irnscale.networks.network import CompletingNetwork, RescalingNetwork
from irnscale.train.config import Recipe
from irnscale.train.frozen import BesideFrozen, named_base
from irnscale.train.groups import Crops, ObjectiveConfig
from irnscale.train.keys import not_negative, one_of
from irnscale.train.losses import NORMS, image_loss
from irnscale.train.objective import Draws

if TYPE_CHECKING:
    from irnscale.zoo import Model


@dataclass(frozen=True)
class CompletionConfig(ObjectiveConfig):
    """completion_of: name or file of the model whose z is learnt, and `scale` that of it. lambda_recon: weight of the
    distance `recon_norm` of HR from what that model restores with the mode of z, beside the bits; 0: likelihood alone.
    """

    name = "completion"

    completion_of: str | None = None
    scale: int = 4
    lambda_recon: float = not_negative(0.0)
    recon_norm: str = one_of("charbonnier", tuple(NORMS))

    def base_model(self) -> Model:
        """That of `completion_of`, a name or a .safetensors with its card. Raises ModelError, UsageError."""
        return named_base("completion_of", self.completion_of, self.scale)


class Completion(BesideFrozen):
    """The mean of -log2 p(z | LR') per value of z, LR' the small picture of the frozen model in 8 bits, and z its rest.

    Source: the dissertation's appendix C.1; Liang et al. 2021 (HCFlow).
    """

    Config = CompletionConfig
    trains = CompletingNetwork
    makes_lr = True

    config: CompletionConfig
    data: Crops
    net: CompletingNetwork

    def __init__(self, recipe: Recipe, net: CompletingNetwork | None = None) -> None:
        super().__init__(recipe, net)
        if self.base.completion is not None:
            raise UsageError(f"completion_of={self.config.completion_of} says itself what it throws away")

    @property
    def graphable(self) -> bool:
        """Determinants may wait for the host."""
        return False

    def initialise(self, *batch: Tensor) -> None:
        """See `CompletingNetwork.start`."""
        self.net.start(*reversed(self._kept_and_lost(batch[0])))

    @property
    def base(self) -> RescalingNetwork:
        """The frozen network, in the precision of the one that is trained."""
        base = super().base
        base.set_compute_dtype(self.net.compute_dtype)
        return base

    def downscale(self, hr: Tensor) -> Tensor:
        """See `Objective`: the frozen model's LR."""
        return self.base.downscale(hr)[0]

    def upscale(self, lr: Tensor) -> Tensor:
        """The frozen model's inverse, with the mode of z."""
        return self.base.upscale(lr, self.net.complete(lr))

    @torch.no_grad()
    def _kept_and_lost(self, hr: Tensor) -> tuple[Tensor, Tensor]:
        """LR as it is stored, and the z that the inverse would need beside it."""
        lr, z = self.base.downscale(hr)
        if self.base.codec_modules:
            _, z = self.base.simulate(lr, z)
        return quantize(lr), z

    def forward(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        """See `Objective.forward`: "bits", below 0 for values that are closer to each other than 1, and "recon"."""
        stored, z = self._kept_and_lost(hr)
        bits = bits_per_dimension(self.net.log_density(z, stored), z[0].numel(), spacing=1.0)
        terms = {"loss": bits, "bits": bits}
        if self.config.lambda_recon:
            terms["recon"] = image_loss(self.config.recon_norm, self.upscale(stored), hr)
            terms["loss"] = bits + self.config.lambda_recon * terms["recon"]
        return terms

    def scores(self, hr: Tensor, lr: Tensor) -> dict[str, float]:
        """ "bits" per value of z, "bits_gaussian" of the Gaussian of each channel that fits this picture best, and
        "psnr_y_z0", which is HR's with z = 0.
        """
        stored, z = self._kept_and_lost(hr)
        bits = bits_per_dimension(self.net.log_density(z, stored), z[0].numel(), spacing=1.0)
        deviations = z[0].flatten(1).std(1, unbiased=False).clamp(min=1e-12)
        gaussian = 0.5 * math.log2(2 * math.pi * math.e) + deviations.log2().mean().item()
        plain = psnr(self.base.upscale(lr), hr, crop=self.scale)
        return {"bits": bits.mean().item(), "bits_gaussian": gaussian, "psnr_y_z0": plain.item()}


OBJECTIVE = Completion
