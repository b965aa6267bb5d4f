"""What a recipe trains and what it minimises; how the minimum is searched is the loop's affair."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from irnscale.kernels import quantize
from irnscale.networks import IRN
from irnscale.networks.irn import IMAGE_CHANNELS
from irnscale.train.config import Recipe
from irnscale.train.jpeg import SUBSAMPLINGS, Gradient, jpeg
from irnscale.train.losses import charbonnier_sum, l2_sum, latent_sum

Draws = dict[str, Tensor]
"""The random and scheduled numbers of a step: every tensor's first dimension is the batch."""


def network_of(recipe: Recipe) -> IRN:
    """An untrained network as the recipe describes it."""
    return IRN(recipe.network())


def draw(recipe: Recipe, count: int, *, step: int, epochs: float = 0.0, device: torch.device | str = "cpu") -> Draws:
    """All that a step of `count` crops needs beside its crops; a function of the recipe's seed and `step`.

    A process that computes a part of the batch draws for the whole batch and takes its slice of every
    tensor. `epochs` is how many times the data has been seen, in fractions.
    """
    draws: Draws = {}
    generator = torch.Generator(device).manual_seed((recipe.seed << 32) + step)
    if not recipe.zerosample:
        side = recipe.img_size // recipe.scale
        shape = (count, IMAGE_CHANNELS * (recipe.scale**2 - 1), side, side)
        draws["z"] = torch.randn(shape, generator=generator, device=device)
    if recipe.compression_mode:
        low, high = recipe.qualities
        draws["quality"] = torch.randint(low, high + 1, (count,), generator=generator, device=device)
        if recipe.chroma is None:
            draws["subsampling"] = torch.randint(len(SUBSAMPLINGS), (count,), generator=generator, device=device)
    return draws


class Objective(nn.Module):
    """The loss of a recipe as a module around the network that is trained, `net`.

    Algorithm 2 of the dissertation with the norms of the paper's code.
    """

    def __init__(self, recipe: Recipe, net: IRN | None = None) -> None:
        super().__init__()
        self.recipe = recipe
        self.net = net if net is not None else network_of(recipe)

    def initialise(self, hr: Tensor) -> None:
        """Set what depends on data before the first step of a run from scratch; `hr` as in `forward`."""

    def downscale(self, hr: Tensor) -> Tensor:
        """HR (N, 3, H, W) -> the LR of this objective, unquantised, for validation and samples."""
        return self.net.downscale(hr)[0]

    def upscale(self, lr: Tensor) -> Tensor:
        """LR as stored (N, 3, h, w) -> HR, with z = 0, for validation and samples."""
        return self.net.upscale(lr)

    def stored(self, lr: Tensor, draws: Draws) -> Tensor:
        """LR as it comes back from the file it is stored in: 8 bits, and through JPEG in `compression_mode`."""
        lr = quantize(lr)
        if not self.recipe.compression_mode:
            return lr
        subsampling = self.recipe.chroma or draws["subsampling"]
        return jpeg(lr, draws["quality"], subsampling, gradient=cast(Gradient, self.recipe.compression_gradient))

    def forward(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        """HR (N, 3, H, W) and bicubic LR (N, 3, H/s, W/s) in [0, 1] -> the terms, each per crop, (N,).

        "loss" is their weighted sum, whose mean over the global batch is minimised; "guide", "recon", "distr"
        and, with codec blocks, "codec" are unweighted. "codec" is the squared distances of what g makes of LR from
        the JPEG of bicubic and from the JPEG of LR, and of what the inverse of g makes of that JPEG from LR (Yang et
        al. 2023, section 3.3).
        """
        recipe, net = self.recipe, self.net
        lr, rest = net.downscale(hr)
        stored = self.stored(lr, draws)
        sample = draws.get("z")
        if recipe.codec_blocks:
            simulated, z = net.simulate(lr, rest)
            recovered, rest_again = net.recover(stored, sample)
            restored = net.enlarge(recovered, rest_again)
        else:
            z = rest
            restored = net.upscale(stored, sample)
        terms = {
            "guide": l2_sum(lr, lr_reference),
            "recon": charbonnier_sum(restored, hr),
            "distr": latent_sum(z),
        }
        weights = {"guide": recipe.guide_weight, "recon": recipe.lambda_recon, "distr": recipe.lambda_distr}
        if recipe.codec_blocks:
            terms["codec"] = (
                l2_sum(simulated, self.stored(lr_reference, draws).detach())
                + l2_sum(simulated, stored.detach())
                + l2_sum(recovered, quantize(lr))
            )
            weights["codec"] = recipe.codec_weight
        total = sum((weights[name] * term for name, term in terms.items()), torch.zeros_like(terms["recon"]))
        return {"loss": total} | terms
