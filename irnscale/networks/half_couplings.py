"""The layers of HCFlow's trunk: an image and the rest of the channels, each changed by the other in turn."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from irnscale.networks.dense_block import DenseBlock
from irnscale.networks.flow.actnorm import set_statistics
from irnscale.networks.flow.scales import affine, log_atan
from irnscale.networks.haar import Shape
from irnscale.networks.network import IMAGE_CHANNELS
from irnscale.networks.step import Layer, Plane, Step, step_of_subnets


class Parted(Layer):
    """A layer of a trunk whose channels are an image, the `rest`, and what is `parked` until a finer level."""

    def __init__(self, dims_in: Sequence[Shape], parked: int) -> None:
        super().__init__(dims_in, [])
        self.parked = parked
        self.rest = dims_in[0][0] - IMAGE_CHANNELS - parked

    @property
    def cut(self) -> tuple[Plane, ...]:
        """The planes of the state."""
        planes = (Plane("image", IMAGE_CHANNELS), Plane("rest", self.rest), Plane("parked", self.parked))
        return planes if self.parked else planes[:2]

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Image, rest and what is parked, of no channels where nothing is."""
        image, rest, parked = torch.split(x, [IMAGE_CHANNELS, self.rest, self.parked], dim=1)
        return image, rest, parked


class PartedNorm(Parted):
    """y = (x + bias) exp(log_scale) per channel of image and rest, (N, C, H, W) <-> the same.

    As `pointwise.ActNorm`: an untrained one is the identity, and data sets the rest alone: an image stays one.
    """

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = (), *, parked: int = 0) -> None:
        super().__init__(dims_in, parked)
        self.bias = nn.Parameter(torch.zeros(IMAGE_CHANNELS + self.rest))
        self.log_scale = nn.Parameter(torch.zeros(IMAGE_CHANNELS + self.rest))

    @torch.no_grad()
    def initialise(self, x: Tensor) -> None:
        """Set bias and scale of the rest from a batch (N, C, H, W)."""
        set_statistics(self.parts(x)[1], self.bias[IMAGE_CHANNELS:], self.log_scale[IMAGE_CHANNELS:])

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """Transform `x[0]`; returns ((result,), log-determinant per sample (N,))."""
        image, rest, parked = self.parts(x[0])
        image, rest = self._applied([image, rest], rev)
        log_det = self.log_scale.sum().to(rest.dtype) * (rest.shape[2] * rest.shape[3])
        return (torch.cat((image, rest, parked), dim=1),), (-log_det if rev else log_det).expand(rest.shape[0])

    def steps(self, rev: bool) -> list[Step]:
        """Each place of image and rest alone."""

        def run(changing: Sequence[Tensor], _: Sequence[Tensor]) -> None:
            for plane, made in zip(changing, self._applied(changing, rev), strict=True):
                plane.copy_(made)

        return [Step(run, self.cut, changes=("image", "rest"))]

    def _applied(self, planes: Sequence[Tensor], rev: bool) -> list[Tensor]:
        sizes = [plane.shape[1] for plane in planes]
        found = []
        for x, bias, log_scale in zip(
            planes, torch.split(self.bias, sizes), torch.split(self.log_scale, sizes), strict=True
        ):
            b, s = (p.to(x.dtype).view(1, -1, 1, 1) for p in (bias, log_scale))
            found.append(x * (-s).exp() - b if rev else (x + b) * s.exp())
        return found


class RestFromImage(Parted):
    """rest -> (rest + shift) g(u), with shift and u in turn those of a dense block that sees the image.

    g(u) = exp(0.318 atan(2u)), see `scales.log_atan`. Source: HCFlow's code (Liang et al. 2021).
    """

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = (), *, growth: int, parked: int = 0) -> None:
        super().__init__(dims_in, parked)
        self.subnet = DenseBlock(IMAGE_CHANNELS, 2 * self.rest, growth)

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor | float]:
        """Transform `x[0]`; returns ((result,), log-determinant per sample (N,), or 0.0 without `jac`)."""
        image, rest, parked = self.parts(x[0])
        y, log_det = affine(rest, self.subnet(image), log_atan, rev=rev, jac=jac)
        return (torch.cat((image, y, parked), dim=1),), log_det

    def steps(self, rev: bool) -> list[Step]:
        """From the image to the rest."""

        def run(changing: Sequence[Tensor], results: Sequence[Tensor]) -> None:
            changing[0].copy_(affine(changing[0], results[0], log_atan, rev=rev, jac=False)[0])

        return [step_of_subnets(run, (self.subnet,), planes=self.cut, reads=["image"], changes=["rest"])]


class ImageFromRest(Parted):
    """image -> image + shift, that of a dense block that sees the rest. Source: as `RestFromImage`."""

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = (), *, growth: int, parked: int = 0) -> None:
        super().__init__(dims_in, parked)
        self.subnet = DenseBlock(self.rest, IMAGE_CHANNELS, growth)

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """Transform `x[0]`; returns ((result,), zeros (N,))."""
        image, rest, parked = self.parts(x[0])
        shift = self.subnet(rest).to(image.dtype)
        image = image - shift if rev else image + shift
        return (torch.cat((image, rest, parked), dim=1),), image.new_zeros(image.shape[0])

    def steps(self, rev: bool) -> list[Step]:
        """From the rest to the image."""

        def run(changing: Sequence[Tensor], results: Sequence[Tensor]) -> None:
            changing[0].add_(results[0].to(changing[0].dtype), alpha=-1 if rev else 1)

        return [step_of_subnets(run, (self.subnet,), planes=self.cut, reads=["rest"], changes=["image"])]


class KeptFirst(Layer):
    """After a Haar transform of channels of which the last are parked: all of the others' coefficients come first.

    (N, 4C, H, W) <-> the same; of each of the four groups of C channels, the first `kept`.
    """

    def __init__(self, dims_in: Sequence[Shape], dims_c: Sequence[Shape] = (), *, kept: int) -> None:
        super().__init__(dims_in, list(dims_c))
        channels = dims_in[0][0] // 4
        order = [k * channels + i for part in (range(kept), range(kept, channels)) for k in range(4) for i in part]
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("back", torch.tensor(order).argsort(), persistent=False)

    order: Tensor
    back: Tensor

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """Permute `x[0]`; returns ((result,), zeros (N,))."""
        (x0,) = x
        return (x0.index_select(1, self.back if rev else self.order),), x0.new_zeros(x0.shape[0])
