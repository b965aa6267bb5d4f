"""The Triton kernels of a training step, compiled before the first one: all at once, beside one another."""

from __future__ import annotations

import torch

from irnscale.kernels import interpreted, quantize, use_triton
from irnscale.kernels.compiling import Compiled, Launch, compile_all, recorded
from irnscale.networks.network import IMAGE_CHANNELS, Network, RescalingNetwork
from irnscale.train.groups import Crops, Data


def compile_step(net: Network, data: Data, crops: int, device: torch.device) -> Compiled | None:
    """Compile what a step on so many of the data's crops launches; None where no kernel of ours is launched.

    Gradients of `net` are undefined afterwards: zero them. Other networks than those for rescaling, and what is
    between the two passes, are compiled as they are launched.
    """
    on_triton = device.type == "cuda" and not interpreted() and use_triton(torch.empty(0, device=device))
    if not on_triton or not isinstance(net, RescalingNetwork) or not isinstance(data, Crops):
        return None
    return compile_all(launches_of_step(net, crops, data.img_size, device), device)


def launches_of_step(net: RescalingNetwork, crops: int, side: int, device: torch.device) -> list[Launch]:
    """Every launch of both passes and their backward passes, on at most two black crops; nothing is computed."""
    x = torch.zeros((min(crops, 2), IMAGE_CHANNELS, side, side), device=device)
    # one thread, since what is recorded is a thread's own; and CUDA's backward passes have threads of their own
    with recorded() as found, torch.autograd.set_multithreading_enabled(False):
        lr, z = net.downscale(x)
        restored = net.upscale(quantize(lr))
        ends = [restored, lr, z]
        torch.autograd.backward(ends, [torch.ones_like(y) for y in ends])  # in their own layout, as a loss gives them
    return found
