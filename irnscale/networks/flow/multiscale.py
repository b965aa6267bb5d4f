"""The multi-scale flow of Glow and SRFlow: levels of steps, with channels that leave in between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from irnscale.freia import SequenceINN
from irnscale.networks.flow.actnorm import ActNorm
from irnscale.networks.flow.coupling import ConditionalCoupling
from irnscale.networks.flow.injector import AffineInjector
from irnscale.networks.flow.mixing import MIXINGS
from irnscale.networks.flow.prior import standard_normal
from irnscale.networks.flow.scales import LOG_SCALES
from irnscale.networks.flow.split import GaussianSplit
from irnscale.networks.flow.squeeze import Squeeze

SPLITS = ("srflow", "all")


@dataclass(frozen=True)
class FlowConfig:
    """What defines a `Multiscale` up to its weights.

    channels: of the data. levels, steps: L and K. hidden: width of the subnets. condition: channels of the condition of
    every level; 0: none, and no injectors. transitions: steps of normalisation and mixing alone that a level begins
    with. splits: "all": after every level but the last (Glow); "srflow": after every level but the last two, as
    SRFlow's released models have it. scale: of the affine layers, see `scales.LOG_SCALES`. mixing: of the 1 x 1
    convolutions, "full" or "plu", see `mixing`.
    """

    channels: int = 3
    levels: int = 3
    steps: int = 16
    hidden: int = 64
    condition: int = 0
    transitions: int = 2
    splits: str = "srflow"
    scale: str = "glow"
    mixing: str = "full"

    def __post_init__(self) -> None:
        """Raise ValueError for a flow that cannot be built."""
        for name, least in (
            ("channels", 1),
            ("levels", 1),
            ("steps", 1),
            ("hidden", 1),
            ("condition", 0),
            ("transitions", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} of a flow must be at least {least}, got {getattr(self, name)}")
        for name, allowed in (("splits", SPLITS), ("scale", tuple(LOG_SCALES)), ("mixing", tuple(MIXINGS))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} of a flow must be one of {', '.join(allowed)}, got {getattr(self, name)}")

    @property
    def split_levels(self) -> int:
        """After how many levels, from the first, channels leave."""
        return max(0, self.levels - (1 if self.splits == "all" else 2))

    def to_dict(self) -> dict[str, Any]:
        """The fields as an object for JSON: names to numbers and strings."""
        return asdict(self)


class Multiscale(nn.Module):
    """A flow between data x (N, channels, H, W), H and W multiples of 2^levels, and standard normal latents.

    Level l, on the grid of H/2^l: `Squeeze`, `transitions` times (`ActNorm`, `InvertibleConv`), `steps` times
    (`ActNorm`, `InvertibleConv`, `AffineInjector`, `ConditionalCoupling`), then perhaps a `GaussianSplit`. The latents
    are a list: one for each split from the first on, then what is left; it takes all of them to invert.
    conditions: one for each level, (N or 1, condition, H/2^l, W/2^l), or none where the flow has no condition.
    Source: Kingma and Dhariwal 2018, figure 2; Lugmayr et al. 2020, figure 2.
    """

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        # FrEIA wants sizes for its arithmetic of shapes; the modules themselves take any.
        channels, side = config.channels, 2**config.levels
        self.levels, self.splits = nn.ModuleList(), nn.ModuleList()
        for index in range(config.levels):
            level = SequenceINN(channels, side, side)
            self._append(level, side // 2)
            self.levels.append(level)
            channels, side = 4 * channels, side // 2
            if index < config.split_levels:
                split = GaussianSplit([(channels, side, side)])
                self.splits.append(split)
                channels = split.kept

    def _append(self, level: SequenceINN, side: int) -> None:
        config, mixing = self.config, MIXINGS[self.config.mixing]
        level.append(Squeeze)
        for _ in range(config.transitions):
            level.append(ActNorm)
            level.append(mixing)
        layer: dict[str, Any] = {"hidden": config.hidden, "scale": config.scale}
        if config.condition:
            layer |= {"cond": 0, "cond_shape": (config.condition, side, side)}
        for _ in range(config.steps):
            level.append(ActNorm)
            level.append(mixing)
            if config.condition:
                level.append(AffineInjector, **layer)
            level.append(ConditionalCoupling, **layer)

    def latent_shapes(self, height: int, width: int) -> list[tuple[int, int, int]]:
        """(C, h, w) of every latent of data of this size. ValueError for one that is no multiple of 2^levels."""
        side = 2**self.config.levels
        if height % side or width % side:
            raise ValueError(f"height and width must be multiples of {side}, got {height} x {width}")
        found, channels = [], self.config.channels
        for index in range(self.config.levels):
            channels, height, width = 4 * channels, height // 2, width // 2
            if index < len(self.splits):
                rest = self._split(index).rest
                found.append((rest, height, width))
                channels -= rest
        return [*found, (channels, height, width)]

    def encode(
        self, x: Tensor, conditions: Sequence[Tensor] = (), *, jac: bool = True
    ) -> tuple[list[Tensor], Tensor | float]:
        """x -> latents and log|det| of this map, (N,), or 0.0 without `jac`."""
        latents: list[Tensor] = []
        total: Tensor | float = 0.0
        for index, level in enumerate(self.levels):
            x, log_det = level(x, self._given(conditions, index), jac=jac)
            total = total + log_det
            if index < len(self.splits):
                (x, eps), log_det = self._split(index)((x,), jac=jac)
                total = total + log_det
                latents.append(eps)
        return [*latents, x], total

    def decode(self, latents: Sequence[Tensor], conditions: Sequence[Tensor] = ()) -> Tensor:
        """The inverse of `encode`: latents -> x."""
        x = latents[-1]
        for index in reversed(range(self.config.levels)):
            if index < len(self.splits):
                (x,), _ = self._split(index)((x, latents[index]), rev=True, jac=False)
            x, _ = self.levels[index](x, self._given(conditions, index), rev=True, jac=False)
        return x

    def log_density(self, x: Tensor, conditions: Sequence[Tensor] = ()) -> Tensor:
        """log p(x), given the conditions, in nats, (N,), by the change of variables."""
        latents, log_det = self.encode(x, conditions)
        return standard_normal(latents) + log_det

    @torch.no_grad()
    def initialise(self, x: Tensor, conditions: Sequence[Tensor] = ()) -> None:
        """Give every normalisation, in the trunk and in the subnets, the statistics of this batch there."""
        for index, level in enumerate(self.levels):
            given = self._given(conditions, index)
            for module in cast(SequenceINN, level).module_list:
                if isinstance(module, ActNorm | AffineInjector | ConditionalCoupling):
                    module.initialise(x, given)
                (x,), _ = module((x,), c=given, jac=False)
            if index < len(self.splits):
                (x, _), _ = self._split(index)((x,), jac=False)

    def _split(self, index: int) -> GaussianSplit:
        return cast(GaussianSplit, self.splits[index])

    def _given(self, conditions: Sequence[Tensor], index: int) -> list[Tensor]:
        if len(conditions) != (self.config.levels if self.config.condition else 0):
            raise ValueError(f"this flow takes a condition for each of {self.config.levels} levels or, without, none")
        return [conditions[index]] if conditions else []
