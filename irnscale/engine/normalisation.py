"""Latents that are not as a flow's noise is, made so: their means and deviations become those of normal noise.

Source: the latent space normalization of Lugmayr et al. 2020 (SRFlow).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

NORMALISATIONS = ("local", "spatial", "global", "none")
"""Which values are one collection: the channels at a place of a latent; the places of a channel of a latent; all."""


def cells(mask: Tensor, latents: Sequence[Tensor], *, grow: int = 1) -> list[Tensor]:
    """The places of each latent that lie under a mask of pixels (1, 1, H, W), bool, and `grow` more on each side.

    A place is a cell of pixels, and under the mask where any of them is. The latents, (1, C, h, w), have grids that
    divide H and W. Returns (1, 1, h, w) each, bool.
    """
    found = []
    for z in latents:
        size = mask.shape[2] // z.shape[2], mask.shape[3] // z.shape[3]
        coarse = F.max_pool2d(mask.float(), size)
        found.append(F.max_pool2d(coarse, 2 * grow + 1, stride=1, padding=grow) > 0)
    return found


def normalised(
    latents: Sequence[Tensor], masks: Sequence[Tensor], noise: Sequence[Tensor], how: str = "local"
) -> list[Tensor]:
    """Latents (1, C, h, w) whose values under `masks` (1, 1, h, w) have the means and deviations of `noise`.

    Each collection z of N values, see `NORMALISATIONS`, becomes (s / std(z)) (z - mean(z)) + m, and one that is
    constant m, where m and s are the mean and the deviation of the same places of `noise`. With noise of N(0, t^2) that
    is what the paper says, m ~ N(0, t^2 / N) and s^2 ~ t^2 Gamma((N - 1) / 2, 2 / (N - 1)): those are the moments of N
    normal numbers. What is not under a mask stays as it is, to the bit.
    """
    if how not in NORMALISATIONS:
        raise ValueError(f"a normalisation is one of {', '.join(NORMALISATIONS)}, not {how}")
    result = [z.clone() for z in latents]
    if how == "none":
        return result
    places = [mask[0, 0].nonzero(as_tuple=True) for mask in masks]
    chosen = [z[0][:, y, x].double() for z, (y, x) in zip(latents, places, strict=True)]  # (C, n) each
    wanted = [z[0][:, y, x].double() for z, (y, x) in zip(noise, places, strict=True)]
    if how == "global":
        sizes = [z.shape for z in chosen]
        joined = _moved(_flat(chosen), _flat(wanted), 0)
        parts = torch.split(joined, [size.numel() for size in sizes])
        chosen = [part.view(size) for part, size in zip(parts, sizes, strict=True)]
    else:
        axis = 0 if how == "local" else 1
        chosen = [_moved(z, n, axis) for z, n in zip(chosen, wanted, strict=True)]
    for z, (y, x), values in zip(result, places, chosen, strict=True):
        z[0][:, y, x] = values.to(z.dtype)
    return result


def _moved(values: Tensor, like: Tensor, axis: int) -> Tensor:
    """Values with the mean and the deviation along an axis of others."""
    if not values.numel():
        return values
    mean, deviation = _moments(values, axis)
    goal, spread = _moments(like, axis)
    scale = torch.where(deviation > 0, spread / deviation, torch.zeros_like(spread))
    return scale * (values - mean) + goal


def _moments(values: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Mean and unbiased deviation, 0 of a single value."""
    mean = values.mean(axis, keepdim=True)
    squares = (values - mean).square().sum(axis, keepdim=True)
    return mean, (squares / max(1, values.shape[axis] - 1)).sqrt()


def _flat(values: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in values])
