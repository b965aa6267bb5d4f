"""Objectives that train a network beside a frozen one: the model that it is for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from torch import Tensor

from irnscale.errors import UsageError
from irnscale.networks.network import Network, RescalingNetwork
from irnscale.train.config import Recipe
from irnscale.train.objective import Objective

if TYPE_CHECKING:
    from irnscale.zoo import Model


def named_base(key: str, name: str | None, scale: int) -> Model:
    """The model that a recipe's key names, or the .safetensors with its card. Raises ModelError, UsageError."""
    from irnscale.zoo import find

    if not name:
        raise UsageError("what is trained is for another model", f"name it with {key}")
    model = find(name)
    if model.card.scale != scale:
        what = f"{key}={name} is a model for scale {model.card.scale}, not {scale}"
        raise UsageError(what, f"add scale={model.card.scale}")
    return model


class BesideFrozen(Objective):
    """An objective with a frozen network for rescaling, `base`: that of its config's `base_model`."""

    def __init__(self, recipe: Recipe, net: Network | None = None) -> None:
        super().__init__(recipe, net)
        from irnscale.zoo import load_network

        model = self.config.base_model()
        assert model is not None
        self.base_digest = model.card.digest
        # In a tuple, so that it counts neither as a parameter to train nor as state to save.
        self._frozen: tuple[RescalingNetwork] = (load_network(model),)

    @property
    def base(self) -> RescalingNetwork:
        """The frozen network, which gets no gradients and is not saved."""
        return self._frozen[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.base._apply(fn)  # type: ignore[no-untyped-call]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self
