"""The assistants of IRN-SR, which prepare small pictures for the IRN that they were trained for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from irnscale.networks.families.irn import check_couplings
from irnscale.networks.family import Family, NetworkConfig

if TYPE_CHECKING:
    from irnscale.kernels import Activation, LogScale
    from irnscale.networks.assistant import AssistantFlow


@dataclass(frozen=True)
class AssistantConfig(NetworkConfig):
    """What defines an assistant flow up to its weights; stored on model cards.

    assistant_steps: of Glow. growth: width of the dense blocks. clamp, clamp_activation, clamp_tightness: see
    `EnhancedAffineCoupling`.
    """

    kind = "assistant"

    assistant_steps: int = 8
    growth: int = 32
    clamp: float = 1.0
    clamp_activation: Activation = "sigmoid"
    clamp_tightness: float = 1.0

    def __post_init__(self) -> None:
        self.check_at_least_one("assistant_steps")
        check_couplings(self)

    @property
    def log_scale(self) -> LogScale:
        """That of the couplings. Imports torch."""
        from irnscale.kernels import LogScale

        return LogScale(self.clamp, self.clamp_tightness, self.clamp_activation)


def _build(config: AssistantConfig) -> AssistantFlow:
    from irnscale.networks.assistant import AssistantFlow

    return AssistantFlow(config)


FAMILY = Family(
    AssistantConfig,
    "assistance",
    _build,
    "assistant of {base} for super-resolution",
    recipe_key="assistant_of",
)
