"""The dense block as implicit matrix products on channel slices of one channels-last buffer.

One launch per layer: a layer reads the slice of the buffer that holds the input and all earlier features and writes
its own behind them, bias and LeakyReLU in the same pass, so that nothing is concatenated or padded. The three
horizontal taps are three accumulators of one pass over a row of positions, which is read 3 times instead of 9; they
are shifted by a position against one another at the end, so that PIXELS positions give PIXELS - 2 results. The data
gradient is the same kernel on the buffer of gradients, with flipped weights and LeakyReLU's slope at the end. Several
blocks of one shape (s and t) are groups of one launch.

Weight gradients are partial sums over stretches of positions, added up in a fixed order: a step repeats itself bit
for bit. Measured as a prototype on an H100: 90 to 170 TFLOP/s in bfloat16, a training step 4.5 times as fast as by
cuDNN; this form of it has been compiled for devices and run in Triton's interpreter.
"""

# ruff: noqa: N803  (compile-time arguments and sizes in capitals, as everywhere in Triton)
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from irnscale.kernels.compiling import is_recording, launch
from irnscale.kernels.dense_layout import LAYERS, MULTIPLE, DenseLayout
from irnscale.kernels.dispatch import count, interpreted
from irnscale.kernels.streams import forked, join, second_stream
from irnscale.kernels.tiling import on_device

PIXELS, FEW_PIXELS, MANY = 128, 64, 40_000
"""Positions of a program; and where the picture has less than MANY positions, so that all multiprocessors work."""
WARPS, STAGES = 4, 4
POSITIONS, ROWS, SPLITS, GRADIENT_STAGES = 64, 64, 44, 3
"""Of weight gradients: positions and rows (channels of gradients) of a program's step, and stretches of positions."""
FEW_POSITIONS, FEW_ROWS = 16, 32
"""The same in float32."""
OPTIONS = {"num_warps": WARPS, "enable_fp_fusion": True}
"""Sums of products here differ by their order alone; in float32 they are made of fused multiply-adds."""

_PLAIN, _ACTIVATE, _SLOPE, _BARE = 0, 1, 2, 3


def _jit(*names: str) -> Any:
    return triton.jit(do_not_specialize=list(names))


@_jit("P", "H", "W")  # type: ignore[untyped-decorator]
def _convolve(
    x: tl.tensor,
    weights: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    act: tl.tensor,
    P: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    xp: tl.constexpr,
    op: tl.constexpr,
    ap: tl.constexpr,
    wg: tl.constexpr,
    bg: tl.constexpr,
    IN: tl.constexpr,
    FIRST: tl.constexpr,
    STEPS: tl.constexpr,
    STEP: tl.constexpr,
    OUT: tl.constexpr,
    COLUMNS: tl.constexpr,
    EPILOGUE: tl.constexpr,
    LEAK: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    PIXELS: tl.constexpr,
) -> None:
    """out[g, p, :OUT] = sum of x[g, p + tap, :IN] weights[g, tap] and what EPILOGUE says.

    IN is FIRST channels in steps of 16 and STEPS of STEP channels; xp, op and ap are the channels per position of x,
    out and act, wg and bg of a group's weights and biases. P positions in rows of W and pictures of H rows.
    """
    g = tl.program_id(1).to(tl.int64)
    x += g * P * xp
    out += g * P * op
    weights += g * wg
    i = tl.arange(0, PIXELS)
    place = tl.program_id(0) * (PIXELS - 2) - 1 + i
    w = place % W
    h = (place // W) % H
    inside = (place >= 0) & (place < P)
    r = place.to(tl.int64)
    n = tl.arange(0, COLUMNS)
    column = (n < OUT)[None, :]
    left = tl.zeros([PIXELS, COLUMNS], tl.float32)
    middle = tl.zeros([PIXELS, COLUMNS], tl.float32)
    right = tl.zeros([PIXELS, COLUMNS], tl.float32)
    k = tl.arange(0, 16)
    for t in range(3 * (FIRST // 16)):
        dy = t // (FIRST // 16)
        c = (t % (FIRST // 16)) * 16
        row = inside & (h + dy >= 1) & (h + dy <= H)
        a = tl.load(x + (r + (dy - 1) * W)[:, None] * xp + (c + k)[None, :], mask=row[:, None], other=0.0)
        taps = weights + ((dy * IN + c + k)[:, None] * 3) * OUT + n[None, :]
        b0 = tl.load(taps, mask=column, other=0.0)
        b1 = tl.load(taps + OUT, mask=column, other=0.0)
        b2 = tl.load(taps + 2 * OUT, mask=column, other=0.0)
        if WIDEN:
            a, b0, b1, b2 = a.to(tl.float32), b0.to(tl.float32), b1.to(tl.float32), b2.to(tl.float32)
        left = tl.dot(a, b0, left, input_precision=PRECISION)
        middle = tl.dot(a, b1, middle, input_precision=PRECISION)
        right = tl.dot(a, b2, right, input_precision=PRECISION)
    if STEPS > 0:  # the same in other steps; as a function of its own it makes a variant spill
        k = tl.arange(0, STEP)
        for t in range(3 * STEPS):
            dy = t // STEPS
            c = FIRST + (t % STEPS) * STEP
            row = inside & (h + dy >= 1) & (h + dy <= H)
            a = tl.load(x + (r + (dy - 1) * W)[:, None] * xp + (c + k)[None, :], mask=row[:, None], other=0.0)
            taps = weights + ((dy * IN + c + k)[:, None] * 3) * OUT + n[None, :]
            b0 = tl.load(taps, mask=column, other=0.0)
            b1 = tl.load(taps + OUT, mask=column, other=0.0)
            b2 = tl.load(taps + 2 * OUT, mask=column, other=0.0)
            if WIDEN:
                a, b0, b1, b2 = a.to(tl.float32), b0.to(tl.float32), b1.to(tl.float32), b2.to(tl.float32)
            left = tl.dot(a, b0, left, input_precision=PRECISION)
            middle = tl.dot(a, b1, middle, input_precision=PRECISION)
            right = tl.dot(a, b2, right, input_precision=PRECISION)
    before = tl.broadcast_to(tl.maximum(i - 1, 0)[:, None], [PIXELS, COLUMNS])
    after = tl.broadcast_to(tl.minimum(i + 1, PIXELS - 1)[:, None], [PIXELS, COLUMNS])
    value = middle + tl.where((w > 0)[:, None], tl.gather(left, before, 0), 0.0)
    value += tl.where((w < W - 1)[:, None], tl.gather(right, after, 0), 0.0)
    keep = (inside & (i > 0) & (i < PIXELS - 1))[:, None] & column
    if EPILOGUE < 2:
        value += tl.load(bias + g * bg + n, mask=n < OUT, other=0.0).to(tl.float32)[None, :]
    if EPILOGUE == 1:
        value = tl.where(value > 0, value, value * LEAK)
    if EPILOGUE == 2:
        y = tl.load(act + (g * P + r)[:, None] * ap + n[None, :], mask=keep, other=0.0).to(tl.float32)
        value = tl.where(y > 0, value, value * LEAK)
    tl.store(out + r[:, None] * op + n[None, :], value.to(out.dtype.element_ty), mask=keep)


@_jit("P", "H", "W", "per", "splits")  # type: ignore[untyped-decorator]
def _weight_gradient(
    x: tl.tensor,
    grads: tl.tensor,
    partial: tl.tensor,
    sums: tl.tensor,
    P: tl.tensor,
    H: tl.tensor,
    W: tl.tensor,
    per: tl.tensor,
    splits: tl.tensor,
    xp: tl.constexpr,
    gp: tl.constexpr,
    size: tl.constexpr,
    SUMS: tl.constexpr,
    CHANNELS: tl.constexpr,
    LATER: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
    POSITIONS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
) -> None:
    """partial[g, split, ky, c, kx, l] = sum over the split's positions of x[g, p + tap, c] grads[g, p, l].

    `size` numbers a group and split; with SUMS also sums[g, split, l] = sum of grads[g, p, l].
    """
    split = tl.program_id(0)
    dy = tl.program_id(1) % 3
    g = tl.program_id(2).to(tl.int64)
    x += g * P * xp
    grads += g * P * gp
    row = (tl.program_id(1) // 3) * ROWS + tl.arange(0, ROWS)
    c = tl.arange(0, COLUMNS)
    channel = (c < CHANNELS)[None, :]
    left = tl.zeros([ROWS, COLUMNS], tl.float32)
    middle = tl.zeros([ROWS, COLUMNS], tl.float32)
    right = tl.zeros([ROWS, COLUMNS], tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for q in range(0, per, POSITIONS):
        place = split * per + q + tl.arange(0, POSITIONS)
        w = place % W
        h = (place // W) % H
        within = (place < P)[:, None] & (row < LATER)[None, :]
        inside = (place < P) & (h + dy >= 1) & (h + dy <= H)
        p = place.to(tl.int64)
        y = tl.load(grads + p[:, None] * gp + row[None, :], mask=within, other=0.0)
        at = x + (p + (dy - 1) * W)[:, None] * xp + c[None, :]
        x0 = tl.load(at - xp, mask=(inside & (w > 0))[:, None] & channel, other=0.0)
        x1 = tl.load(at, mask=inside[:, None] & channel, other=0.0)
        x2 = tl.load(at + xp, mask=(inside & (w < W - 1))[:, None] & channel, other=0.0)
        if WIDEN:
            y, x0, x1, x2 = y.to(tl.float32), x0.to(tl.float32), x1.to(tl.float32), x2.to(tl.float32)
        across = tl.trans(y)
        if SUMS:
            total += tl.sum(y.to(tl.float32), axis=0)
        left = tl.dot(across, x0, left, input_precision=PRECISION)
        middle = tl.dot(across, x1, middle, input_precision=PRECISION)
        right = tl.dot(across, x2, right, input_precision=PRECISION)
    at = partial + (g * splits + split) * size + ((dy * CHANNELS + c)[None, :] * 3) * LATER + row[:, None]
    mask = (row < LATER)[:, None] & channel
    tl.store(at, left, mask=mask)
    tl.store(at + LATER, middle, mask=mask)
    tl.store(at + 2 * LATER, right, mask=mask)
    if SUMS:  # noqa: SIM102  (this one is known when the kernel is compiled)
        if dy == 1:
            tl.store(sums + (g * splits + split) * LATER + row, total, mask=row < LATER)


def _columns(channels: int) -> int:
    return max(MULTIPLE, int(triton.next_power_of_2(channels)))


def _arithmetic(x: Tensor) -> dict[str, Any]:
    """Full precision for float32, where a matrix unit would take TF32; 16 bits widened where it is interpreted."""
    wide = x.dtype == torch.float32
    return {"PRECISION": "ieee" if wide else "tf32", "WIDEN": interpreted()}


def _is_older(x: Tensor) -> bool:
    """Before Hopper: matrix units take their operands from registers, and there is less shared memory."""
    return x.is_cuda and torch.cuda.get_device_capability(x.device) < (9, 0)


def _shapes(x: Tensor, positions: int, outputs: int) -> list[dict[str, int]]:
    """Positions of a program, fewer where its three accumulators would not fit into the registers, too; and stages.

    The one of so many positions, or all that there are where launches are only recorded.
    """
    older = _is_older(x)
    always_few = older or x.dtype == torch.float32 or _columns(outputs) > 32
    found = {min(PIXELS, FEW_PIXELS) if always_few or positions < MANY else PIXELS}
    if is_recording() and not always_few:
        found |= {PIXELS, min(PIXELS, FEW_PIXELS)}
    return [{"PIXELS": pixels, "num_stages": STAGES - 1 if older else STAGES} for pixels in sorted(found)]


def _layer(
    layout: DenseLayout,
    x: Tensor,
    weights: Tensor,
    out: Tensor,
    size: tuple[int, int],
    *,
    inputs: tuple[int, int],
    outputs: int,
    groups: tuple[int, int],
    epilogue: int,
    bias: Tensor | None = None,
    act: Tensor | None = None,
    slope: float = 0.0,
) -> None:
    """One launch of `_convolve`. x, out and act: (G, P, channels), or slices of its last dimension.

    inputs: (channels before the features, features); groups: lengths of a group's weights and biases.
    """
    number, positions = out.shape[:2]
    first, features = inputs
    step = 32 if layout.growth % 32 == 0 else MULTIPLE
    count("dense_block")
    with on_device(x):
        for shape in _shapes(x, positions, outputs):
            launch(
                _convolve,
                (triton.cdiv(positions, shape["PIXELS"] - 2), number),
                x,
                weights,
                weights if bias is None else bias,
                out,
                out if act is None else act,
                positions,
                *size,
                xp=x.stride(1),
                op=out.stride(1),
                ap=0 if act is None else act.stride(1),
                wg=groups[0],
                bg=groups[1],
                IN=first + features * layout.growth,
                FIRST=first,
                STEPS=features * (layout.growth // step),
                STEP=step,
                OUT=outputs,
                COLUMNS=_columns(outputs),
                EPILOGUE=epilogue,
                LEAK=float(slope),
                **_arithmetic(x),
                **shape,
                **OPTIONS,
            )


def forward(
    layout: DenseLayout,
    features: Tensor,
    packed: Tensor,
    biases: Tensor,
    size: tuple[int, int],
    slope: float,
    result: torch.dtype | None = None,
) -> Tensor:
    """All layers of G blocks: fills the features behind the input and returns the output.

    features: (G, P, layout.features) with the padded input written; packed, biases: (G, n) as `layout` has them, in
    the dtype of the features; size: (H, W) of the pictures whose P positions these are. Returns (G, P, layout.exit), in
    the dtype `result` (None: that of the features).
    """
    number, positions, _ = features.shape
    y = torch.empty((number, positions, layout.exit), dtype=result or features.dtype, device=features.device)
    for k in range(LAYERS):
        last = k == LAYERS - 1
        start = layout.inputs[k]
        _layer(
            layout,
            features,
            packed[:, layout.forward_starts[k] :],
            y if last else features[:, :, start : start + layout.growth],
            size,
            inputs=(layout.entry, k),
            outputs=layout.outputs[k],
            groups=(packed.stride(0), biases.stride(0)),
            epilogue=_PLAIN if last else _ACTIVATE,
            bias=biases[:, k * layout.growth :],
            slope=slope,
        )
    return y


def backward(
    layout: DenseLayout,
    features: Tensor,
    grads: Tensor,
    packed: Tensor,
    size: tuple[int, int],
    slope: float,
    *,
    into: bool,
    learning: bool,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of `forward`: by the input (G, P, layout.entry), the weights and the sums for the biases.

    features: as `forward` left them; grads: (G, P, layout.gradients) with the padded gradient of the output written,
    the rest is written here; packed: the weights of the other direction. Weights: (G, layout.backward_starts[-1]) and
    biases: (G, layout.gradients), both float32; see `DenseLayout`. None for what is not wanted (`into`, `learning`).
    """
    number, positions, _ = features.shape
    length, splits, per = layout.backward_starts[-1], 1, POSITIONS
    partial = sums = None
    if learning:
        per = triton.cdiv(triton.cdiv(positions, SPLITS), POSITIONS) * POSITIONS  # a multiple of FEW_POSITIONS, too
        splits = triton.cdiv(positions, per)
        options: dict[str, Any] = {"dtype": torch.float32, "device": features.device}
        partial = torch.empty((number, splits, length), **options)
        sums = torch.empty((number, splits, layout.gradients), **options)
    dx: Tensor | None = None
    beside = second_stream(features)
    for j in reversed(range(LAYERS)):
        channels = slice(layout.source(j), layout.source(j) + layout.sources[j])
        if partial is not None and sums is not None:
            with forked(beside):  # beside the data gradient of this source, which writes none of what is read here
                _add_up(layout, j, features[:, :, channels], grads, partial, sums, size, per, splits)
        if j == 0 and not into:
            break
        if j == 0:
            dx = torch.empty((number, positions, layout.entry), dtype=features.dtype, device=features.device)
        target = dx if dx is not None else grads[:, :, layout.gradient(j - 1) :][:, :, : layout.growth]
        _layer(
            layout,
            grads,
            packed[:, layout.backward_starts[j] :],
            target,
            size,
            inputs=(layout.exit, LAYERS - 1 - j),
            outputs=layout.sources[j],
            groups=(packed.stride(0), 0),
            epilogue=_SLOPE if j else _BARE,
            act=features[:, :, channels] if j else None,
            slope=slope,
        )
    if partial is None or sums is None:
        return dx, None, None
    join(beside)
    return dx, partial.sum(1), sums.sum(1)


def _add_up(
    layout: DenseLayout,
    j: int,
    source: Tensor,
    grads: Tensor,
    partial: Tensor,
    sums: Tensor,
    size: tuple[int, int],
    per: int,
    splits: int,
) -> None:
    """The gradients by the weights that read source j; and, with the input's, the sums of all gradients."""
    number, positions, channels = source.shape
    later = layout.later[j]
    wide = source.dtype == torch.float32  # products without matrix units keep their operands in registers
    rows = min(FEW_ROWS if wide else ROWS, _columns(later))
    narrow = channels <= MULTIPLE
    count("dense_block_backward")
    with on_device(source):
        launch(
            _weight_gradient,
            (splits, 3 * triton.cdiv(later, rows), number),
            source,
            grads,
            partial[:, :, layout.backward_starts[j] :],
            sums,
            positions,
            *size,
            per,
            splits,
            xp=source.stride(1),
            gp=grads.stride(1),
            size=partial.shape[2],
            SUMS=j == 0,
            CHANNELS=channels,
            LATER=later,
            **_arithmetic(source),
            POSITIONS=min(FEW_POSITIONS, POSITIONS) if wide else POSITIONS,
            ROWS=rows,
            COLUMNS=_columns(channels),
            num_stages=2 if narrow else GRADIENT_STAGES,
            **OPTIONS,
        )
