"""The subnets of the couplings: (N, C_in, ...) -> (N, C_out, ...).

Both end in a linear layer. Its weights start at zero, so that a new coupling only scales by g(0); and autograd does not
keep its output, which FrEIA 0.2's AllInOneBlock changes in place.
"""

from __future__ import annotations

from torch import nn


def fully_connected(inputs: int, outputs: int, hidden: int) -> nn.Module:
    """Two linear layers with a ReLU between them, on (N, C)."""
    last = _zero(nn.Linear(hidden, outputs))
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), last)


def convolutional(inputs: int, outputs: int, hidden: int) -> nn.Module:
    """3x3, 1x1 and 3x3 convolutions with ReLU between them, on (N, C, H, W). Kingma and Dhariwal 2018, section 4."""
    last = _zero(nn.Conv2d(hidden, outputs, 3, padding=1))
    first, middle = nn.Conv2d(inputs, hidden, 3, padding=1), nn.Conv2d(hidden, hidden, 1)
    return nn.Sequential(first, nn.ReLU(), middle, nn.ReLU(), last)


def _zero(layer: nn.Linear | nn.Conv2d) -> nn.Module:
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
