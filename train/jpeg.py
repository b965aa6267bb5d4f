"""JPEG's loss as tensor arithmetic: what a small picture becomes on its way through a JPEG file.

Only entropy coding is left out, which loses nothing. Every rounding is that of libjpeg with its default
settings ("islow" DCT, triangle-filter upsampling of chroma), as Pillow writes and reads files: its fixed-point
integers are held in float64, which represents them exactly and which autograd can follow. Tables: ITU-T T.81
annex K, scaled as libjpeg does; colour: JFIF. Pillow's own bytes stay the judge in evaluation.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from irnscale.train.constants import constant

Gradient = Literal["identity", "dct"]
GRADIENTS: tuple[Gradient, ...] = get_args(Gradient)
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")

_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# Left halves of libjpeg's DCT matrix, sqrt(8) 2^13 times the orthonormal one, off by one here and there
# because its constants are sums of rounded ones; even rows are symmetric, odd ones antisymmetric.
_DCT_LEFT = (
    (8192, 8192, 8192, 8192),
    (11363, 9633, 6437, 2260),
    (10703, 4433, -4433, -10703),
    (9633, -2259, -11362, -6436),
    (8192, -8192, -8192, 8192),
    (6437, -11362, 2261, 9633),
    (4433, -10704, 10704, -4433),
    (2260, -6436, 9633, -11363),
)
_DCT = tuple((*row, *(x if k % 2 == 0 else -x for x in reversed(row))) for k, row in enumerate(_DCT_LEFT))


def jpeg(x: Tensor, quality: Tensor, subsampling: str | Tensor = "4:2:0", *, gradient: Gradient = "identity") -> Tensor:
    """`x` (N, 3, H, W) on the 8-bit grid of [0, 1] after JPEG, on the same grid; any H and W.

    quality: (N,), 1 to 100, one per image. subsampling: "4:4:4", "4:2:2" or "4:2:0", or (N,) int64 indices into
    `SUBSAMPLINGS`, one per image. gradient: "identity" passes it through the whole codec unchanged (the
    dissertation's equation 3.13); "dct" goes through colour conversion, chroma subsampling and both DCTs and
    takes only rounding and clamping as the identity, so that it knows of the detail that chroma loses.
    Raises ValueError for unknown names.
    """
    if gradient not in GRADIENTS:
        raise ValueError(f"gradient must be one of {', '.join(GRADIENTS)}, not {gradient!r}")
    if isinstance(subsampling, str) and subsampling not in SUBSAMPLINGS:
        raise ValueError(f"subsampling must be one of {', '.join(SUBSAMPLINGS)}, not {subsampling!r}")
    if gradient == "dct":
        return _codec(x, quality, subsampling)
    with torch.no_grad():
        result = _codec(x, quality, subsampling)
    return _straight(result, x)


def quantisation_tables(quality: Tensor) -> Tensor:
    """Divisors of luma and chroma, (N, 2, 8, 8) float64, for qualities (N,) of 1 to 100, scaled as libjpeg does."""
    base = constant((_LUMA, _CHROMA), torch.float64, quality.device)
    q = quality.double()
    percent = torch.where(q < 50, (5000 / q).floor(), 200 - 2 * q).view(-1, 1, 1, 1)
    return ((base * percent + 50) / 100).floor().clamp(1, 255)


def _straight(result: Tensor, x: Tensor) -> Tensor:
    """`result`, exactly, with the gradient of `x`."""
    return result.detach() + (x - x.detach())


def _shift(x: Tensor, bits: int) -> Tensor:
    """x / 2^bits rounded, half upwards: libjpeg's DESCALE."""
    y = x / 2**bits
    return _straight((y + 0.5).floor(), y)


def _to_byte(x: Tensor) -> Tensor:
    return _straight(x.clamp(0, 255), x)


def _codec(x: Tensor, quality: Tensor, subsampling: str | Tensor) -> Tensor:
    rgb = _shift(x.double() * 255, 0)
    red, green, blue = rgb[:, :1], rgb[:, 1:2], rgb[:, 2:]
    luma = _shift(19595 * red + 38470 * green + 7471 * blue, 16)
    centre = 128 * 2**16 - 1  # chroma rounds exact halves down
    cb = _to_byte(_shift(-11059 * red - 21709 * green + 32768 * blue + centre, 16))
    cr = _to_byte(_shift(32768 * red - 27439 * green - 5329 * blue + centre, 16))
    tables = quantisation_tables(quality)
    luma = _blocks(luma, tables[:, :1])
    chroma = torch.cat((cb, cr), dim=1)
    if isinstance(subsampling, str):
        chroma = _chroma(chroma, tables[:, 1:], subsampling)
    else:
        kinds = torch.stack([_chroma(chroma, tables[:, 1:], name) for name in SUBSAMPLINGS])
        chroma = kinds.gather(0, subsampling.view(1, -1, 1, 1, 1).expand(1, *chroma.shape))[0]
    cb, cr = chroma[:, :1] - 128, chroma[:, 1:] - 128
    decoded = (
        luma + _shift(91881 * cr, 16),
        luma + _shift(-22554 * cb - 46802 * cr, 16),
        luma + _shift(116130 * cb, 16),
    )
    return (_to_byte(torch.cat(decoded, dim=1)) / 255).to(x.dtype)


def _chroma(x: Tensor, table: Tensor, subsampling: str) -> Tensor:
    """Both chroma planes (N, 2, H, W) in 0..255 through subsampling, blocks and upsampling."""
    if subsampling == "4:4:4":
        return _blocks(x, table)
    height, width = x.shape[2:]
    rows = 2 if subsampling == "4:2:0" else 1
    # Columns are repeated up to whole blocks before averaging, rows after it.
    x = F.pad(x, (0, -width % 16, 0, -height % rows), mode="replicate")
    mean = F.avg_pool2d(x, (rows, 2))
    # Halves are rounded up and down in turns.
    bias = (torch.arange(mean.shape[3], device=x.device) % 2 + rows - 1) / (2 * rows)
    small = _straight((mean + bias).floor(), mean)
    return _upsample(_blocks(small, table)[..., : (width + 1) // 2], rows)[..., :height, :width]


def _blocks(x: Tensor, table: Tensor) -> Tensor:
    """Planes (N, C, H, W) in 0..255 through DCT, quantisation by `table` (N, 1, 8, 8) and back, in 0..255."""
    n, c, height, width = x.shape
    x = F.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate") - 128
    blocks = x.view(n, c, x.shape[2] // 8, 8, x.shape[3] // 8, 8).transpose(3, 4)
    dct = constant(_DCT, torch.float64, x.device)
    coefficients = _shift(dct @ _shift(blocks @ dct.T, 11), 15)  # 8 times the orthonormal ones
    step = 8 * table.view(n, 1, 1, 1, 8, 8)
    ratio = coefficients / step
    levels = _straight(torch.sign(ratio) * (ratio.abs() + 0.5).floor(), ratio)
    samples = _shift(_shift(dct.T @ (levels * step / 8), 11) @ dct, 18)
    return _to_byte(samples.transpose(3, 4).reshape(x.shape) + 128)[..., :height, :width]


def _upsample(x: Tensor, rows: int) -> Tensor:
    """Enlargement by (rows, 2): libjpeg's triangle filter, or repetition where it is too narrow for it."""
    if x.shape[3] <= 2:
        return x.repeat_interleave(2, dim=3).repeat_interleave(rows, dim=2)
    if rows == 2:
        padded = F.pad(x, (0, 0, 1, 1), mode="replicate")
        x = torch.stack((3 * x + padded[:, :, :-2], 3 * x + padded[:, :, 2:]), dim=3).flatten(2, 3)
    padded = F.pad(x, (1, 1, 0, 0), mode="replicate")
    unit, first, second = (16, 8, 7) if rows == 2 else (4, 1, 2)
    left, right = (3 * x + padded[..., :-2]) / unit, (3 * x + padded[..., 2:]) / unit
    left = _straight((left + first / unit).floor(), left)
    right = _straight((right + second / unit).floor(), right)
    return torch.stack((left, right), dim=4).flatten(3, 4)
