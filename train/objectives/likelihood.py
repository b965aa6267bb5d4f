"""Super-resolution as a distribution: a conditional flow is given the likelihood of HR to raise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from irnscale.errors import UsageError
from irnscale.kernels import quantize
from irnscale.networks.config import NetworkConfig
from irnscale.networks.density import GREY, bits_of_levels
from irnscale.networks.flow import bits_per_dimension
from irnscale.networks.network import IMAGE_CHANNELS, SamplingNetwork
from irnscale.train.config import Recipe
from irnscale.train.groups import Crops, ObjectiveConfig, Optim
from irnscale.train.keys import not_negative, share
from irnscale.train.objective import Draws, Objective
from irnscale.train.objectives.super_resolution import ForeignKeys


@dataclass(frozen=True)
class LikelihoodConfig(ForeignKeys, ObjectiveConfig):
    """noise_levels: of what grid the uniform noise covers one step that HR gets (0: of 8 bits). frozen_until: up to
    which fraction of the budget the pretrained encoder is left as it is.
    """

    name = "likelihood"

    noise_levels: int = not_negative(0)
    frozen_until: float = share(0.0)

    def check(self, network: NetworkConfig, optim: Optim) -> None:
        """See `ObjectiveConfig`."""
        if self.frozen_until and (optim.weight_decay or optim.optimizer != "adam"):
            raise UsageError(
                "frozen_until: what is frozen would be changed by weight_decay, or by an optimizer other than adam",
                "add weight_decay=0 optimizer=adam",
            )


class Likelihood(Objective):
    """The mean of -log p(HR + u | LR) in bits per dimension, u uniform over one of `noise_levels` levels around 0.

    LR is the bicubic picture in 8 bits, and for `jpeg_share` of the crops what JPEG leaves. Until the fraction
    `frozen_until` of the budget what makes the conditions, pretrained, gets no gradients. Source: Lugmayr et al. 2020
    (SRFlow), equation 3 and section 4; Kingma and Dhariwal 2018, equation 2.

    Of a distribution over steps of 1/noise_levels the bits are not below 0. `scores` has those of 8 bits.
    """

    Config = LikelihoodConfig
    trains = SamplingNetwork

    config: LikelihoodConfig
    data: Crops
    net: SamplingNetwork

    def __init__(self, recipe: Recipe, net: SamplingNetwork | None = None) -> None:
        super().__init__(recipe, net)
        whole = self.scale * self.net.multiple
        if self.data.img_size % whole:
            raise UsageError(f"img_size={self.data.img_size} is not divisible by {whole}, as this network needs")
        self.spacing = 1 / self.config.noise_levels if self.config.noise_levels else GREY

    @property
    def graphable(self) -> bool:
        """Determinants may wait for the host, and there is another step once nothing is frozen."""
        return False

    def draws(self, count: int, generator: torch.Generator, epochs: float, fraction: float) -> Draws:
        """See `Objective`: "noise" from 0 to 1, what `ForeignKeys.foreign_draws` has, and "frozen" while it is so."""
        shape = (count, IMAGE_CHANNELS, self.data.img_size, self.data.img_size)
        draws = {"noise": torch.rand(shape, generator=generator, device=generator.device)}
        if fraction < self.config.frozen_until:
            draws["frozen"] = torch.ones(count, dtype=torch.bool, device=generator.device)
        return draws | self.config.foreign_draws(count, generator)

    def initialise(self, *batch: Tensor) -> None:
        """See `SamplingNetwork.start`, with the noise of the first step."""
        hr = batch[0]
        draws = self.draw(hr.shape[0], step=0, device=hr.device)
        with torch.no_grad():
            self.net.start(self._noisy(hr, draws), self.net.encoded(quantize(self.downscale(hr))))

    def upscale(self, lr: Tensor) -> Tensor:
        """The mode of the latents: z = 0."""
        return cast(Tensor, self.net(lr))

    def forward(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        """See `Objective.forward`: "bits" alone, which is the loss."""
        lr = self.config.foreign(lr_reference, draws)
        frozen = "frozen" in draws and bool(draws["frozen"][0])
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            features = self.net.features(lr)
        conditions = self.net.conditions(features)
        noisy = self._noisy(hr, draws)
        bits = bits_per_dimension(self.net.log_density(noisy, conditions), hr[0].numel(), self.spacing)
        return {"loss": bits, "bits": bits}

    def _noisy(self, hr: Tensor, draws: Draws) -> Tensor:
        return hr + (draws["noise"] - 0.5) * self.spacing

    def scores(self, hr: Tensor, lr: Tensor) -> dict[str, float]:
        """ "bits" per dimension of HR in 8 bits, the noise being one of its levels and the same at each call."""
        bits = bits_of_levels(self.net, hr, lr, seed=self.seed)
        return {} if bits is None else {"bits": bits}


OBJECTIVE = Likelihood
