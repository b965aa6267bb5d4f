"""The assistant flow of IRN-SR: from ordinary small pictures to those that an IRN would have made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from irnscale.freia import InvertibleModule, SequenceINN
from irnscale.kernels import Activation
from irnscale.networks.coupling import EnhancedAffineCoupling
from irnscale.networks.dense_block import DenseBlock
from irnscale.networks.irn import IMAGE_CHANNELS, Through, through
from irnscale.networks.pointwise import ActNorm, ChannelRotation


@dataclass(frozen=True)
class AssistantConfig:
    """What defines an assistant flow up to its weights; stored on model cards.

    assistant_steps: of Glow. growth: width of the dense blocks. clamp, clamp_activation, clamp_tightness: see
    `EnhancedAffineCoupling`.
    """

    assistant_steps: int = 8
    growth: int = 32
    clamp: float = 1.0
    clamp_activation: Activation = "sigmoid"
    clamp_tightness: float = 1.0

    def __post_init__(self) -> None:
        if self.assistant_steps < 1:
            raise ValueError(f"assistant_steps must be at least 1, got {self.assistant_steps}")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class AssistantFlow(SequenceINN):
    """AN: (N, 3, h, w) <-> (N, 3, h, w), any h and w; forward makes of LR what IRN's inverse should be given.

    `assistant_steps` steps of Glow: activation normalisation, a rotation of the channels, and an affine coupling that
    changes the third channel from the first two by dense blocks; a last rotation brings the colours back to their
    places. Untrained, it is the identity, so that IRN-SR starts as the IRN without it. FrEIA 0.2's AllInOneBlock, of
    which the dissertation made it, works in place on its subnet's output, which breaks the gradient where that
    output is kept, needs scipy, and draws its permutations from numpy's random state. `through`: see `IRN`.
    Source: the dissertation's appendix A.2, approach 1, and section 3.2.1.
    """

    scale = 1

    def __init__(self, config: AssistantConfig | None = None) -> None:
        self.config = config = config or AssistantConfig()
        self.through: Through = through
        super().__init__(IMAGE_CHANNELS, 1, 1)
        for _ in range(config.assistant_steps):
            self.append(ActNorm)
            self.append(ChannelRotation)
            self.append(
                EnhancedAffineCoupling,
                subnet_constructor=lambda i, o: DenseBlock(i, o, config.growth),
                split_len=2,
                clamp=config.clamp,
                clamp_activation=config.clamp_activation,
                clamp_tightness=config.clamp_tightness,
                additive=False,
            )
        self.append(ChannelRotation, by=-config.assistant_steps)

    @property
    def down_modules(self) -> list[InvertibleModule]:
        """Every module: what the executor runs forwards."""
        return list(self.module_list)

    def assist(self, lr: Tensor) -> Tensor:
        """AN(LR)."""
        return self.through(list(self.module_list), lr, False)

    def undo(self, lr: Tensor) -> Tensor:
        """AN^-1(LR')."""
        return self.through(list(self.module_list), lr, True)

    def dense_blocks(self) -> list[DenseBlock]:
        """Every dense block, in order."""
        return [m for m in self.modules() if isinstance(m, DenseBlock)]

    def set_compute_dtype(self, dtype: torch.dtype | None) -> None:
        """Precision of the convolutions; the trunk keeps the precision of its input."""
        for block in self.dense_blocks():
            block.compute_dtype = dtype
