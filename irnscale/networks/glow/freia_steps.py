"""Glow's steps from the blocks that FrEIA 0.2 brings.

Its faults, and what is done about them here:

- ActNorm divides by a standard deviation of zero, and takes its statistics from an inverse pass if that comes first:
  `CheckedActNorm` refuses both. Its `init_data` raises, so it is not used.
- PermuteRandom, AllInOneBlock and scipy draw from numpy's global random state: it is seeded from torch's for the time
  of their construction and put back afterwards, so that torch's seed alone decides.
- AllInOneBlock scales its subnet's output in place, which breaks autograd where the subnet ends in an activation that
  keeps its output: all our subnets end in a linear layer. Its mixing is float32 whatever torch's default is: it is
  converted, but a rotation rounded to float32 has no exact transpose as inverse, so in float64 take a permutation.
- FixedLinearTransform gives y = M x, but Fixed1x1Conv M^T x: with random rotations either will do.
- Coupling blocks hold lambdas and cannot be pickled: only state dicts are saved.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from FrEIA import modules as blocks
from torch import Tensor

from irnscale.networks.families.glow import GlowConfig
from irnscale.networks.flow.mixing import random_rotation
from irnscale.networks.glow.actnorm import channel_statistics
from irnscale.networks.glow.coupling import LOG_SCALES, SubnetConstructor


class CheckedActNorm(blocks.ActNorm):
    """FrEIA's ActNorm, y = x exp(scale) + bias, that refuses what it would divide by zero.

    Raises InputError where a channel of the first batch is constant, RuntimeError if the first pass is an inverse.
    """

    def forward(self, x: tuple[Tensor, ...], rev: bool = False, jac: bool = True) -> tuple[list[Tensor], Tensor]:
        """As FrEIA's: ((result,), log-determinant). See the class for what it refuses."""
        if self.init_on_next_batch:
            if rev:
                raise RuntimeError("ActNorm has no statistics yet: run a batch forward first, or load weights")
            channel_statistics(x[0].detach())
        out: tuple[list[Tensor], Tensor] = super().forward(x, rev=rev, jac=jac)
        return out


def append_freias(inn: Any, config: GlowConfig, subnet: SubnetConstructor) -> None:
    """Append the flow steps of `config` to a SequenceINN; `subnet` makes those of couplings."""
    with numpy_follows_torch():
        for _ in range(config.steps):
            if config.backend == "freia-allinone":
                soft = config.mixing == "rotation"
                inn.append(blocks.AllInOneBlock, permute_soft=soft, subnet_constructor=subnet)
                continue
            inn.append(CheckedActNorm)
            if config.mixing == "permutation":
                inn.append(blocks.PermuteRandom)
            else:
                kind = blocks.FixedLinearTransform if config.subnet == "fc" else blocks.Fixed1x1Conv
                inn.append(kind, M=random_rotation(config.dims[0]))
            # clamp 1 and the logarithm of g as "clamp activation" make its exp(clamp f(u)) Glow's g(u).
            clamp = {"clamp": 1.0, "clamp_activation": LOG_SCALES[config.clamp]}
            inn.append(blocks.AffineCouplingOneSided, **clamp, subnet_constructor=subnet)
    inn.to(torch.get_default_dtype())


@contextmanager
def numpy_follows_torch() -> Iterator[None]:
    """numpy's global random state, seeded from torch's inside and restored behind."""
    state = np.random.get_state()
    np.random.seed(int(torch.randint(2**31, ()).item()))
    try:
        yield
    finally:
        np.random.set_state(state)
