"""The assistant flow of IRN-SR: from ordinary small pictures to those that an IRN would have made."""

from __future__ import annotations

from irnscale.networks.coupling import EnhancedAffineCoupling
from irnscale.networks.dense_block import DenseBlock
from irnscale.networks.families.assistant import AssistantConfig
from irnscale.networks.network import AssistingNetwork
from irnscale.networks.pointwise import ActNorm, ChannelRotation


class AssistantFlow(AssistingNetwork):
    """AN: (N, 3, h, w) <-> (N, 3, h, w), any h and w; forward makes of LR what IRN's inverse should be given.

    `assistant_steps` steps of Glow: activation normalisation, a rotation of the channels, and an affine coupling that
    changes the third channel from the first two by dense blocks; a last rotation brings the colours back to their
    places. Untrained, it is the identity, so that IRN-SR starts as the IRN without it. FrEIA 0.2's AllInOneBlock, of
    which the dissertation made it, works in place on its subnet's output, which breaks the gradient where that
    output is kept, needs scipy, and draws its permutations from numpy's random state.
    Source: the dissertation's appendix A.2, approach 1, and section 3.2.1.
    """

    config: AssistantConfig

    def __init__(self, config: AssistantConfig | None = None) -> None:
        self.config = config = config or AssistantConfig()
        super().__init__()
        for _ in range(config.assistant_steps):
            self.append(ActNorm)
            self.append(ChannelRotation)
            self.append(
                EnhancedAffineCoupling,
                subnet_constructor=lambda i, o: DenseBlock(i, o, config.growth),
                split_len=2,
                log_scale=config.log_scale,
                additive=False,
            )
        self.append(ChannelRotation, by=-config.assistant_steps)
