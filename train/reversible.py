"""Backpropagation that recomputes activations through the inverse instead of keeping them.

An invertible network needs no memory of its way: from a module's output its input follows. So the forward
pass keeps only the last output, and the backward pass walks back module by module: invert, run the module
once more with gradients, differentiate. One module's activations are held at a time, whatever the depth, for
one more pass through the network. Source: Gomez et al. 2017 (reversible residual networks), section 3.2.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from irnscale.freia import InvertibleModule


def through_inverses(modules: list[InvertibleModule], x: Tensor, rev: bool = False) -> Tensor:
    """Like `networks.irn.through`; the gradients agree up to the rounding of the inverse."""
    if not torch.is_grad_enabled():
        return _run(modules, x, rev)
    # A function without an input that needs a gradient would get no backward pass, and `x` may be an image.
    anchor = torch.zeros((), device=x.device, requires_grad=True)
    result: Tensor = _ThroughInverses.apply(x, anchor, modules, rev)  # type: ignore[no-untyped-call]
    return result


def _run(modules: list[InvertibleModule], x: Tensor, rev: bool) -> Tensor:
    for module in reversed(modules) if rev else modules:
        (x,), _ = module((x,), rev=rev, jac=False)
    return x


class _ThroughInverses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, modules: list[InvertibleModule], rev: bool) -> Tensor:
        ctx.modules, ctx.rev = modules, rev
        y = _run(modules, x, rev)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (y,) = ctx.saved_tensors
        (grad,) = grads
        rev = ctx.rev
        for module in ctx.modules if rev else reversed(ctx.modules):
            with torch.no_grad():
                (x,), _ = module((y,), rev=not rev, jac=False)
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                (again,), _ = module((x,), rev=rev, jac=False)
            torch.autograd.backward(again, grad)  # the parameters' gradients are added up where they are
            assert x.grad is not None
            y, grad = x.detach(), x.grad
        return (grad if ctx.needs_input_grad[0] else None), None, None, None
