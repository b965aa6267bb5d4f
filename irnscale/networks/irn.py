"""The Invertible Rescaling Network, composed with FrEIA."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from FrEIA.framework import SequenceINN
from torch import Tensor

from irnscale.kernels import Activation
from irnscale.networks.coupling import EnhancedAffineCoupling
from irnscale.networks.dense_block import DenseBlock
from irnscale.networks.haar import HaarTransform

IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class IRNConfig:
    """What defines an IRN up to its weights; stored on model cards.

    scale: 2, 4, 8 or 16, one Haar level per factor of two. inv_per_ds: couplings per level.
    growth: width of the dense blocks. clamp, clamp_activation, clamp_tightness: see
    `EnhancedAffineCoupling`.
    """

    scale: int = 4
    inv_per_ds: int = 8
    growth: int = 32
    clamp: float = 1.0
    clamp_activation: Activation = "sigmoid"
    clamp_tightness: float = 1.0

    def __post_init__(self) -> None:
        if self.scale not in (2, 4, 8, 16):
            raise ValueError(f"scale must be 2, 4, 8 or 16, got {self.scale}")
        if self.inv_per_ds < 1:
            raise ValueError(f"inv_per_ds must be at least 1, got {self.inv_per_ds}")

    @property
    def levels(self) -> int:
        """Number of Haar levels."""
        return int(math.log2(self.scale))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class IRN(SequenceINN):
    """Per level: a Haar transform, then `inv_per_ds` enhanced affine couplings; no permutation.

    Forward maps an image (N, 3, H, W) in [0, 1], H and W multiples of the scale, to
    (N, 3 scale^2, H/scale, W/scale): the first three channels are the small image LR, the rest is z.
    Untrained, it is exactly the Haar transform. Source: Xiao et al. 2020, section 3.2; the dissertation's
    section 3.3.
    """

    def __init__(self, config: IRNConfig | None = None) -> None:
        self.config = config = config or IRNConfig()
        # FrEIA wants a size for its shape arithmetic; the modules themselves take any.
        super().__init__(IMAGE_CHANNELS, config.scale, config.scale)
        for _ in range(config.levels):
            self.append(HaarTransform)
            for _ in range(config.inv_per_ds):
                self.append(
                    EnhancedAffineCoupling,
                    subnet_constructor=lambda i, o: DenseBlock(i, o, config.growth),
                    split_len=IMAGE_CHANNELS,
                    clamp=config.clamp,
                    clamp_activation=config.clamp_activation,
                    clamp_tightness=config.clamp_tightness,
                )

    @property
    def scale(self) -> int:
        """Side of HR over side of LR."""
        return self.config.scale

    def downscale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """HR (N, 3, H, W) -> LR (N, 3, H/s, W/s), unclamped and unquantised, and z (N, 3 s^2 - 3, H/s, W/s)."""
        y, _ = self(x, jac=False)
        return y[:, :IMAGE_CHANNELS], y[:, IMAGE_CHANNELS:]

    def upscale(self, lr: Tensor, z: Tensor | None = None) -> Tensor:
        """LR (N, 3, h, w) and z (None: zeros) -> HR (N, 3, s h, s w), unclamped."""
        if z is None:
            n, _, h, w = lr.shape
            z = lr.new_zeros(n, IMAGE_CHANNELS * (self.scale**2 - 1), h, w)
        x, _ = self(torch.cat((lr, z), dim=1), rev=True, jac=False)
        return x  # type: ignore[no-any-return]

    def dense_blocks(self) -> list[DenseBlock]:
        """Every dense block, in order."""
        return [m for m in self.modules() if isinstance(m, DenseBlock)]

    def set_compute_dtype(self, dtype: torch.dtype | None) -> None:
        """Precision of the convolutions; the trunk keeps the precision of its input."""
        for block in self.dense_blocks():
            block.compute_dtype = dtype
