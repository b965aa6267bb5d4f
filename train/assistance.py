"""IRN-SR, approach 1: an assistant flow AN is trained so that a frozen IRN enlarges ordinary small pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from irnscale.errors import UsageError
from irnscale.kernels import quantize
from irnscale.networks.network import AssistingNetwork, RescalingNetwork
from irnscale.train.config import Recipe
from irnscale.train.losses import image_loss
from irnscale.train.objective import Draws, Objective, network_of

if TYPE_CHECKING:
    from irnscale.zoo import Model


def assisted_model(recipe: Recipe) -> Model:
    """The model of `assistant_of`, a name or a .safetensors with its card. Raises ModelError, UsageError."""
    from irnscale.zoo import find

    if not recipe.assistant_of:
        raise UsageError(f"family={recipe.family} assists another model", "name it with assistant_of")
    model = find(recipe.assistant_of)
    if model.card.scale != recipe.scale:
        raise UsageError(
            f"assistant_of={recipe.assistant_of} is a model for scale {model.card.scale}, not {recipe.scale}",
            f"add scale={model.card.scale}",
        )
    return model


class Assistance(Objective):
    """The dissertation's equations A.1 to A.3, each with its weight; L1 is `recon_norm`.

    LR is the bicubic picture in 8 bits, as foreign pictures are; LR' that of the frozen IRN, `base`. A.1 compares
    LR' with AN(LR), A.2 LR with AN^-1(LR'), and A.3 HR with IRN^-1(AN(LR), z).
    """

    net: AssistingNetwork
    makes_lr = False

    def __init__(self, recipe: Recipe, net: AssistingNetwork | None = None) -> None:
        super().__init__(recipe)
        from irnscale.zoo import load_network

        self.net = net if net is not None else network_of(recipe, AssistingNetwork)
        model = assisted_model(recipe)
        self.base_digest = model.card.digest
        # In a tuple, so that it counts neither as a parameter to train nor as state to save.
        self._frozen: tuple[RescalingNetwork] = (load_network(model),)

    @property
    def base(self) -> RescalingNetwork:
        """The frozen IRN."""
        return self._frozen[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.base._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def upscale(self, lr: Tensor) -> Tensor:
        """IRN^-1(AN(LR), 0)."""
        return self._enlarge(self.net.assist(lr), None)

    def _enlarge(self, lr: Tensor, z: Tensor | None) -> Tensor:
        self._match_precision()
        return self.base.upscale(lr, z)

    def _match_precision(self) -> None:
        self.base.set_compute_dtype(self.net.dense_blocks()[0].compute_dtype)

    def forward(self, hr: Tensor, lr_reference: Tensor, draws: Draws) -> dict[str, Tensor]:
        """See `Objective.forward`: those of "a1", "a2" and "a3" that have a weight."""
        recipe = self.recipe
        lr = quantize(lr_reference)
        weights = {"a1": recipe.lambda_a1, "a2": recipe.lambda_a2, "a3": recipe.lambda_a3}
        terms: dict[str, Tensor] = {}
        if recipe.lambda_a1 or recipe.lambda_a2:
            with torch.no_grad():
                self._match_precision()
                made = quantize(self.base.downscale(hr)[0])
        assisted = self.net.assist(lr) if recipe.lambda_a1 or recipe.lambda_a3 else lr
        if recipe.lambda_a1:
            terms["a1"] = image_loss(recipe.recon_norm, assisted, made, recipe.y_channel_usage)
        if recipe.lambda_a2:
            terms["a2"] = image_loss(recipe.recon_norm, self.net.undo(made), lr, recipe.y_channel_usage)
        if recipe.lambda_a3:
            restored = self._enlarge(assisted, draws.get("z"))
            terms["a3"] = image_loss(recipe.recon_norm, restored, hr, recipe.y_channel_usage)
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum(0)
        return {"loss": loss} | terms
