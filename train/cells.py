"""A small picture on a coarser grid than that of 8 bits, as training sees it."""

from __future__ import annotations

import torch
from torch import Tensor

from irnscale.kernels import quantize


def quantize_cells(x: Tensor, cells: Tensor) -> Tensor:
    """To the middles of cells of m grey levels each, m = `cells` (N,), for `x` (N, C, H, W) in [0, 1].

    With k = floor(level / m) and level = round(255 x) the result is (m k + (m - 1) / 2) / 255, so that m = 1 is 8 bits
    and m = 2 is 7: what is left where the lowest bits carry something else. x is clamped first; m divides 256, so that
    the last cell ends at 255 too. The gradient is the identity everywhere, as that of `kernels.quantize`.
    """
    m = cells.to(x.dtype).view(-1, 1, 1, 1)
    with torch.no_grad():
        k = ((255 * quantize(x)).round() / m).floor()
        value = (m * k + (m - 1) / 2) / 255
    return value + (x - x.detach())
