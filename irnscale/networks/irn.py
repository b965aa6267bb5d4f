"""The Invertible Rescaling Network, composed with FrEIA."""

from __future__ import annotations

from irnscale.freia import InvertibleModule
from irnscale.networks.coupling import EnhancedAffineCoupling
from irnscale.networks.dense_block import DenseBlock
from irnscale.networks.families.irn import IRNConfig
from irnscale.networks.haar import HaarTransform
from irnscale.networks.network import IMAGE_CHANNELS, RescalingNetwork
from irnscale.networks.pointwise import ActNorm
from irnscale.networks.unshuffle import UnshuffleMatrix


class IRN(RescalingNetwork):
    """Per level: a Haar transform, then `inv_per_ds` enhanced affine couplings; no permutation.

    Forward maps an image (N, 3, H, W) in [0, 1], H and W multiples of the scale, to
    (N, 3 scale^2, H/scale, W/scale): the first three channels are the small image LR, the rest is z.
    Untrained, it is exactly the Haar transform. Source: Xiao et al. 2020, section 3.2; the dissertation's
    section 3.3.

    With `codec_blocks`, as many couplings more follow, g, which model the codec that LR is stored with: LR is
    taken before them, and the inverse, which is given LR as the codec left it, runs through them. They start as
    the identity, so a network without them is their start. Source: Yang et al. 2023 (SAIN), section 3.
    """

    config: IRNConfig

    def __init__(self, config: IRNConfig | None = None) -> None:
        self.config = config = config or IRNConfig()
        super().__init__(config.scale)
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
                log_scale=self.config.log_scale,
            )
            if self.config.actnorm:
                self.append(ActNorm, keep=IMAGE_CHANNELS)

    @property
    def down_modules(self) -> list[InvertibleModule]:
        """What downscaling runs: every module but those of `codec_blocks`."""
        return list(self.module_list)[: self._codec_start]

    @property
    def codec_modules(self) -> list[InvertibleModule]:
        """The couplings of `codec_blocks`, which the inverse alone runs."""
        return list(self.module_list)[self._codec_start :]
