"""The enhanced affine coupling's second half-step: one pass forward, one inverse, one backward each.

y = x exp(sigma) + t with sigma = c g(k s) (dissertation 2.22, clamps of 3.4.1; `reference.log_scale`).
With G the gradient of y and L that of the log-determinant:
    forward:  dx = G exp(sigma), dt = G,  ds = (G x exp(sigma) + L) sigma'
    inverse:  dy = G exp(-sigma), dt = -dy, ds = -(G x + L) sigma', x being the result
sigma is recomputed in the backward pass from s, which autograd holds anyway. The inverse keeps its float32
result for the backward pass rather than y and t, since the next step of the network holds the result too;
a result in reduced precision would be one rounding too many, so there x is recomputed from y and t.
Operands may differ in dtype (a float32 trunk with bfloat16 subnets): everything is computed in float32 and
each result has the dtype of the operand it belongs to.
"""

# ruff: noqa: N803  (compile-time arguments and sizes in capitals, as everywhere in Triton)
from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from irnscale.kernels.compiling import launch
from irnscale.kernels.dispatch import REDUCED, count
from irnscale.kernels.reference import PAPER, LogScale
from irnscale.kernels.tiling import Tiling, arithmetic, at, jit, on_device, plan, read, sum_rows, tile_index, write


@jit
def _tanh(v: tl.tensor) -> Any:
    """tanh without overflow and, in float32, without cancellation near zero."""
    # Triton's tanh comes from libdevice, which its interpreter lacks.
    size = tl.abs(v)
    e = tl.exp(-2.0 * size)
    far = (1.0 - e) / (1.0 + e)
    if v.dtype == tl.float64:
        return tl.where(v < 0, -far, far)
    else:
        # Taylor series; the next term is below 1e-8 of the result at 1/4.
        q = v * v
        near = v * (1.0 + q * (-1 / 3 + q * (2 / 15 + q * (-17 / 315 + q * (62 / 2835)))))
        return tl.where(size < 0.25, near, tl.where(v < 0, -far, far))


@jit
def _log_scale(s: tl.tensor, CLAMP: tl.constexpr, TIGHTNESS: tl.constexpr, ACTIVATION: tl.constexpr) -> Any:
    """sigma = c g(k s) and its derivative by s."""
    u = s * TIGHTNESS
    if ACTIVATION == "tanh":
        g = _tanh(u)
        slope = CLAMP * TIGHTNESS * (1.0 - g * g)
    else:
        if ACTIVATION == "proposal1":
            u += tl.where(u > 0, 1.0, tl.where(u < 0, 0.0, 0.5))
        g = _tanh(0.5 * u)
        slope = 0.5 * CLAMP * TIGHTNESS * (1.0 - g * g)
    return CLAMP * g, slope


@jit
def _apply(
    x: tl.tensor,
    s: tl.tensor,
    t: tl.tensor,
    y: tl.tensor,
    partial: tl.tensor,
    C: tl.constexpr,
    H: tl.tensor,
    W: tl.tensor,
    tiles: tl.tensor,
    xs: tl.tuple,
    ss: tl.tuple,
    ts: tl.tuple,
    ys: tl.tuple,
    CLAMP: tl.constexpr,
    TIGHTNESS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    INVERSE: tl.constexpr,
    LOG_DET: tl.constexpr,
    ACC: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    UNIT: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
) -> None:
    """y = x exp(sigma) + t, or (x - t) exp(-sigma); one partial sum of +-sigma per tile."""
    place, inside, whole = tile_index(C, H, W, tiles, CHANNELS_LAST, GROUP, ROWS, COLS)
    xv = read(at(x, xs, place, CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    sv = read(at(s, ss, place, CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    tv = read(at(t, ts, place, CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    sigma, _ = _log_scale(sv, CLAMP, TIGHTNESS, ACTIVATION)
    if INVERSE:
        sigma = -sigma
        yv = (xv - tv) * tl.exp(sigma)
    else:
        yv = xv * tl.exp(sigma) + tv
    write(at(y, ys, place, CHANNELS_LAST, UNIT, GROUP), yv, inside, whole)
    if LOG_DET:
        # Proposal #1 is not zero at s = 0, so lanes outside the tensor must be silenced here.
        kept = tl.where(inside, sigma, 0.0)
        tl.store(partial + tl.program_id(0), tl.sum(tl.sum(kept, axis=1), axis=0))


@jit
def _backward(
    x: tl.tensor,
    s: tl.tensor,
    t: tl.tensor,
    grad: tl.tensor,
    grad_log_det: tl.tensor,
    dx: tl.tensor,
    ds: tl.tensor,
    dt: tl.tensor,
    log_det_stride: tl.tensor,
    C: tl.constexpr,
    H: tl.tensor,
    W: tl.tensor,
    tiles: tl.tensor,
    xs: tl.tuple,
    ss: tl.tuple,
    ts: tl.tuple,
    gs: tl.tuple,
    dxs: tl.tuple,
    dss: tl.tuple,
    dts: tl.tuple,
    CLAMP: tl.constexpr,
    TIGHTNESS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    INVERSE: tl.constexpr,
    LOG_DET: tl.constexpr,
    WRITE_DT: tl.constexpr,
    RECOMPUTE: tl.constexpr,
    ACC: tl.constexpr,
    CHANNELS_LAST: tl.constexpr,
    UNIT: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
) -> None:
    """The gradients of the module's docstring.

    `x` is the operand that is multiplied by exp(sigma): the forward's input, the inverse's result, or, with
    RECOMPUTE, the inverse's input, from which the result is made with `t`.
    """
    place, inside, whole = tile_index(C, H, W, tiles, CHANNELS_LAST, GROUP, ROWS, COLS)
    xv = read(at(x, xs, place, CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    sv = read(at(s, ss, place, CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    g = read(at(grad, gs, place, CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
    sigma, slope = _log_scale(sv, CLAMP, TIGHTNESS, ACTIVATION)
    if INVERSE:
        scale = tl.exp(-sigma)
        if RECOMPUTE:
            tv = read(at(t, ts, place, CHANNELS_LAST, UNIT, GROUP), inside, whole).to(ACC)
            xv = (xv - tv) * scale
        dxv = g * scale
        dsigma = -g * xv
        dtv = -dxv
    else:
        dxv = g * tl.exp(sigma)
        dsigma = dxv * xv
        dtv = g
    if LOG_DET:
        by_log_det = tl.load(grad_log_det + place[0] * log_det_stride).to(ACC)
        dsigma += -by_log_det if INVERSE else by_log_det
    write(at(dx, dxs, place, CHANNELS_LAST, UNIT, GROUP), dxv, inside, whole)
    write(at(ds, dss, place, CHANNELS_LAST, UNIT, GROUP), dsigma * slope, inside, whole)
    if WRITE_DT:
        write(at(dt, dts, place, CHANNELS_LAST, UNIT, GROUP), dtv, inside, whole)


class _Coupling(torch.autograd.Function):
    """Both directions; (x, s, t) -> (y, log-determinant or None)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, s: Tensor, t: Tensor, settings: dict[str, Any], log_det: bool, inplace: bool
    ) -> tuple[Tensor, Tensor | None]:
        inverse = settings["INVERSE"]
        ctx.settings = settings
        ctx.operation = "coupling_inverse" if inverse else "coupling_forward"
        ctx.t_dtype = t.dtype
        y = x if inplace else torch.empty_like(x)
        if inplace:
            ctx.mark_dirty(x)
        elif inverse and x.dtype in REDUCED:
            ctx.save_for_backward(x, s, t)
        else:
            ctx.save_for_backward(y if inverse else x, s)
        if not x.numel():
            return y, (x.new_zeros(x.shape[0]) if log_det else None)
        p: Tiling = plan(x, s, t, y, per_sample=log_det)
        acc = arithmetic(x, s, t)
        sums = torch.float64 if acc == tl.float64 else torch.float32
        partial = torch.empty(p.n, p.tiles, dtype=sums, device=x.device) if log_det else y
        count(ctx.operation)
        with on_device(x):
            launch(
                _apply,
                p.grid,
                x,
                s,
                t,
                y,
                partial,
                *p.index,
                *p.strides,
                LOG_DET=log_det,
                ACC=acc,
                **settings,
                **p.meta,
            )
            return y, (sum_rows(partial, x.dtype) if log_det else None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_log_det: Tensor | None) -> tuple[Tensor | None, ...]:
        x, s, *rest = ctx.saved_tensors
        t = rest[0] if rest else x
        inverse = ctx.settings["INVERSE"]
        dx, ds = torch.empty_like(x), torch.empty_like(s)
        # The forward's dt is the gradient itself, unless it has to change its dtype.
        write_dt = inverse or grad.dtype != ctx.t_dtype
        dt = torch.empty_like(s, dtype=ctx.t_dtype) if write_dt else grad
        if x.numel():
            with_log_det = grad_log_det is not None
            by_log_det = grad_log_det if grad_log_det is not None else grad
            p = plan(x, s, t, grad, dx, ds, dt, per_sample=with_log_det)
            count(f"{ctx.operation}_backward")
            with on_device(x):
                launch(
                    _backward,
                    p.grid,
                    x,
                    s,
                    t,
                    grad,
                    by_log_det,
                    dx,
                    ds,
                    dt,
                    by_log_det.stride(0),
                    *p.index,
                    *p.strides,
                    LOG_DET=with_log_det,
                    WRITE_DT=write_dt,
                    RECOMPUTE=bool(rest),
                    ACC=arithmetic(x, s, t),
                    **ctx.settings,
                    **p.meta,
                )
        return dx, ds, dt, None, None, None


def _run(
    x: Tensor,
    s: Tensor,
    t: Tensor,
    inverse: bool,
    scale: LogScale,
    log_det: bool,
    inplace: bool,
) -> tuple[Tensor, Tensor | None]:
    settings = {
        "CLAMP": float(scale.clamp),
        "TIGHTNESS": float(scale.tightness),
        "ACTIVATION": scale.activation,
        "INVERSE": inverse,
    }
    result: tuple[Tensor, Tensor | None] = _Coupling.apply(x, s, t, settings, log_det, inplace)  # type: ignore[no-untyped-call]
    return result


def coupling_forward(
    x: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    scale: LogScale = PAPER,
    log_det: bool = False,
    inplace: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """y = x exp(c g(k s)) + t, all (N, C, H, W); see `reference.coupling_forward`."""
    return _run(x, s, t, False, scale, log_det, inplace)


def coupling_inverse(
    y: Tensor,
    s: Tensor,
    t: Tensor,
    *,
    scale: LogScale = PAPER,
    log_det: bool = False,
    inplace: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """x = (y - t) exp(-c g(k s)), all (N, C, H, W); see `reference.coupling_inverse`."""
    return _run(y, s, t, True, scale, log_det, inplace)
