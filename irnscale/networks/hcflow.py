"""HCFlow for rescaling: a trunk as IRN's, and a flow for each level that says what the trunk threw away."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irnscale.kernels import haar_forward, haar_inverse
from irnscale.networks.families.hcflow import HCFlowConfig
from irnscale.networks.flow import ConditionalFlow
from irnscale.networks.haar import HaarTransform
from irnscale.networks.half_couplings import ImageFromRest, KeptFirst, Parted, PartedNorm, RestFromImage
from irnscale.networks.network import IMAGE_CHANNELS, CompletingNetwork, RescalingNetwork
from irnscale.networks.rrdb import CHANNELS, RRDBEncoder
from irnscale.networks.step import Layer

FINE = 6
"""Channels on the grid of HR/2 that leave after the first level; as many go on."""
COARSE = 4 * (12 - FINE) - IMAGE_CHANNELS
"""Channels on the grid of LR that leave after the second, beside LR."""


class HCFlow(RescalingNetwork):
    """x4: an image (N, 3, H, W) <-> LR (N, 3, H/4, W/4) and z (N, 45, H/4, W/4), which should be N(0, 1).

    Two levels of a Haar transform and `main_steps` steps, each a normalisation and in turn `RestFromImage` and
    `ImageFromRest`. After the first, half of the channels leave, a1 (N, 6, H/2, W/2), and the others, y1, go on; after
    the second all but LR, a2 (N, 21, H/4, W/4). A `ConditionalFlow` makes noise of a2 given LR, another of a1 given y1
    and the first one's condition. z has the noise of a2 first, then that of a1, its 2 x 2 places as channels.

    Source: Liang et al. 2021 (HCFlow) and their code for rescaling, which trains it with z ~ N(0, 1). Untrained, it is
    the Haar transform.
    """

    config: HCFlowConfig

    def __init__(self, config: HCFlowConfig | None = None) -> None:
        self.config = config = config or HCFlowConfig()
        super().__init__(config.scale)
        for parked in (0, 4 * FINE):
            self.append(HaarTransform)
            if parked:
                self.append(KeptFirst, kept=12 - FINE)
            for step in range(config.main_steps):
                self.append(PartedNorm, parked=parked)
                self.append(ImageFromRest if step % 2 else RestFromImage, growth=config.growth, parked=parked)
        self.tail = Tail(self)

    @property
    def completion(self) -> CompletingNetwork:
        """What makes the inverse's z of LR."""
        return self.tail

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Normalisations of the trunk, then of both flows, get the statistics that a batch has there."""
        for module in self.module_list:
            if isinstance(module, PartedNorm):
                module.initialise(x)
            (x,), _ = module((x,), jac=False)
        self.tail.start(x[:, IMAGE_CHANNELS:], x[:, :IMAGE_CHANNELS])

    def downscale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See `RescalingNetwork`; z is noise."""
        lr, left = super().downscale(x)
        return lr, self.tail.noise_of(left, lr)

    def enlarge(self, lr: Tensor, z: Tensor) -> Tensor:
        """See `RescalingNetwork`; z is noise, zeros are its mode."""
        return super().enlarge(lr, self.tail.complete(lr, z))

    def set_compute_dtype(self, dtype: torch.dtype | None) -> None:
        """Precision of the convolutions of the trunk and of the conditions; the flows keep theirs, as in `SRFlow`."""
        for module in (*self.module_list, self.tail.coarse_encoder, self.tail.fine_encoder):
            for part in module.modules():
                if hasattr(part, "compute_dtype"):
                    setattr(part, "compute_dtype", dtype)  # noqa: B010 - which type checkers take for a parameter

    def coarse_layers(self) -> list[Layer]:
        """Those on the grid of LR, after the second Haar transform and the order of its channels."""
        return [module for module in self.module_list if isinstance(module, Parted) and module.parked]


class Tail(CompletingNetwork):
    """What an `HCFlow` puts between its trunk and noise; it calls the trunk's coarse level, whose weights it has not.

    For the trunk, z is a2 and then the Haar transform of a1, (N, 45, h, w).
    """

    config: HCFlowConfig

    def __init__(self, whole: HCFlow) -> None:
        super().__init__()
        self.config = config = whole.config
        self._whole = (whole,)  # in a tuple: not a part of this module
        flow = {"steps": config.flow_steps, "hidden": config.flow_hidden}
        self.coarse = ConditionalFlow(COARSE, CHANNELS, **flow)
        self.fine = ConditionalFlow(FINE, CHANNELS, **flow)
        self.coarse_encoder = RRDBEncoder(config.rrdb_blocks, config.rrdb_growth, 0)
        fine_given = 12 - FINE + CHANNELS
        self.fine_encoder = RRDBEncoder(config.rrdb_blocks, config.rrdb_growth, 0, channels=fine_given)

    @property
    def support(self) -> int:
        """a2 depends on LR through the first flow, y1 on it through the trunk, a1 on y1 through the second."""
        trunk = sum(step.halo for layer in self._whole[0].coarse_layers() for step in layer.steps(rev=True))
        a2 = self.coarse.support + self.coarse_encoder.support
        return a2 + trunk + -(-(self.fine.support + self.fine_encoder.support) // 2) + 1

    @property
    def channels_alive(self) -> int:
        """On the fine grid, which has four places for each of LR's."""
        return 4 * (8 * CHANNELS + 3 * self.config.flow_hidden + 4 * FINE)

    def complete(self, lr: Tensor, noise: Tensor | None = None) -> Tensor:
        """See `CompletingNetwork`."""
        n, _, height, width = lr.shape
        if noise is None:
            noise = lr.new_zeros(n, COARSE + 4 * FINE, height, width)
        given = self._features(self.coarse_encoder, lr)
        a2 = self.coarse.from_noise(noise[:, :COARSE], given)
        below = self._features(self.fine_encoder, self._fine_given(lr, a2, given))
        a1 = self.fine.from_noise(F.pixel_shuffle(noise[:, COARSE:], 2), below)
        return torch.cat((a2, _haar(a1)), dim=1)

    def noise_of(self, left: Tensor, lr: Tensor) -> Tensor:
        """The inverse of `complete`: what the trunk left beside LR -> noise."""
        a2, a1 = self._parts(left)
        given = self._features(self.coarse_encoder, lr)
        below = self._features(self.fine_encoder, self._fine_given(lr, a2, given))
        made = self.fine.noise_of(a1, below)
        return torch.cat((self.coarse.noise_of(a2, given), F.pixel_unshuffle(made, 2)), dim=1)

    def log_density(self, z: Tensor, lr: Tensor) -> Tensor:
        """See `CompletingNetwork`; of a1 itself, whose Haar transform is a constant away."""
        a2, a1 = self._parts(z)
        given = self._features(self.coarse_encoder, lr)
        below = self._features(self.fine_encoder, self._fine_given(lr, a2, given))
        return self.coarse.log_density(a2, given) + self.fine.log_density(a1, below)

    @torch.no_grad()
    def start(self, z: Tensor, lr: Tensor) -> None:
        """See `CompletingNetwork`: all normalisations get the statistics that a batch has there."""
        a2, a1 = self._parts(z)
        given = self._features(self.coarse_encoder, lr)
        self.coarse.initialise(a2, given)
        self.fine.initialise(a1, self._features(self.fine_encoder, self._fine_given(lr, a2, given)))

    def _fine_given(self, lr: Tensor, a2: Tensor, features: Tensor) -> Tensor:
        """y1, which the trunk's coarse level makes of LR and a2, beside the features of LR, (N, 6 + 64, 2h, 2w)."""
        state = torch.cat((lr, a2, lr.new_zeros(lr.shape[0], 4 * FINE, *lr.shape[2:])), dim=1)
        for layer in reversed(self._whole[0].coarse_layers()):
            (state,), _ = layer((state,), rev=True, jac=False)
        y1 = _haar(state[:, : IMAGE_CHANNELS + COARSE], rev=True)
        return torch.cat((y1, F.interpolate(features, scale_factor=2, mode="nearest")), dim=1)

    @staticmethod
    def _parts(left: Tensor) -> tuple[Tensor, Tensor]:
        return left[:, :COARSE], _haar(left[:, COARSE:], rev=True)

    @staticmethod
    def _features(encoder: nn.Module, x: Tensor) -> Tensor:
        (found,), _ = encoder(x)
        assert isinstance(found, Tensor)
        return found


def _haar(x: Tensor, rev: bool = False) -> Tensor:
    return haar_inverse(x) if rev else haar_forward(x)
