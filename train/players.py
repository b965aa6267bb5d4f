"""A player in the course of a run: its parameters as one vector, its optimiser, and its part of a step."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from irnscale.train.flat import FlatParameters
from irnscale.train.objective import Player
from irnscale.train.optimizers import make_optimizer, optimizer_tensors
from irnscale.train.parallel import World


class Playing:
    """`player` with gradients, an optimiser and a rate, all on the device."""

    def __init__(self, player: Player, rate: Tensor) -> None:
        self.player, self.rate = player, rate
        self.parameters = FlatParameters(player.parameters)
        self.optimizer = make_optimizer(player.optim, self.parameters, player.undecayed)

    def differentiate(self, terms: dict[str, Tensor], count: int, others: Sequence[Playing], *, keep: bool) -> None:
        """Add to the gradients those of this player's term, summed over its examples, over `count`.

        The gradients of `others` stay as they are. keep: whether one of them still needs what the forward pass left.
        """
        # Not by `inputs` of backward: where activations are recomputed, autograd does not see all parameters.
        kept = [other.parameters.grads.clone() for other in others]
        (terms[self.player.loss].sum() / count).backward(retain_graph=keep)  # type: ignore[no-untyped-call]
        for other, grads in zip(others, kept, strict=True):
            other.parameters.grads.copy_(grads)

    def norm(self, world: World) -> Tensor:
        """Sum the gradients over the processes and bound them; their norm before that of the bound's."""
        grads, optim = self.parameters.grads, self.player.optim
        world.sum_(grads)
        if optim.clip_value_max_g is not None:
            grads.clamp_(-optim.clip_value_max_g, optim.clip_value_max_g)
        norm: Tensor = grads.norm()
        grads.mul_((optim.clip_norm_max_g / (norm + 1e-6)).clamp(max=1))
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """The optimiser's state by name, live; those of the first player, who has no name, as they are."""
        found = optimizer_tensors(self.optimizer, self.parameters)
        return {f"{self.player.name}:{name}": value for name, value in found.items()} if self.player.name else found
