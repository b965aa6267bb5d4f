"""IRN: Haar transforms, or one learnable matrix, and enhanced affine couplings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from irnscale.networks.family import Family, NetworkConfig

if TYPE_CHECKING:
    from torch import Tensor

    from irnscale.kernels import Activation, LogScale
    from irnscale.networks.irn import IRN

ACTIVATIONS = ("sigmoid", "tanh", "proposal1")
"""Those of `irnscale.kernels`, which this file does not import."""


@dataclass(frozen=True)
class IRNConfig(NetworkConfig):
    """What defines an IRN up to its weights; stored on model cards.

    scale: 2, 4, 8 or 16, one Haar level per factor of two, or 3, one learnable `UnshuffleMatrix`.
    inv_per_ds: couplings per level (the paper's: 8, and 12 at scale 3), or a list of them, one for each level from
    the image downwards (0 but for the last will do). growth: width of the dense blocks. clamp, clamp_activation,
    clamp_tightness: see `EnhancedAffineCoupling`. actnorm: an `ActNorm` after each coupling. codec_blocks: couplings at
    the end that only the inverse runs, see `IRN`. constant_scales: the couplings whose s is a constant per channel, by
    their places in the network, which are the numbers in the names of their weights (see `couplings`); lists become
    tuples.
    """

    kind = "irn"

    scale: int = 4
    inv_per_ds: int | Sequence[int] = 8
    growth: int = 32
    clamp: float = 1.0
    clamp_activation: Activation = "sigmoid"
    clamp_tightness: float = 1.0
    actnorm: bool = False
    codec_blocks: int = 0
    constant_scales: Sequence[int] = ()

    def __post_init__(self) -> None:
        if self.scale not in (2, 3, 4, 8, 16):
            raise ValueError(f"scale must be 2, 3, 4, 8 or 16, got {self.scale}")
        object.__setattr__(self, "inv_per_ds", _couplings_per_level(self.inv_per_ds, self.levels))
        if self.codec_blocks < 0:
            raise ValueError(f"codec_blocks must not be negative, got {self.codec_blocks}")
        object.__setattr__(self, "constant_scales", self._checked_constants())
        check_couplings(self)

    def _checked_constants(self) -> tuple[int, ...]:
        given = self.constant_scales
        if not isinstance(given, list | tuple) or not all(_is_whole(n) for n in given):
            raise ValueError(f"constant_scales must be a list of whole numbers, got {given!r}")
        if unknown := sorted(set(given) - set(self.couplings)):
            raise ValueError(
                f"constant_scales={list(given)}: there is no coupling {unknown[0]}; "
                f"they are {', '.join(map(str, self.couplings))}"
            )
        return tuple(sorted(set(given)))

    @property
    def per_level(self) -> list[int]:
        """Couplings of each level, from the image downwards."""
        count = self.inv_per_ds
        return [count] * self.levels if isinstance(count, int) else list(count)

    @property
    def couplings(self) -> list[int]:
        """The places of the couplings among the modules: `module_list.N` and the paper's `operations.N`."""
        found, place = [], 0
        for level, count in enumerate(self.per_level):
            place += 1  # the resampling
            for _ in range(count + (self.codec_blocks if level == self.levels - 1 else 0)):
                found.append(place)
                place += 2 if self.actnorm else 1
        return found

    @property
    def levels(self) -> int:
        """How often the sides are reduced: by 2 each time, or once by 3."""
        return 1 if self.scale == 3 else int(math.log2(self.scale))

    @property
    def log_scale(self) -> LogScale:
        """That of the couplings. Imports torch."""
        from irnscale.kernels import LogScale

        return LogScale(self.clamp, self.clamp_tightness, self.clamp_activation)


def check_couplings(config: Any) -> None:
    """Raise ValueError where growth, clamp, clamp_tightness or clamp_activation make no coupling."""
    if config.growth < 1:
        raise ValueError(f"growth={config.growth} must be at least 1")
    for name in ("clamp", "clamp_tightness"):
        if not 0 < (value := getattr(config, name)) < math.inf:
            raise ValueError(f"{name}={value} must be a number above 0")
    if config.clamp_activation not in ACTIVATIONS:
        raise ValueError(f"clamp_activation={config.clamp_activation} must be one of {', '.join(ACTIVATIONS)}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _couplings_per_level(given: object, levels: int) -> int | tuple[int, ...]:
    """`inv_per_ds` checked; a list of equal numbers is the number."""
    counts = list(given) if isinstance(given, list | tuple) else [given] * levels
    numbers = [count for count in counts if isinstance(count, int) and _is_whole(count)]
    if len(numbers) != len(counts):
        raise ValueError(f"inv_per_ds must be a whole number, or a list of them, got {given!r}")
    if len(numbers) != levels:
        raise ValueError(f"inv_per_ds={given} must have one number for each of the {levels} levels")
    if min(numbers) < 0 or numbers[-1] < 1:
        raise ValueError(f"inv_per_ds must be at least 1, or a list of such (0 but for the last), got {given}")
    return numbers[0] if len(set(numbers)) == 1 else tuple(numbers)


def _build(config: IRNConfig) -> IRN:
    from irnscale.networks.irn import IRN

    return IRN(config)


def _loose(config: IRNConfig, tensors: Mapping[str, Tensor]) -> str | None:
    """Which scale network that should give nothing but its bias gives more."""
    for place in config.constant_scales:
        if tensors[f"module_list.{place}.s.conv5.weight"].any():
            return f"the scale of coupling {place} is constant, its weights do not"
    return None


FAMILY = Family(IRNConfig, "rescaling", _build, "IRN x{scale}", contradiction=_loose)
