"""What the networks of all families have in common, one class for each task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from irnscale.freia import InvertibleModule, SequenceINN
from irnscale.networks.config import NetworkConfig
from irnscale.networks.dense_block import DenseBlock
from irnscale.networks.pointwise import ActNorm
from irnscale.networks.step import Program, program_of

IMAGE_CHANNELS = 3
Through = Callable[[list[InvertibleModule], Tensor, bool], Tensor]


class Network(nn.Module):
    """A network of any family: its configuration, its precision, and what of its weights may be missing elsewhere."""

    config: NetworkConfig
    reversible = False
    """Whether training can recompute its activations through inverses, by another `through`."""
    resizable: tuple[str, ...] = ()
    """Beginnings of the names of weights that stay untrained where those to start from have another shape."""

    @property
    def scale(self) -> int:
        """Side of the large picture over side of the small one."""
        return self.config.scale

    def set_compute_dtype(self, dtype: torch.dtype | None) -> None:
        """Precision of the convolutions (None: that of the weights); results keep the precision of the input."""
        for module in self.modules():
            if hasattr(module, "compute_dtype"):
                setattr(module, "compute_dtype", dtype)  # noqa: B010 - which type checkers take for a parameter

    def set_training_dtype(self, dtype: torch.dtype | None) -> None:
        """`set_compute_dtype` while weights are learnt, when a flow's inverse is not needed."""
        self.set_compute_dtype(dtype)

    def identities(self) -> list[nn.Module]:
        """Modules that do nothing while untrained, so that weights to start from may lack theirs."""
        return [module for module in self.modules() if isinstance(module, ActNorm)]

    def initialise(self, x: Tensor) -> None:
        """Set what is set from data before training; x: a batch of large pictures, (N, 3, H, W) in [0, 1]."""

    def adopt(self, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
        """Weights to start from, `tensors` of a file, and whether they leave nothing that `initialise` should set."""
        return tensors, True


class Flow(SequenceINN, Network):
    """Invertible modules one after the other. `channels`, `side`: of an input, for FrEIA's arithmetic of shapes alone.

    `through` runs modules in sequence; training may replace it by one that keeps less in memory.
    """

    module_list: nn.ModuleList
    if TYPE_CHECKING:

        def append(self, module_class: type[InvertibleModule], **arguments: Any) -> None:
            """FrEIA's own: one more module, made for what comes out of those before."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__(channels, side, side)
        self.through: Through = through

    @property
    def down_modules(self) -> list[InvertibleModule]:
        """What the forward direction runs: every module."""
        return list(self.module_list)

    def program(self, rev: bool) -> Program:
        """What the engine runs: in reverse all of the network, forwards `down_modules`."""
        layers: list[Any] = [*self.module_list][::-1] if rev else self.down_modules
        return program_of(layers, rev=rev, scale=self.scale, channels=IMAGE_CHANNELS)

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Give every `ActNorm` the statistics that a batch of images (N, 3, H, W) has there."""
        for module in self.module_list:
            if isinstance(module, ActNorm):
                module.initialise(x)
            (x,), _ = module((x,), jac=False)

    def dense_blocks(self) -> list[DenseBlock]:
        """Every dense block, in order."""
        return [m for m in self.modules() if isinstance(m, DenseBlock)]


class RescalingNetwork(Flow):
    """Task "rescaling". Forward maps an image (N, 3, H, W) in [0, 1], H and W multiples of the scale, to
    (N, 3 scale^2, H/scale, W/scale): the first three channels are the small image LR, the rest is z.
    """

    reversible = True

    def __init__(self, scale: int) -> None:
        super().__init__(IMAGE_CHANNELS, scale)

    @property
    def completion(self) -> CompletingNetwork | None:
        """What makes the z that `program` in reverse is given, of LR and of noise; None: noise itself, or zeros."""
        return None

    @property
    def codec_modules(self) -> list[InvertibleModule]:
        """Modules after `down_modules` that model the codec which LR is stored with."""
        return []

    def identities(self) -> list[nn.Module]:
        """See `Network`; those that model the codec too."""
        return [*super().identities(), *self.codec_modules]

    def downscale(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """HR (N, 3, H, W) -> LR (N, 3, H/s, W/s), unclamped and unquantised, and z (N, 3 s^2 - 3, H/s, W/s).

        With codec modules, z is what has not yet been through them.
        """
        return _halves(self.through(self.down_modules, x, False))

    def simulate(self, lr: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """LR and z of `downscale` through the codec modules: what LR is expected to come back as, and the z left."""
        return _halves(self.through(self.codec_modules, torch.cat((lr, z), dim=1), False))

    def recover(self, stored: Tensor, z: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The inverse of `simulate`: LR as stored, and z (None: zeros) -> LR and z of before the codec."""
        z = self.zeros(stored) if z is None else z
        return _halves(self.through(self.codec_modules, torch.cat((stored, z), dim=1), True))

    def enlarge(self, lr: Tensor, z: Tensor) -> Tensor:
        """The inverse of `downscale`: LR and z of before the codec -> HR (N, 3, s h, s w), unclamped."""
        return self.through(self.down_modules, torch.cat((lr, z), dim=1), True)

    def upscale(self, lr: Tensor, z: Tensor | None = None) -> Tensor:
        """LR as stored (N, 3, h, w) and z (None: zeros) -> HR (N, 3, s h, s w), unclamped."""
        return self.enlarge(*self.recover(lr, z))

    def zeros(self, lr: Tensor) -> Tensor:
        """z = 0 for `lr` (N, 3, h, w): (N, 3 s^2 - 3, h, w) of its dtype."""
        n, _, h, w = lr.shape
        return lr.new_zeros(n, IMAGE_CHANNELS * (self.scale**2 - 1), h, w)


class AssistingNetwork(Flow):
    """Task "assistance": (N, 3, h, w) <-> (N, 3, h, w), any h and w; forward makes of a foreign small picture what the
    inverse of another network should be given.
    """

    def __init__(self) -> None:
        super().__init__(IMAGE_CHANNELS, 1)

    @property
    def scale(self) -> int:
        """1: the small picture keeps its size."""
        return 1

    def assist(self, lr: Tensor) -> Tensor:
        """A foreign small picture (N, 3, h, w) in [0, 1] -> AN(LR), what the inverse of the other network is given."""
        return self.through(list(self.module_list), lr, False)

    def undo(self, lr: Tensor) -> Tensor:
        """The inverse of `assist`: LR' (N, 3, h, w) -> AN^-1(LR')."""
        return self.through(list(self.module_list), lr, True)


class LocalNetwork(Network):
    """A network whose result depends on so many pixels of a small picture around each place and no others."""

    @property
    def support(self) -> int:
        """Small pixels on each side that a result depends on."""
        raise NotImplementedError

    @property
    def channels_alive(self) -> int:
        """Channels of features that are in memory at once, at most, for each small pixel."""
        raise NotImplementedError


class CompletingNetwork(LocalNetwork):
    """Task "completion": a distribution over z, the part that the network for rescaling of another model throws away.

    z is (N, 3 scale^2 - 3, h, w), as the inverse of that network takes it (`RescalingNetwork.upscale`), given its LR
    (N, 3, h, w) as it was stored, any h and w.
    """

    compute_dtype: torch.dtype | None = None
    """What `set_compute_dtype` was given."""

    def complete(self, lr: Tensor, noise: Tensor | None = None) -> Tensor:
        """LR and noise, of N(0, 1) and the shape of z -> z. None: without, the mode of the noise."""
        raise NotImplementedError

    def log_density(self, z: Tensor, lr: Tensor) -> Tensor:
        """log p(z | LR) in nats, (N,)."""
        raise NotImplementedError

    def start(self, z: Tensor, lr: Tensor) -> None:
        """Set what is set from data before training."""
        raise NotImplementedError


class SuperResolutionNetwork(LocalNetwork):
    """Task "super-resolution": (N, 3, h, w) in [0, 1] -> (N, 3, scale h, scale w), any h and w."""


class SamplingNetwork(SuperResolutionNetwork):
    """A network for super-resolution that knows many large pictures for a small one: its call gives the likeliest
    noise's, `enlarge` one for each seed.
    """

    @property
    def channels_per_sample(self) -> int:
        """`channels_alive` for each further sample of a picture."""
        raise NotImplementedError

    multiple = 1
    """What the sides of small pictures are padded to; where tiles begin must be multiples of it."""

    def enlarge(
        self, lr: Tensor, *, temperature: float = 0.0, seeds: Sequence[int] = (0,), origin: tuple[int, int] = (0, 0)
    ) -> Tensor:
        """LR (1, 3, h, w), any h and w -> a sample for each seed, (len(seeds), 3, scale h, scale w), unclamped.

        Noise of standard deviation `temperature`; where `lr` was cut at `origin` (y, x) out of a larger picture, the
        noise of that place. The conditions are made once for all samples. At temperature 0, the mode of the latents,
        all are alike, and the first is what a single seed gives.
        """
        if lr.shape[0] != 1:
            raise ValueError(f"one picture at a time, got {lr.shape[0]}")
        height, width = lr.shape[2:]
        padded = pad_to(lr, self.multiple)
        conditions = self.encoded(padded)
        made = [self.latents(padded, seed=seed, temperature=temperature, origin=origin) for seed in seeds]
        result = self.decode([torch.cat(parts) for parts in zip(*made, strict=True)], conditions)
        return result[..., : height * self.scale, : width * self.scale]

    def forward(self, lr: Tensor) -> Tensor:
        """The mode: LR (N, 3, h, w), any h and w -> (N, 3, scale h, scale w), all latents zero."""
        height, width = lr.shape[2:]
        padded = pad_to(lr, self.multiple)
        result = self.decode(self.latents(padded, seed=0, temperature=0.0), self.encoded(padded))
        return result[..., : height * self.scale, : width * self.scale]

    def latents(
        self, lr: Tensor, *, seed: int, temperature: float = 1.0, origin: tuple[int, int] = (0, 0)
    ) -> list[Tensor]:
        """Noise for each latent of `lr` (N, 3, h, w), h and w multiples of `multiple`, as `enlarge` draws it."""
        raise NotImplementedError

    def encode(self, hr: Tensor, conditions: Sequence[Tensor]) -> list[Tensor]:
        """HR (N, 3, scale h, scale w) -> the latents (N, C, ., .) that `decode` makes it of, given the conditions of
        LR.

        Of standard normal density where HR is what the network was taught; all are needed to invert. A place of a
        latent depends on `support` small pixels around it.
        """
        raise NotImplementedError

    def decode(self, latents: Sequence[Tensor], conditions: Sequence[Tensor]) -> Tensor:
        """The inverse of `encode`, unclamped."""
        raise NotImplementedError

    def features(self, lr: Tensor) -> list[Tensor]:
        """What can be pretrained, and frozen at first: LR (N, 3, h, w), h and w multiples of `multiple` -> features."""
        raise NotImplementedError

    def conditions(self, features: Sequence[Tensor]) -> list[Tensor]:
        """`features` -> what `log_density` is given of LR."""
        raise NotImplementedError

    def encoded(self, lr: Tensor) -> list[Tensor]:
        """`features` and then `conditions` of LR (N, 3, h, w)."""
        return self.conditions(self.features(lr))

    def log_density(self, hr: Tensor, conditions: Sequence[Tensor]) -> Tensor:
        """log p(HR | LR) in nats, (N,), of HR (N, 3, scale h, scale w), given the conditions of LR."""
        raise NotImplementedError

    def start(self, hr: Tensor, conditions: Sequence[Tensor]) -> None:
        """Set what is set from data before training, from a batch as `log_density` is given it."""
        raise NotImplementedError


def pad_to(lr: Tensor, multiple: int) -> Tensor:
    """(N, C, h, w) with rows below and columns at the right up to a multiple: reflected, a single one repeated."""
    for axis in (2, 3):
        size = lr.shape[axis]
        more = [max(0, size - 2 - k) for k in range(-size % multiple)]
        if more:
            lr = torch.cat((lr, lr.index_select(axis, torch.tensor(more, device=lr.device))), dim=axis)
    return lr


def through(modules: list[InvertibleModule], x: Tensor, rev: bool = False) -> Tensor:
    """Run `x` through the modules one after the other, or through their inverses from the last to the first."""
    for module in reversed(modules) if rev else modules:
        (x,), _ = module((x,), rev=rev, jac=False)
    return x


def _halves(y: Tensor) -> tuple[Tensor, Tensor]:
    return y[:, :IMAGE_CHANNELS], y[:, IMAGE_CHANNELS:]
