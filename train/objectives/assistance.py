"""IRN-SR, approach 1: an assistant flow AN is trained so that a frozen IRN enlarges ordinary small pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from irnscale.errors import UsageError
from irnscale.kernels import quantize
from irnscale.networks.network import AssistingNetwork
from irnscale.train.frozen import BesideFrozen, named_base
from irnscale.train.groups import Crops, ObjectiveConfig
from irnscale.train.keys import not_negative, one_of, share
from irnscale.train.losses import NORMS, image_loss
from irnscale.train.objective import Draws
from irnscale.train.objectives.rescaling import latent

if TYPE_CHECKING:
    from irnscale.zoo import Model


@dataclass(frozen=True)
class AssistanceConfig(ObjectiveConfig):
    """assistant_of: name or file of the model before whose inverse the assistant is trained, and `scale` that of it.

    lambda_a1, lambda_a2, lambda_a3: weights of the losses A.1 to A.3, see `Assistance`, which are measured by
    `recon_norm` with `y_channel_usage`. zerosample: the inverse gets z = 0 rather than a sample of N(0, 1).
    """

    name = "assistance"

    assistant_of: str | None = None
    scale: int = 4
    lambda_a1: float = not_negative(0.0)
    lambda_a2: float = not_negative(0.0)
    lambda_a3: float = not_negative(1.0)
    zerosample: bool = True
    recon_norm: str = one_of("charbonnier", tuple(NORMS))
    y_channel_usage: float = share(0.0)

    def __post_init__(self) -> None:
        """Raise UsageError for values that cannot be trained with."""
        super().__post_init__()
        if not (self.lambda_a1 or self.lambda_a2 or self.lambda_a3):
            raise UsageError("lambda_a1, lambda_a2 and lambda_a3 are all 0: nothing would be learnt")

    def base_model(self) -> Model:
        """That of `assistant_of`, a name or a .safetensors with its card. Raises ModelError, UsageError."""
        return named_base("assistant_of", self.assistant_of, self.scale)


class Assistance(BesideFrozen):
    """The dissertation's equations A.1 to A.3, each with its weight; L1 is `recon_norm`.

    LR is the bicubic picture in 8 bits, as foreign pictures are; LR' that of the frozen IRN, `base`. A.1 compares
    LR' with AN(LR), A.2 LR with AN^-1(LR'), and A.3 HR with IRN^-1(AN(LR), z).
    """

    Config = AssistanceConfig
    trains = AssistingNetwork

    config: AssistanceConfig
    data: Crops
    net: AssistingNetwork

    def draws(self, count: int, generator: torch.Generator, epochs: float, fraction: float) -> Draws:
        """See `Objective`: "z" or nothing."""
        return {} if self.config.zerosample else {"z": latent(count, self.scale, self.data.img_size, generator)}

    def upscale(self, lr: Tensor) -> Tensor:
        """LR (N, 3, h, w) -> IRN^-1(AN(LR), 0), (N, 3, s h, s w)."""
        return self._enlarge(self.net.assist(lr), None)

    def _enlarge(self, lr: Tensor, z: Tensor | None) -> Tensor:
        self._match_precision()
        return self.base.upscale(lr, z)

    def _match_precision(self) -> None:
        self.base.set_compute_dtype(self.net.dense_blocks()[0].compute_dtype)

    def forward(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        """See `Objective.forward`: those of "a1", "a2" and "a3" that have a weight."""
        config = self.config
        lr = quantize(lr_reference)
        weights = {"a1": config.lambda_a1, "a2": config.lambda_a2, "a3": config.lambda_a3}
        terms: dict[str, Tensor] = {}
        if config.lambda_a1 or config.lambda_a2:
            with torch.no_grad():
                self._match_precision()
                made = quantize(self.base.downscale(hr)[0])
        assisted = self.net.assist(lr) if config.lambda_a1 or config.lambda_a3 else lr
        if config.lambda_a1:
            terms["a1"] = image_loss(config.recon_norm, assisted, made, config.y_channel_usage)
        if config.lambda_a2:
            terms["a2"] = image_loss(config.recon_norm, self.net.undo(made), lr, config.y_channel_usage)
        if config.lambda_a3:
            restored = self._enlarge(assisted, draws.get("z"))
            terms["a3"] = image_loss(config.recon_norm, restored, hr, config.y_channel_usage)
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum(0)
        return {"loss": loss} | terms


OBJECTIVE = Assistance
