"""The enhanced affine coupling of IRN as a FrEIA coupling block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from irnscale.freia import BaseCouplingBlock
from irnscale.kernels import (
    LogScale,
    additive_forward,
    additive_inverse,
    coupling_forward,
    coupling_inverse,
)
from irnscale.kernels.reference import PAPER
from irnscale.networks.dense_block import run_together
from irnscale.networks.haar import Shape
from irnscale.networks.step import Layer, Plane, Step, step_of_subnets

SubnetConstructor = Callable[[int, int], nn.Module]


class EnhancedAffineCoupling(BaseCouplingBlock, Layer):
    """y1 = x1 + p(x2); y2 = x2 exp(log_scale(s(y1))) + t(y1), with x1 the first `split_len` channels.

    (N, C, H, W) <-> (N, C, H, W). `subnet_constructor(in_channels, out_channels)` makes p, s and t; conditions, where
    `dims_c` names any, are appended to each subnet's input. `log_scale` bounds the scale (IRN-2T: tightness 2).
    Source: the dissertation's equation 2.22 and section 3.4.1; Xiao et al. 2020, equation 3.

    Without `additive` there is no p and y1 = x1: Glow's affine coupling.
    """

    p: nn.Module | None

    def __init__(
        self,
        dims_in: Sequence[Shape],
        dims_c: Sequence[Shape] = (),
        *,
        subnet_constructor: SubnetConstructor,
        split_len: int = 3,
        log_scale: LogScale = PAPER,
        additive: bool = True,
    ) -> None:
        super().__init__(
            dims_in,
            list(dims_c),
            clamp=log_scale.clamp,
            clamp_activation=replace(log_scale, clamp=1.0),
            split_len=split_len,
        )
        self.log_scale = log_scale
        extra = self.condition_length
        self.p = subnet_constructor(self.split_len2 + extra, self.split_len1) if additive else None
        self.s: nn.Module = subnet_constructor(self.split_len1 + extra, self.split_len2)
        self.t: nn.Module = subnet_constructor(self.split_len1 + extra, self.split_len2)

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor | float]:
        """Both half-steps of `x[0]`; returns ((result,), log-determinant per sample (N,), or 0.0 without `jac`).

        FrEIA's own does not tell `_coupling2` whether the caller wants the Jacobian, which costs a reduction.
        """
        x1, x2 = torch.split(x[0], [self.split_len1, self.split_len2], dim=1)
        log_det: Tensor | float | None
        if rev:
            x2, log_det = self._coupling2(x2, self._with(c, x1), rev=True, jac=jac)
            x1, _ = self._coupling1(x1, self._with(c, x2), rev=True)
        else:
            x1, _ = self._coupling1(x1, self._with(c, x2))
            x2, log_det = self._coupling2(x2, self._with(c, x1), jac=jac)
        return (torch.cat((x1, x2), dim=1),), log_det

    def _with(self, conditions: Sequence[Tensor], u: Tensor) -> Tensor:
        """A subnet's input: `u` and the conditions."""
        return torch.cat((u, *conditions), dim=1) if self.conditional else u

    def _coupling1(self, x1: Tensor, u2: Tensor, rev: bool = False) -> tuple[Tensor, float]:
        if self.p is None:
            return x1, 0.0
        step = additive_inverse if rev else additive_forward
        return step(x1, self.p(u2)), 0.0

    def _coupling2(self, x2: Tensor, u1: Tensor, rev: bool = False, jac: bool = True) -> tuple[Tensor, Tensor | float]:
        s, t = run_together((self.s, self.t), u1)
        y, log_det = self.affine(x2, s, t, rev=rev, log_det=jac)
        return y, 0.0 if log_det is None else log_det

    def steps(self, rev: bool) -> list[Step]:
        """p from x2 to x1 ("image"), then s and t from x1 to x2 ("rest"); in reverse the other way round."""
        cut = Plane("image", self.split_len1), Plane("rest", self.split_len2)

        def add(changing: Sequence[Tensor], results: Sequence[Tensor]) -> None:
            (additive_inverse if rev else additive_forward)(*changing, *results, inplace=True)

        def affine(changing: Sequence[Tensor], results: Sequence[Tensor]) -> None:
            self.affine(*changing, *results, rev=rev, inplace=True)

        found = [step_of_subnets(affine, (self.s, self.t), planes=cut, reads=["image"], changes=["rest"])]
        if self.p is not None:
            found.insert(0, step_of_subnets(add, (self.p,), planes=cut, reads=["rest"], changes=["image"]))
        return found[::-1] if rev else found

    def affine(
        self, x2: Tensor, s: Tensor, t: Tensor, *, rev: bool, log_det: bool = False, inplace: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """The second half-step from the subnets' raw outputs; for callers that run the subnets themselves.

        s and t may be in reduced precision under a float32 x2; with `inplace`, x2 becomes the result.
        """
        step = coupling_inverse if rev else coupling_forward
        return step(x2, s, t, scale=self.log_scale, log_det=log_det, inplace=inplace)
