"""Rescaling: the network makes the small picture and restores the large one from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor

from irnscale.errors import UsageError
from irnscale.kernels import quantize
from irnscale.networks.config import NetworkConfig
from irnscale.networks.network import IMAGE_CHANNELS, RescalingNetwork
from irnscale.train.cells import quantize_cells
from irnscale.train.config import Recipe
from irnscale.train.groups import Crops, ObjectiveConfig, Optim
from irnscale.train.jpeg import GRADIENTS, Gradient, jpeg
from irnscale.train.jpeg_keys import JPEGKeys
from irnscale.train.keys import above_zero, not_negative, one_of, share
from irnscale.train.losses import NORMS, image_loss, l2_sum, latent_sum
from irnscale.train.objective import Draws, Objective


@dataclass(frozen=True)
class RescalingConfig(JPEGKeys, ObjectiveConfig):
    """What `Rescaling` minimises, by the names of the dissertation's table 3.2.

    lambda_guide None means scale squared (the losses are sums, and LR has that many times fewer pixels).
    zerosample: the inverse gets z = 0 rather than a sample of N(0, 1).
    guide_norm, recon_norm: "l2", "l1" or "charbonnier", see `losses`; quantize_guide_loss, quantize_recon_loss:
    compare the small or the restored picture in 8 bits. y_channel_usage: the part of both losses that is
    of luma, 0 to 1. loss_flip_period: epochs between the phases of `loss_flip`, in which lambda_recon or lambda_guide
    is divided by `loss_flip_scale`; None: never.
    sr_mode: the inverse gets the bicubic small picture in 8 bits instead of the network's own.
    lr_cells: on what grid the inverse gets the small picture: cells of so many of the 256 levels, each a divisor of
    256, one of the list drawn for each crop; [1, 2] is 8 bits for half of them and 7 for the others, see
    `cells.quantize_cells`. Validation, samples and what is shipped are 8 bits always.
    compression_mode: the small image goes through JPEG before it is enlarged. compression_gradient: "identity" or
    "dct", see `jpeg.jpeg`. lambda_codec: weight of the squared distances that the network's codec_blocks are trained
    by, see `Rescaling.forward`; None: scale squared / 4.
    """

    name = "rescaling"

    lambda_recon: float = not_negative(1.0)
    lambda_guide: float | None = not_negative(None)
    lambda_distr: float = not_negative(1.0)
    zerosample: bool = True
    guide_norm: str = one_of("l2", tuple(NORMS))
    recon_norm: str = one_of("charbonnier", tuple(NORMS))
    quantize_guide_loss: bool = False
    quantize_recon_loss: bool = False
    y_channel_usage: float = share(0.0)
    loss_flip_period: float | None = above_zero(None)
    loss_flip_scale: float = above_zero(1.0)
    sr_mode: bool = False
    compression_mode: bool = False
    compression_gradient: str = one_of("identity", GRADIENTS)
    lambda_codec: float | None = not_negative(None)
    lr_cells: list[int] = field(default_factory=lambda: [1])

    def __post_init__(self) -> None:
        """Raise UsageError for values that cannot be trained with."""
        super().__post_init__()
        if self.loss_flip_scale != 1 and self.loss_flip_period is None:
            raise UsageError(f"loss_flip_scale={self.loss_flip_scale} does nothing without a loss_flip_period")
        if not self.lr_cells or any(m < 1 or 256 % m for m in self.lr_cells):
            raise UsageError(f"lr_cells={self.lr_cells} must be divisors of 256", "for example lr_cells=[1,2]")
        if self.lr_cells != [1] and (self.compression_mode or self.sr_mode):
            raise UsageError("lr_cells are of the network's own LR, stored without loss", "leave one of them out")

    def check(self, network: NetworkConfig, optim: Optim) -> None:
        """See `ObjectiveConfig`."""
        if not getattr(network, "codec_blocks", 0):
            return
        if not self.compression_mode:
            raise UsageError("codec_blocks model a codec", "add compression_mode=true")
        if self.sr_mode:
            raise UsageError("codec_blocks model the codec of the network's own LR, which sr_mode does not use")

    def guide_weight(self, scale: int) -> float:
        """The weight of guidance in force."""
        return float(scale**2) if self.lambda_guide is None else self.lambda_guide

    def codec_weight(self, scale: int) -> float:
        """The weight of the codec blocks' distances in force."""
        return scale**2 / 4 if self.lambda_codec is None else self.lambda_codec

    @property
    def jpeg_resistant(self) -> bool:
        """See `ObjectiveConfig`."""
        return self.compression_mode


class Rescaling(Objective):
    """Algorithm 2 of the dissertation with the norms of the paper's code, and all its extensions."""

    Config = RescalingConfig
    trains = RescalingNetwork

    config: RescalingConfig
    data: Crops
    net: RescalingNetwork

    def __init__(self, recipe: Recipe, net: RescalingNetwork | None = None) -> None:
        super().__init__(recipe, net)
        self.makes_lr = not self.config.sr_mode

    def initialise(self, *batch: Tensor) -> None:
        """See `Network.initialise`."""
        self.net.initialise(batch[0])

    def draws(self, count: int, generator: torch.Generator, epochs: float, fraction: float) -> Draws:
        """See `Objective`: "z", "quality", "subsampling", "flip" and "cells", those that there are."""
        config, device = self.config, generator.device
        draws: Draws = {}
        if not config.zerosample:
            draws["z"] = latent(count, self.scale, self.data.img_size, generator)
        if config.compression_mode:
            draws |= config.jpeg_draws(count, generator)
        if config.loss_flip_period is not None:
            factors = loss_flip(epochs, config.loss_flip_period, config.loss_flip_scale)
            draws["flip"] = torch.tensor([factors] * count, device=device)
        if config.lr_cells != [1]:
            which = torch.randint(len(config.lr_cells), (count,), generator=generator, device=device)
            draws["cells"] = torch.tensor(config.lr_cells, device=device)[which]
        return draws

    def downscale(self, hr: Tensor) -> Tensor:
        """The network's LR, or bicubic in `sr_mode`."""
        return self.net.downscale(hr)[0] if self.makes_lr else super().downscale(hr)

    def upscale(self, lr: Tensor) -> Tensor:
        """The network's inverse of LR as stored, with z = 0."""
        return self.net.upscale(lr)

    def stored(self, lr: Tensor, draws: Draws) -> Tensor:
        """LR as it comes back from the file it is stored in: 8 bits, and through JPEG in `compression_mode`.

        With `lr_cells`, each crop's on the grid that was drawn for it.
        """
        if "cells" in draws:
            return quantize_cells(lr, draws["cells"])
        lr = quantize(lr)
        if not self.config.compression_mode:
            return lr
        subsampling = self.config.chroma or draws["subsampling"]
        return jpeg(lr, draws["quality"], subsampling, gradient=cast(Gradient, self.config.compression_gradient))

    def damaged(self, lr: Tensor) -> dict[str, Tensor]:
        """See `Objective`: in `compression_mode` JPEG of two qualities, 4:2:0 where the subsampling is random."""
        chroma = self.config.chroma or "4:2:0"
        qualities = (90, 50) if self.config.compression_mode else ()
        return {f"_q{quality}": jpeg(lr, torch.tensor([quality], device=lr.device), chroma) for quality in qualities}

    def forward(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        """See `Objective.forward`. "guide", "recon", "distr" and, with codec blocks, "codec".

        "codec" is the squared distances of what the codec blocks make of LR from the JPEG of bicubic and from the
        JPEG of LR, and of what their inverse makes of that JPEG from LR (Yang et al. 2023, section 3.3).
        """
        config, net = self.config, self.net
        lr, rest = net.downscale(hr)
        stored = self.stored(lr_reference if config.sr_mode else lr, draws)
        if net.codec_modules:
            simulated, z = net.simulate(lr, rest)
            recovered, rest_again = net.recover(stored, draws.get("z"))
            restored = net.enlarge(recovered, rest_again)
        else:
            z = rest
            restored = net.upscale(stored, draws.get("z"))
        guided = quantize(lr) if config.quantize_guide_loss else lr
        compared = quantize(restored) if config.quantize_recon_loss else restored
        terms = {
            "guide": image_loss(config.guide_norm, guided, lr_reference, config.y_channel_usage),
            "recon": image_loss(config.recon_norm, compared, hr, config.y_channel_usage),
            "distr": latent_sum(z),
        }
        guide, recon = config.guide_weight(self.scale) * terms["guide"], config.lambda_recon * terms["recon"]
        if "flip" in draws:
            guide, recon = guide * draws["flip"][:, 0], recon * draws["flip"][:, 1]
        loss = guide + recon + config.lambda_distr * terms["distr"]
        if net.codec_modules:
            terms["codec"] = (
                l2_sum(simulated, self.stored(lr_reference, draws).detach())
                + l2_sum(simulated, stored.detach())
                + l2_sum(recovered, quantize(lr))
            )
            loss = loss + config.codec_weight(self.scale) * terms["codec"]
        return {"loss": loss} | terms


def latent(count: int, scale: int, side: int, generator: torch.Generator) -> Tensor:
    """z ~ N(0, 1) of `count` crops of `side` squared, (count, 3 scale^2 - 3, side/scale, side/scale)."""
    shape = (count, IMAGE_CHANNELS * (scale**2 - 1), side // scale, side // scale)
    return torch.randn(shape, generator=generator, device=generator.device)


def loss_flip(epochs: float, period: float, scale: float) -> tuple[float, float]:
    """Factors of the guidance and reconstruction weights after `epochs`: the dissertation's table 3.5.

    Each phase lasts `period` epochs: both as they are, reconstruction divided by `scale`, guidance divided by it.
    """
    less = 1 / scale
    return ((1.0, 1.0), (1.0, less), (less, 1.0))[int(epochs / period) % 3]


OBJECTIVE = Rescaling
