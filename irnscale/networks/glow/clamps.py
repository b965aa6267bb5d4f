"""How a coupling turns its subnet's output u into a positive scale g(u)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

Clamp = Literal["glow", "behrmann", "tanh"]
CLAMPS: tuple[str, ...] = get_args(Clamp)


def log_glow(u: Tensor) -> Tensor:
    """log g(u) of Glow's g(u) = sigmoid(u + 2), between 0 and 1. The dissertation's equation 3.5."""
    return F.logsigmoid(u + 2)


def log_behrmann(u: Tensor) -> Tensor:
    """log g(u) of g(u) = sigmoid(u + 2)/2 + 1/2, between 1/2 and 1, which bounds the inverse's Lipschitz constant.

    Source: the dissertation's table D.1; Behrmann et al. 2021, section 4.
    """
    return torch.log1p(torch.sigmoid(u + 2)) - math.log(2)


LOG_SCALES: dict[str, Callable[[Tensor], Tensor]] = {"glow": log_glow, "behrmann": log_behrmann}
"""By name, without FrEIA's own "tanh", exp(2 tanh(u / 10)), which lives inside its AllInOneBlock."""
