"""What a recipe trains and what it minimises; how the minimum is searched is the loop's affair."""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from irnscale.images.bicubic import bicubic_down
from irnscale.kernels import quantize
from irnscale.networks.network import (
    IMAGE_CHANNELS,
    AssistingNetwork,
    Network,
    RescalingNetwork,
    SamplingNetwork,
    SuperResolutionNetwork,
)
from irnscale.train.cells import quantize_cells
from irnscale.train.config import Recipe
from irnscale.train.jpeg import SUBSAMPLINGS, Gradient, jpeg
from irnscale.train.losses import image_loss, l2_sum, latent_sum

Draws = dict[str, Tensor]
"""The random and scheduled numbers of a step: every tensor's first dimension is the batch."""
Net = TypeVar("Net", bound=Network)


def network_of(recipe: Recipe, kind: type[Net]) -> Net:
    """An untrained network as the recipe describes it, of the class of its task."""
    net = recipe.trained.build(recipe.config())
    assert isinstance(net, kind), f"{recipe.trained.kind}: a network for {recipe.trained.task} is a {kind.__name__}"
    return net


def objective_of(recipe: Recipe, net: Network | None = None) -> Objective:
    """What the recipe minimises, around `net` or an untrained network. Raises ModelError, UsageError."""
    task = recipe.trained.task
    if task == "assistance":
        from irnscale.train.assistance import Assistance

        return Assistance(recipe, cast(AssistingNetwork | None, net))
    if recipe.trained.samples:
        from irnscale.train.likelihood import Likelihood

        return Likelihood(recipe, cast(SamplingNetwork | None, net))
    if task == "super-resolution":
        from irnscale.train.super_resolution import SuperResolution

        return SuperResolution(recipe, cast(SuperResolutionNetwork | None, net))
    return Rescaling(recipe, cast(RescalingNetwork | None, net))


def draw(
    recipe: Recipe,
    count: int,
    *,
    step: int,
    epochs: float = 0.0,
    fraction: float = 1.0,
    device: torch.device | str = "cpu",
) -> Draws:
    """All that a step of `count` crops needs beside its crops; a function of the recipe's seed and `step`.

    A process that computes a part of the batch draws for the whole batch and takes its slice of every
    tensor. `epochs` is how many times the data has been seen, in fractions; `fraction` how much of the budget is used.
    """
    draws: Draws = {}
    if fraction < recipe.frozen_until:
        draws["frozen"] = torch.ones(count, dtype=torch.bool, device=device)
    # torch's CPU generator keeps the low 32 bits of a seed alone, so the two numbers are mixed into 32.
    mixed = int(np.random.SeedSequence((recipe.seed, step)).generate_state(1)[0])
    generator = torch.Generator(device).manual_seed(mixed)
    if not recipe.zerosample and recipe.trained.task != "super-resolution":
        side = recipe.img_size // recipe.scale
        shape = (count, IMAGE_CHANNELS * (recipe.scale**2 - 1), side, side)
        draws["z"] = torch.randn(shape, generator=generator, device=device)
    if recipe.trained.samples:
        shape = (count, IMAGE_CHANNELS, recipe.img_size, recipe.img_size)
        draws["noise"] = torch.rand(shape, generator=generator, device=device)
    if recipe.compression_mode or recipe.jpeg_share:
        low, high = recipe.qualities
        draws["quality"] = torch.randint(low, high + 1, (count,), generator=generator, device=device)
        if recipe.chroma is None:
            draws["subsampling"] = torch.randint(len(SUBSAMPLINGS), (count,), generator=generator, device=device)
    if recipe.jpeg_share:
        draws["damaged"] = torch.rand(count, generator=generator, device=device) < recipe.jpeg_share
    if recipe.loss_flip_period is not None:
        draws["flip"] = torch.tensor([loss_flip(recipe, epochs)] * count, device=device)
    if recipe.lr_cells != [1]:
        which = torch.randint(len(recipe.lr_cells), (count,), generator=generator, device=device)
        draws["cells"] = torch.tensor(recipe.lr_cells, device=device)[which]
    return draws


def loss_flip(recipe: Recipe, epochs: float) -> tuple[float, float]:
    """Factors of the guidance and reconstruction weights after `epochs`: the dissertation's table 3.5.

    Each phase lasts `loss_flip_period` epochs: both as they are, reconstruction divided by
    `loss_flip_scale`, guidance divided by it.
    """
    assert recipe.loss_flip_period is not None
    less = 1 / recipe.loss_flip_scale
    return ((1.0, 1.0), (1.0, less), (less, 1.0))[int(epochs / recipe.loss_flip_period) % 3]


class Objective(nn.Module):
    """The loss of a recipe as a module around the network that is trained, `net`."""

    net: Network
    makes_lr = True
    """Whether `downscale` is the network's; else it is bicubic."""
    base_digest: str | None = None
    """That of the frozen model beside `net`, without which the trained weights are worth nothing."""

    @property
    def graphable(self) -> bool:
        """Whether a step can be one CUDA graph: inverting the matrix of scale 3 may wait for the host."""
        return self.recipe.scale != 3

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.recipe = recipe

    def initialise(self, hr: Tensor) -> None:
        """Set what depends on data before the first step of a run from scratch; `hr` as in `forward`."""

    def downscale(self, hr: Tensor) -> Tensor:
        """HR (N, 3, H, W) -> the LR of this objective, unquantised, for validation and samples."""
        return bicubic_down(hr, self.recipe.scale)

    def upscale(self, lr: Tensor) -> Tensor:
        """LR as stored (N, 3, h, w) -> HR, with z = 0, for validation and samples."""
        raise NotImplementedError

    def scores(self, hr: Tensor, lr: Tensor) -> dict[str, float]:
        """Further scores of validation, of one picture: HR (1, 3, H, W) and LR as stored."""
        return {}

    def forward(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        """HR (N, 3, H, W) and bicubic LR (N, 3, H/s, W/s) in [0, 1] -> the terms, each per crop, (N,).

        "loss" is their weighted sum, whose mean over the global batch is minimised; the others are unweighted.
        """
        raise NotImplementedError


class Rescaling(Objective):
    """Algorithm 2 of the dissertation with the norms of the paper's code, and all its extensions."""

    net: RescalingNetwork

    def __init__(self, recipe: Recipe, net: RescalingNetwork | None = None) -> None:
        super().__init__(recipe)
        self.net = net if net is not None else network_of(recipe, RescalingNetwork)
        self.makes_lr = not recipe.sr_mode

    def initialise(self, hr: Tensor) -> None:
        """See `Network.initialise`."""
        self.net.initialise(hr)

    def downscale(self, hr: Tensor) -> Tensor:
        """The network's LR, or bicubic in `sr_mode`."""
        return self.net.downscale(hr)[0] if self.makes_lr else super().downscale(hr)

    def upscale(self, lr: Tensor) -> Tensor:
        """The network's inverse."""
        return self.net.upscale(lr)

    def stored(self, lr: Tensor, draws: Draws) -> Tensor:
        """LR as it comes back from the file it is stored in: 8 bits, and through JPEG in `compression_mode`.

        With `lr_cells`, each crop's on the grid that was drawn for it.
        """
        if "cells" in draws:
            return quantize_cells(lr, draws["cells"])
        lr = quantize(lr)
        if not self.recipe.compression_mode:
            return lr
        subsampling = self.recipe.chroma or draws["subsampling"]
        return jpeg(lr, draws["quality"], subsampling, gradient=cast(Gradient, self.recipe.compression_gradient))

    def forward(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        """See `Objective.forward`. "guide", "recon", "distr" and, with codec blocks, "codec".

        "codec" is the squared distances of what the codec blocks make of LR from the JPEG of bicubic and from the
        JPEG of LR, and of what their inverse makes of that JPEG from LR (Yang et al. 2023, section 3.3).
        """
        recipe, net = self.recipe, self.net
        lr, rest = net.downscale(hr)
        stored = self.stored(lr_reference if recipe.sr_mode else lr, draws)
        if recipe.codec_blocks:
            simulated, z = net.simulate(lr, rest)
            recovered, rest_again = net.recover(stored, draws.get("z"))
            restored = net.enlarge(recovered, rest_again)
        else:
            z = rest
            restored = net.upscale(stored, draws.get("z"))
        guided = quantize(lr) if recipe.quantize_guide_loss else lr
        compared = quantize(restored) if recipe.quantize_recon_loss else restored
        terms = {
            "guide": image_loss(recipe.guide_norm, guided, lr_reference, recipe.y_channel_usage),
            "recon": image_loss(recipe.recon_norm, compared, hr, recipe.y_channel_usage),
            "distr": latent_sum(z),
        }
        guide, recon = recipe.guide_weight * terms["guide"], recipe.lambda_recon * terms["recon"]
        if "flip" in draws:
            guide, recon = guide * draws["flip"][:, 0], recon * draws["flip"][:, 1]
        loss = guide + recon + recipe.lambda_distr * terms["distr"]
        if recipe.codec_blocks:
            terms["codec"] = (
                l2_sum(simulated, self.stored(lr_reference, draws).detach())
                + l2_sum(simulated, stored.detach())
                + l2_sum(recovered, quantize(lr))
            )
            loss = loss + recipe.codec_weight * terms["codec"]
        return {"loss": loss} | terms
