"""How much an IRN stretches, forward and inverse: bounds of every coupling beside what is measured at photographs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from irnscale.columns import aligned
from irnscale.freia import InvertibleModule
from irnscale.kernels import quantize
from irnscale.networks import IRN, DenseBlock
from irnscale.networks.coupling import EnhancedAffineCoupling
from irnscale.networks.haar import HaarTransform
from irnscale.networks.lipschitz import (
    additive_bound,
    affine_bound,
    affine_inverse_bound,
    block_bound,
    convolution_norm,
    jacobian_norm,
    scale_bounds,
)
from irnscale.networks.network import IMAGE_CHANNELS, through
from irnscale.networks.pointwise import ActNorm
from irnscale.networks.unshuffle import UnshuffleMatrix

Say = Callable[[str], None]


@dataclass
class Range:
    """The least and the largest value seen."""

    low: float = math.inf
    high: float = -math.inf

    def see(self, x: Tensor) -> None:
        """Widen the range by the values of `x`."""
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))

    @property
    def largest(self) -> float:
        """The largest absolute value of both ends."""
        return max(abs(self.low), abs(self.high))


@dataclass
class Measured:
    """One coupling. `lip_*`: bounds of its subnets for any input; `conv_norms_*`: of their five convolutions, by power
    iteration on maps of the size they have here.

    `forward` and `inverse`: D.7 times D.9, and D.8 times D.10, over the ranges seen; `*_observed`: the largest singular
    value of its Jacobian at the photographs. x2, s: ranges on the way down; residue, s_inverse: of y2 - t(y1) and s on
    the way up, from the small picture in 8 bits and z = 0. `log_scale`: the range of c g(k s) on the way down.
    """

    place: int
    channels: int
    lip_p: float
    lip_s: float
    lip_t: float
    conv_norms_p: list[float]
    conv_norms_s: list[float]
    conv_norms_t: list[float]
    x2: Range = field(default_factory=Range)
    s: Range = field(default_factory=Range)
    log_scale: Range = field(default_factory=Range)
    residue: Range = field(default_factory=Range)
    s_inverse: Range = field(default_factory=Range)
    forward: float = math.nan
    inverse: float = math.nan
    forward_observed: float = 0.0
    inverse_observed: float = 0.0


@dataclass
class Stretch:
    """A network: its couplings, the bounds of f: HR -> (LR, z) and of its inverse, and the largest singular values of
    their Jacobians at each photograph, J_f at HR, that of the inverse at LR in 8 bits and z = 0.

    `round_trip`: the largest absolute error of f^-1(f(x)) in float32, at the photographs and at uniform noise in [0, 1]
    of the same size (Behrmann et al. 2020 look there for exploding inverses).
    """

    name: str
    clamp: str
    size: int
    couplings: list[Measured]
    forward: float = math.nan
    inverse: float = math.nan
    forward_observed: dict[str, float] = field(default_factory=dict)
    inverse_observed: dict[str, float] = field(default_factory=dict)
    round_trip: float = 0.0
    round_trip_noise: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """The fields as an object for JSON, which has no infinities: they become None."""
        found: dict[str, Any] = _finite(asdict(self))
        return found


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def measure(
    net: IRN,
    pictures: dict[str, Tensor],
    *,
    name: str = "",
    iterations: int = 30,
    seed: int = 0,
    say: Say = lambda _: None,
) -> Stretch:
    """Bounds and observed constants of `net` at pictures (1, 3, H, W) in [0, 1] of one size, on the CPU.

    The network's dtype is that of the pictures. Without the codec blocks. A bound holds for the pictures measured, and
    for all inputs whose values stay in the ranges seen there.
    """
    net.requires_grad_(False)
    modules = net.down_modules
    height, width = next(iter(pictures.values())).shape[2:]
    couplings = _weights(modules, height, width, say)
    config = net.config
    clamp = f"{config.clamp_activation}, c = {config.clamp:g}, k = {config.clamp_tightness:g}"
    result = Stretch(name, clamp, height, list(couplings.values()))
    for number, (picture, x) in enumerate(pictures.items(), 1):
        say(f"{name}: {picture}, {number} of {len(pictures)}")
        made = _down(modules, couplings, x, iterations, seed)
        start = torch.cat((quantize(made[:, :IMAGE_CHANNELS]), torch.zeros_like(made[:, IMAGE_CHANNELS:])), dim=1)
        _up(modules, couplings, start, iterations, seed)
        options: dict[str, Any] = {"iterations": iterations, "seed": seed}
        result.forward_observed[picture] = jacobian_norm(lambda x: through(modules, x), x, **options).value
        result.inverse_observed[picture] = jacobian_norm(
            lambda y: through(modules, y, rev=True), start, **options
        ).value
        result.round_trip = max(result.round_trip, _round_trip(modules, x))
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed + number)).to(x)
        result.round_trip_noise = max(result.round_trip_noise, _round_trip(modules, noise))
    for place, measured in couplings.items():
        module = modules[place]
        assert isinstance(module, EnhancedAffineCoupling)
        measured.forward, measured.inverse = bounds_of(module, measured)
    result.forward = math.prod(_bound(m, couplings.get(k), rev=False) for k, m in enumerate(modules))
    result.inverse = math.prod(_bound(m, couplings.get(k), rev=True) for k, m in enumerate(modules))
    return result


def bounds_of(module: EnhancedAffineCoupling, seen: Measured) -> tuple[float, float]:
    """D.7 times D.9 and D.8 times D.10, over the ranges seen."""
    down = scale_bounds(module.log_scale, seen.s.low, seen.s.high)
    up = scale_bounds(module.log_scale, seen.s_inverse.low, seen.s_inverse.high)
    lips = {"lip_s": seen.lip_s, "lip_t": seen.lip_t}
    additive = additive_bound(seen.lip_p)
    return (
        additive * affine_bound(down, largest=seen.x2.largest, **lips),
        additive * affine_inverse_bound(up, largest=seen.residue.largest, **lips),
    )


def _weights(modules: Sequence[InvertibleModule], height: int, width: int, say: Say) -> dict[int, Measured]:
    """What depends on weights and size alone, by the places of the couplings."""
    found: dict[int, Measured] = {}
    for place, module in enumerate(modules):
        if isinstance(module, HaarTransform):
            height, width = height // 2, width // 2
        if isinstance(module, UnshuffleMatrix):
            height, width = height // module.scale, width // module.scale
        if isinstance(module, EnhancedAffineCoupling):
            say(f"norms of coupling {place}, {height} x {width}")
            blocks = [b for b in (module.p, module.s, module.t) if isinstance(b, DenseBlock)]
            p, s, t = ([convolution_norm(c.weight, height, width).value for c in b.convolutions] for b in blocks)
            lip_p, lip_s, lip_t = (block_bound(b) for b in blocks)
            channels = module.split_len1 + module.split_len2
            found[place] = Measured(place, channels, lip_p, lip_s, lip_t, p, s, t)
    return found


@torch.no_grad()
def _affine_parts(module: EnhancedAffineCoupling, y1: Tensor) -> tuple[Tensor, Tensor]:
    return module.s(y1), module.t(y1)


def _down(
    modules: Sequence[InvertibleModule], couplings: dict[int, Measured], x: Tensor, iterations: int, seed: int
) -> Tensor:
    """`x` through the network, noting ranges and the couplings' Jacobians on the way."""
    for place, module in enumerate(modules):
        if isinstance(module, EnhancedAffineCoupling):
            seen = couplings[place]
            with torch.no_grad():
                assert module.p is not None
                x1, x2 = x[:, : module.split_len1], x[:, module.split_len1 :]
                s, _ = _affine_parts(module, x1 + module.p(x2))
            seen.x2.see(x2)
            seen.s.see(s)
            seen.log_scale.see(module.log_scale(s))
            norm = jacobian_norm(lambda v, m=module: _run(m, v, False), x, iterations=iterations, seed=seed)  # type: ignore[misc]
            seen.forward_observed = max(seen.forward_observed, norm.value)
        with torch.no_grad():
            x = _run(module, x, False)
    return x


def _up(
    modules: Sequence[InvertibleModule], couplings: dict[int, Measured], y: Tensor, iterations: int, seed: int
) -> Tensor:
    """`y` through the inverse, noting the same."""
    for place, module in reversed(list(enumerate(modules))):
        if isinstance(module, EnhancedAffineCoupling):
            seen = couplings[place]
            y1, y2 = y[:, : module.split_len1], y[:, module.split_len1 :]
            s, t = _affine_parts(module, y1)
            seen.residue.see(y2 - t)
            seen.s_inverse.see(s)
            norm = jacobian_norm(lambda v, m=module: _run(m, v, True), y, iterations=iterations, seed=seed)  # type: ignore[misc]
            seen.inverse_observed = max(seen.inverse_observed, norm.value)
        with torch.no_grad():
            y = _run(module, y, True)
    return y


def _run(module: InvertibleModule, x: Tensor, rev: bool) -> Tensor:
    return through([module], x, rev)


def _bound(module: InvertibleModule, seen: Measured | None, *, rev: bool) -> float:
    """Of one module: exact for what is linear."""
    if seen is not None:
        return seen.inverse if rev else seen.forward
    if isinstance(module, HaarTransform):  # orthogonal but for a factor of 1/2
        return 2.0 if rev else 0.5
    if isinstance(module, UnshuffleMatrix):
        matrix = module.matrix.detach().double()
        return float(torch.linalg.matrix_norm(torch.linalg.inv(matrix) if rev else matrix, 2))
    if isinstance(module, ActNorm):
        scales = module.log_scale.detach().double()
        return float((-scales if rev else scales).exp().max())
    raise TypeError(f"no bound is known of {type(module).__name__}")


@torch.no_grad()
def _round_trip(modules: list[InvertibleModule], x: Tensor) -> float:
    return float((through(modules, through(modules, x), rev=True) - x).abs().max())


def table(result: Stretch) -> str:
    """A line per coupling and below, the whole network."""
    lines = [
        ["coupling", "Lip p", "Lip s", "Lip t", "max|x2|", "log-scale", "bound", "seen", "inverse", "seen"],
        *(
            [
                f"{m.place} ({m.channels} channels)",
                *(f"{lip:.3g}" for lip in (m.lip_p, m.lip_s, m.lip_t)),
                f"{m.x2.largest:.3g}",
                f"{m.log_scale.low:.2f} .. {m.log_scale.high:.2f}",
                f"{m.forward:.3g}",
                f"{m.forward_observed:.3g}",
                f"{m.inverse:.3g}",
                f"{m.inverse_observed:.3g}",
            ]
            for m in result.couplings
        ),
    ]
    down, up = result.forward_observed.values(), result.inverse_observed.values()
    whole = [
        ["", "bound", "seen, mean", "largest"],
        ["f", f"{result.forward:.3g}", f"{sum(down) / len(down):.4g}", f"{max(down):.4g}"],
        ["f^-1", f"{result.inverse:.3g}", f"{sum(up) / len(up):.4g}", f"{max(up):.4g}"],
    ]
    head = f"{result.name}: {result.clamp}; {len(down)} photographs, {result.size} x {result.size} pixels of each"
    trip = (
        f"largest error of f^-1(f(x)): {result.round_trip:.3g} at the photographs, {result.round_trip_noise:.3g} at "
        "uniform noise"
    )
    return "\n".join([head, *aligned(lines, words=1), "", *aligned(whole, words=1), trip])
