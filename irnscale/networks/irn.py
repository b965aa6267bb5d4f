"""The Invertible Rescaling Network, composed with FrEIA."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from irnscale.freia import InvertibleModule, SequenceINN
from irnscale.kernels import Activation
from irnscale.networks.coupling import EnhancedAffineCoupling
from irnscale.networks.dense_block import DenseBlock
from irnscale.networks.haar import HaarTransform
from irnscale.networks.pointwise import ActNorm
from irnscale.networks.unshuffle import UnshuffleMatrix

IMAGE_CHANNELS = 3
Through = Callable[[list[InvertibleModule], Tensor, bool], Tensor]


@dataclass(frozen=True)
class IRNConfig:
    """What defines an IRN up to its weights; stored on model cards.

    scale: 2, 4, 8 or 16, one Haar level per factor of two, or 3, one learnable `UnshuffleMatrix`.
    inv_per_ds: couplings per level (the paper's: 8, and 12 at scale 3), or a list of them, one for each level from
    the image downwards (0 but for the last will do). growth: width of the dense blocks. clamp, clamp_activation,
    clamp_tightness: see `EnhancedAffineCoupling`. actnorm: an `ActNorm` after each coupling. codec_blocks: couplings at
    the end that only the inverse runs, see `IRN`. constant_scales: the couplings whose s is a constant per channel, by
    their places in the network, which are the numbers in the names of their weights (see `couplings`); lists become
    tuples.
    """

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
        """Number of downsampling levels."""
        return 1 if self.scale == 3 else int(math.log2(self.scale))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        values = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


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


class IRN(SequenceINN):
    """Per level: a Haar transform, then `inv_per_ds` enhanced affine couplings; no permutation.

    Forward maps an image (N, 3, H, W) in [0, 1], H and W multiples of the scale, to
    (N, 3 scale^2, H/scale, W/scale): the first three channels are the small image LR, the rest is z.
    Untrained, it is exactly the Haar transform. Source: Xiao et al. 2020, section 3.2; the dissertation's
    section 3.3.

    With `codec_blocks`, as many couplings more follow, g, which model the codec that LR is stored with: LR is
    taken before them, and the inverse, which is given LR as the codec left it, runs through them. They start as
    the identity, so a network without them is their start. Source: Yang et al. 2023 (SAIN), section 3.

    `through` runs modules in sequence; training may replace it by one that keeps less in memory.
    """

    def __init__(self, config: IRNConfig | None = None) -> None:
        self.config = config = config or IRNConfig()
        self.through: Through = through
        # FrEIA wants a size for its shape arithmetic; the modules themselves take any.
        super().__init__(IMAGE_CHANNELS, config.scale, config.scale)
        for count in config.per_level:
            if config.scale == 3:
                self.append(UnshuffleMatrix, scale=3)
            else:
                self.append(HaarTransform)
            self._append_couplings(count)
        self._codec_start = len(self.module_list)
        self._append_couplings(config.codec_blocks)
        for place in config.constant_scales:
            self.scale_block(place).fix()

    def scale_block(self, place: int) -> DenseBlock:
        """s of the coupling at `place` among the modules."""
        coupling = self.module_list[place]
        assert isinstance(coupling, EnhancedAffineCoupling)
        assert isinstance(coupling.s, DenseBlock)
        return coupling.s

    def _append_couplings(self, count: int) -> None:
        for _ in range(count):
            self.append(
                EnhancedAffineCoupling,
                subnet_constructor=lambda i, o: DenseBlock(i, o, self.config.growth),
                split_len=IMAGE_CHANNELS,
                clamp=self.config.clamp,
                clamp_activation=self.config.clamp_activation,
                clamp_tightness=self.config.clamp_tightness,
            )
            if self.config.actnorm:
                self.append(ActNorm, keep=IMAGE_CHANNELS)

    @property
    def scale(self) -> int:
        """Side of HR over side of LR."""
        return self.config.scale

    @property
    def down_modules(self) -> list[InvertibleModule]:
        """What downscaling runs: every module but those of `codec_blocks`."""
        return list(self.module_list)[: self._codec_start]

    @property
    def codec_modules(self) -> list[InvertibleModule]:
        """The modules of `codec_blocks`."""
        return list(self.module_list)[self._codec_start :]

    def downscale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """HR (N, 3, H, W) -> LR (N, 3, H/s, W/s), unclamped and unquantised, and z (N, 3 s^2 - 3, H/s, W/s).

        With codec blocks, z is what has not yet been through them.
        """
        return _halves(self.through(self.down_modules, x, False))

    def simulate(self, lr: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """LR and z of `downscale` through the codec blocks: what LR is expected to come back as, and the z left."""
        return _halves(self.through(self.codec_modules, torch.cat((lr, z), dim=1), False))

    def recover(self, stored: Tensor, z: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The inverse of `simulate`: LR as stored, and z (None: zeros) -> LR and z of before the codec."""
        z = self.zeros(stored) if z is None else z
        return _halves(self.through(self.codec_modules, torch.cat((stored, z), dim=1), True))

    def enlarge(self, lr: Tensor, z: Tensor) -> Tensor:
        """The inverse of `downscale`: LR and z of before the codec -> HR (N, 3, s h, s w), unclamped."""
        return self.through(self.down_modules, torch.cat((lr, z), dim=1), True)

    def upscale(self, lr: Tensor, z: Tensor | None = None) -> Tensor:
        """LR as stored (N, 3, h, w) and z (None: zeros) -> HR (N, 3, s h, s w), unclamped."""
        return self.enlarge(*self.recover(lr, z))

    def zeros(self, lr: Tensor) -> Tensor:
        """z = 0 for `lr`."""
        n, _, h, w = lr.shape
        return lr.new_zeros(n, IMAGE_CHANNELS * (self.scale**2 - 1), h, w)

    def initialise(self, x: Tensor) -> None:
        """Give every `ActNorm` the statistics that a batch of images (N, 3, H, W) has there."""
        initialise(self, x)

    def dense_blocks(self) -> list[DenseBlock]:
        """Every dense block, in order."""
        return [m for m in self.modules() if isinstance(m, DenseBlock)]

    def set_compute_dtype(self, dtype: torch.dtype | None) -> None:
        """Precision of the convolutions; the trunk keeps the precision of its input."""
        for block in self.dense_blocks():
            block.compute_dtype = dtype


@torch.no_grad()
def initialise(flow: SequenceINN, x: Tensor) -> None:
    """Run `x` through `flow`, setting every `ActNorm` on the way from what reaches it."""
    for module in flow.module_list:
        if isinstance(module, ActNorm):
            module.initialise(x)
        (x,), _ = module((x,), jac=False)


def through(modules: list[InvertibleModule], x: Tensor, rev: bool = False) -> Tensor:
    """Run `x` through the modules one after the other, or through their inverses from the last to the first."""
    for module in reversed(modules) if rev else modules:
        (x,), _ = module((x,), rev=rev, jac=False)
    return x


def _halves(y: Tensor) -> tuple[Tensor, Tensor]:
    return y[:, :IMAGE_CHANNELS], y[:, IMAGE_CHANNELS:]
