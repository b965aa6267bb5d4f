"""The paper's way of running IRN, kept for comparison only.

Plain float32, contiguous NCHW, the whole image at once, Haar as a grouped convolution, dense blocks that
concatenate with `torch.cat` and s, t and p one after the other: what the authors' code does
(pkuxmq/Invertible-Image-Rescaling, models/modules). Same weights, same result.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from irnscale.networks import DenseBlock, EnhancedAffineCoupling, HaarTransform
from irnscale.networks.network import RescalingNetwork

Dense = Callable[[nn.Module, Tensor], Tensor]
"""A way to run a dense block on (N, C, H, W)."""

_FILTERS = torch.tensor(
    [
        [[1.0, 1.0], [1.0, 1.0]],
        [[1.0, -1.0], [1.0, -1.0]],
        [[1.0, 1.0], [-1.0, -1.0]],
        [[1.0, -1.0], [-1.0, 1.0]],
    ]
)


def _haar(x: Tensor, rev: bool) -> Tensor:
    channels = x.shape[1] // 4 if rev else x.shape[1]
    weight = _FILTERS[:, None].to(x.device).repeat(channels, 1, 1, 1)
    if rev:
        n, _, h, w = x.shape
        bands = x.reshape(n, 4, channels, h, w).transpose(1, 2).reshape(n, 4 * channels, h, w)
        return F.conv_transpose2d(bands, weight, stride=2, groups=channels)
    y = F.conv2d(x, weight, stride=2, groups=channels) / 4
    n, _, h, w = y.shape
    return y.reshape(n, channels, 4, h, w).transpose(1, 2).reshape(n, 4 * channels, h, w)


def _dense(block: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(block, DenseBlock)
    features = [x]
    for k, conv in enumerate(block.convolutions):
        y = F.conv2d(torch.cat(features, 1), conv.weight, conv.bias, padding=1)
        if k == 4:
            return y
        features.append(F.leaky_relu(y, 0.2))
    raise AssertionError("a dense block has five convolutions")


@torch.inference_mode()
def run_paper(net: RescalingNetwork, x: Tensor, *, rev: bool = False) -> Tensor:
    """Forward or inverse of `net` (float32, contiguous weights) on the whole of `x`, the paper's way."""
    return paper_pass(net, x, rev=rev)


def paper_pass(net: RescalingNetwork, x: Tensor, *, rev: bool = False, dense: Dense = _dense) -> Tensor:
    """As `run_paper`, with gradients: image (N, 3, H, W) -> (N, 3 s^2, H/s, W/s), or back with `rev`."""
    modules = list(net.module_list)
    for module in reversed(modules) if rev else modules:
        if isinstance(module, HaarTransform):
            x = _haar(x, rev)
            continue
        assert isinstance(module, EnhancedAffineCoupling)
        assert module.p is not None
        x1, x2 = x[:, :3], x[:, 3:]
        if not rev:
            y1 = x1 + dense(module.p, x2)
            s = module.clamp * (torch.sigmoid(dense(module.s, y1)) * 2 - 1)
            y2 = x2.mul(torch.exp(s)) + dense(module.t, y1)
        else:
            s = module.clamp * (torch.sigmoid(dense(module.s, x1)) * 2 - 1)
            y2 = (x2 - dense(module.t, x1)).div(torch.exp(s))
            y1 = x1 - dense(module.p, y2)
        x = torch.cat((y1, y2), 1)
    return x


class CompiledPaper:
    """The paper's network as torch makes it fast by itself: channels-last, bfloat16 by autocast, torch.compile.

    The dense blocks, where the time goes, are what is compiled, once for each of their few shapes.
    """

    def __init__(self, net: RescalingNetwork, backend: str = "inductor") -> None:
        os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # Triton 3.9 wants it said for kernels that torch makes
        self._net = copy.deepcopy(net).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._dense: Dense = torch.compile(_dense, dynamic=False, backend=backend)

    @torch.no_grad()
    def __call__(self, x: Tensor, *, rev: bool = False) -> Tensor:
        """As `run_paper`, in bfloat16."""
        with torch.autocast(x.device.type, torch.bfloat16):
            return paper_pass(self._net, x.contiguous(memory_format=torch.channels_last), rev=rev, dense=self._dense)
