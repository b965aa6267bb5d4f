"""The layers of conditional normalizing flows as FrEIA modules, and the multi-scale flow made of them.

Every layer takes (N, C, H, W) of any H and W (`Squeeze`: even), is `forward((x,), c, rev, jac) -> ((y,), log_det)` as
FrEIA's `InvertibleModule` has it, with log_det per sample, (N,), or 0.0 without `jac`. A condition may have one sample
where x has several, which then share it: what depends on the condition alone is computed once.
"""

from __future__ import annotations

from irnscale.networks.flow.actnorm import ActNorm
from irnscale.networks.flow.conditional import ConditionalFlow
from irnscale.networks.flow.coupling import ConditionalCoupling
from irnscale.networks.flow.injector import AffineInjector
from irnscale.networks.flow.mixing import FactorisedConv, InvertibleConv
from irnscale.networks.flow.multiscale import FlowConfig, Multiscale
from irnscale.networks.flow.prior import bits_per_dimension, standard_normal
from irnscale.networks.flow.scales import LOG_SCALES
from irnscale.networks.flow.split import GaussianSplit
from irnscale.networks.flow.squeeze import Squeeze
from irnscale.networks.flow.standardise import Standardise
from irnscale.networks.flow.subnet import Subnet, ZeroConv

__all__ = [
    "LOG_SCALES",
    "ActNorm",
    "AffineInjector",
    "ConditionalCoupling",
    "ConditionalFlow",
    "FactorisedConv",
    "FlowConfig",
    "GaussianSplit",
    "InvertibleConv",
    "Multiscale",
    "Squeeze",
    "Standardise",
    "Subnet",
    "ZeroConv",
    "bits_per_dimension",
    "standard_normal",
]
