"""What networks for super-resolution have in common that are a conditional multi-scale flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from irnscale.kernels import philox_normal
from irnscale.networks.flow import FlowConfig, Multiscale
from irnscale.networks.flow_config import FlowNetworkConfig
from irnscale.networks.network import IMAGE_CHANNELS, SamplingNetwork

FEATURE_MAPS = 7
"""Maps of the encoder's features that are in memory at once."""


class FlowNetwork(SamplingNetwork):
    """A `Multiscale` flow between HR (N, 3, s h, s w) and standard normal latents, given conditions that an `encoder`
    makes of LR (N, 3, h, w). The last of its levels is on a grid half as fine as LR's.

    h and w must be multiples of `multiple`, 2; `enlarge` pads others by reflection at the right and the bottom and
    crops its result. `set_compute_dtype` is about the encoder: the flow keeps float32, for its inverse sees inputs that
    differ by rounding. In training, where there is no inverse, its subnets have the lower precision, too.
    """

    multiple = 2
    flow: Multiscale
    encoder: nn.Module
    """Its `support`: small pixels on each side that a feature depends on."""
    feature_channels: int
    """Of the encoder's features."""

    @staticmethod
    def build_flow(config: FlowNetworkConfig, condition: int) -> Multiscale:
        """The flow of a configuration, untrained; `condition`: channels of the condition of each level."""
        return Multiscale(
            FlowConfig(
                channels=IMAGE_CHANNELS,
                levels=config.levels,
                steps=config.flow_steps,
                hidden=config.flow_hidden,
                condition=condition,
                scale=config.flow_scale,
                mixing=config.flow_mixing,
            )
        )

    @property
    def support(self) -> int:
        """Small pixels on each side that an output pixel depends on, rounded up to `multiple`.

        Each step reads 2 pixels of its level's grid around what it changes, a split 1, and the coarsest level's
        condition is read 2 further.
        """
        reach = 0
        for level in range(self.flow.config.levels):
            reach = -(-reach // 2) + 2 * self.flow.config.steps + (1 if level < len(self.flow.splits) else 0)
        whole = self.multiple * (reach + 2) + cast(int, self.encoder.support)
        return -(-whole // self.multiple) * self.multiple

    @property
    def channels_alive(self) -> int:
        """The conditions of all levels, and a step of the finest one, which is somewhat above what was measured."""
        flow, finest = self.flow.config, self.scale**2 // 4
        conditions = sum((flow.condition * finest >> 2 * level) + 1 for level in range(flow.levels))
        return conditions + finest * (flow.condition + 3 * flow.hidden + 10 * 12) + FEATURE_MAPS * self.feature_channels

    @property
    def channels_per_sample(self) -> int:
        """Channels of what each sample has for itself: all but the conditions."""
        return self.scale**2 // 4 * (3 * self.flow.config.hidden + 10 * 12)

    def set_compute_dtype(self, dtype: torch.dtype | None) -> None:
        """Precision of the encoder's convolutions."""
        for module in self.encoder.modules():
            if hasattr(module, "compute_dtype"):
                setattr(module, "compute_dtype", dtype)  # noqa: B010 - which type checkers take for a parameter

    def set_training_dtype(self, dtype: torch.dtype | None) -> None:
        """The subnets' convolutions, too: a likelihood bears their rounding, a forward and an inverse pass do not."""
        super().set_compute_dtype(dtype)

    def check_sides(self, lr: Tensor) -> None:
        """Raise ValueError for LR whose sides are no multiples of `multiple`."""
        if lr.shape[2] % self.multiple or lr.shape[3] % self.multiple:
            raise ValueError(f"height and width must be multiples of {self.multiple}, got {tuple(lr.shape[2:])}")

    def latents(
        self, lr: Tensor, *, seed: int, temperature: float = 1.0, origin: tuple[int, int] = (0, 0)
    ) -> list[Tensor]:
        """Noise of standard deviation `temperature` for each latent of `lr` (N, 3, h, w), h and w even.

        A function of (seed, latent, place) alone: `lr` may be cut at `origin` (y, x), even numbers, out of a larger
        picture. All N get the same. Zeros where the temperature is 0.
        """
        n, _, height, width = lr.shape
        found = []
        for index, (channels, h, w) in enumerate(self.flow.latent_shapes(height * self.scale, width * self.scale)):
            if not temperature:
                found.append(lr.new_zeros(1, channels, h, w).expand(n, -1, -1, -1))
                continue
            y, x = origin[0] * h // height, origin[1] * w // width
            noise = philox_normal(
                (1, channels, h, w), seed=seed, origin=(index, 0, y, x), dtype=lr.dtype, device=lr.device
            )
            found.append((temperature * noise).expand(n, -1, -1, -1))
        return found

    def encode(self, hr: Tensor, conditions: Sequence[Tensor]) -> list[Tensor]:
        """HR, sides multiples of 2 scale, -> its latents; see `Multiscale.encode`."""
        return self.flow.encode(hr, conditions, jac=False)[0]

    def decode(self, latents: Sequence[Tensor], conditions: Sequence[Tensor]) -> Tensor:
        """The inverse of `encode`: latents, given the conditions of LR -> HR (N, 3, H, W), unclamped."""
        return self.flow.decode(latents, conditions)

    def log_density(self, hr: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """log p(HR | LR) in nats, (N,), given the conditions of LR."""
        return self.flow.log_density(hr, conditions)

    def start(self, hr: Tensor, conditions: Sequence[Tensor]) -> None:
        """Give the normalisations of the flow the statistics of this batch."""
        self.flow.initialise(hr, conditions)
