"""Quality over bytes: small pictures that restore, against ordinary codecs of the whole photograph."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irnscale.detail.attached import Amount
from irnscale.detail.codec import available
from irnscale.engine.rescaler import Rescaler
from irnscale.errors import IrnscaleError
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.loop import Summary, evaluate_files
from irnscale.evaluation.methods import Method, full_size, with_detail
from irnscale.evaluation.ruler import Ruler
from irnscale.evaluation.trip import Storage
from irnscale.metrics.scores import LARGEST_PSNR

CROP = 4
"""Cut off every side for all curves, whatever the scale, so that all are compared on the same pixels."""
SMALL_QUALITIES = (30, 50, 70, 80, 90, 95)
ATTACHED_TO = 50
"""Quality of the JPEG that detail is attached to; in which its bytes are better spent than in the JPEG's own."""
ATTACHED_QUALITIES = (10, 25, 40, 55, 70, 85)
_FULL = {
    "jpg": (5, 10, 20, 30, 50, 70, 85, 95),
    "webp": (1, 10, 30, 50, 75, 90, 98),
    "avif": (1, 5, 10, 25, 40, 55, 70, 85, 95),
}
_TITLES = {"jpg": "JPEG", "webp": "WebP", "avif": "AVIF"}


@dataclass(frozen=True)
class Point:
    """One setting, as means over photographs: bits per pixel of the original, luma PSNR (dB) and SSIM."""

    setting: str
    bpp: float
    psnr_y: float
    ssim_y: float


@dataclass(frozen=True)
class Curve:
    """Points by rising bits per pixel.

    small: the file is a small picture that any program shows. model: and a model restores it. detail: with the coded
    layer that the file carries, whose score the points then have.
    """

    name: str
    points: tuple[Point, ...]
    small: bool
    model: bool = False
    detail: bool = False

    def at(self, bpp: float, key: str = "psnr_y") -> float:
        """The quality at a rate, linear in the logarithm of the rate.

        Beyond the last point that of the last point, which is reached with fewer bytes already: a lower bound.
        Before the first, NaN.
        """
        for one, other in zip(self.points, self.points[1:], strict=False):
            if one.bpp <= bpp <= other.bpp and one.bpp < other.bpp:
                part = math.log(bpp / one.bpp) / math.log(other.bpp / one.bpp)
                return float(getattr(one, key) + part * (getattr(other, key) - getattr(one, key)))
        return float(getattr(self.points[-1], key)) if bpp >= self.points[-1].bpp else math.nan

    def shown(self, bpp: float) -> str:
        """The PSNR at a rate for people; a lower bound with a sign."""
        value = self.at(bpp)
        return "-" if math.isnan(value) else f"{'≥ ' * (bpp > self.points[-1].bpp)}{value:.2f}"


def measured_curves(
    name: str,
    paths: Sequence[Path],
    models: Sequence[Method],
    *,
    detailed: Mapping[str, Sequence[Method]] | None = None,
    qualities: Iterable[int] = SMALL_QUALITIES,
    subsampling: str = "4:2:0",
    formats: Sequence[str] = ("jpg", "webp", "avif"),
    **options: Any,
) -> list[Curve]:
    """Curves of the models' small pictures, lossless and as JPEG, and of ordinary codecs of the whole photographs.

    `detailed`: by name of the curve, methods through files that carry detail, a point each. `options` are those of
    `evaluate_files`. Raises UsageError where an encoder is missing.
    """
    options = {"multiple": CROP} | options | {"ruler": Ruler(crop=CROP)}
    lossless, lossy = [Codec(), Codec(format="webp")], [Codec(q, subsampling) for q in qualities]
    found = []
    for method in models:
        results = evaluate_files(name, paths, [method], [*lossless, *lossy], **options)
        found.append(_curve(f"{method.name}, lossless", results[: len(lossless)], small=True))
        if lossy:
            found.append(_curve(f"{method.name}, JPEG", results[len(lossless) :], small=True))
    for title, methods in (detailed or {}).items():
        results = evaluate_files(name, paths, methods, [Codec()], **options)
        found.append(_curve(title, results, small=True, detail=True))
    for format in formats:
        codecs = [Codec(q, format=format) for q in _FULL[format]]
        results = evaluate_files(name, paths, [full_size()], codecs, **options)
        found.append(_curve(f"{_TITLES[format]}, full size", results, small=False))
    return found


def _curve(name: str, results: Sequence[Summary], *, small: bool, detail: bool = False) -> Curve:
    ratio, likeness = ("detail_psnr_y", "detail_ssim_y") if detail else ("psnr_y", "ssim_y")
    points = [Point(r.stored, r.mean["bpp"], r.mean[ratio], r.mean[likeness]) for r in results]
    rising = tuple(sorted(points, key=lambda point: point.bpp))
    return Curve(name, rising, small, bool(results[0].method.weights), detail)


def detailed_methods(rescaler: Rescaler, subsampling: str) -> dict[str, list[Method]]:
    """What a model's small pictures carry in the pixels, or of a JPEG-resistant one attached to a JPEG, by curve.

    For `measured_curves`; empty where this Pillow codes no detail.
    """
    if available() is None:
        return {}
    if rescaler.jpeg_resistant:
        files = [
            Storage("jpg", ATTACHED_TO, subsampling, amount=Amount(quality=quality)) for quality in ATTACHED_QUALITIES
        ]
        return {f"{rescaler.name}, JPEG + detail attached": [with_detail(rescaler, file) for file in files]}
    files = [Storage("webp", bits=bits) for bits in (1, 2, 3)]
    return {f"{rescaler.name}, detail in the pixels": [with_detail(rescaler, file) for file in files]}


def exact_rates(
    name: str, paths: Sequence[Path], rescalers: Sequence[Rescaler], **options: Any
) -> list[tuple[str, float]]:
    """(what, bits per pixel) of all that gives the photographs back bit for bit: lossless codecs, and `--detail exact`.

    `options` are those of `evaluate_files`. Models that are JPEG-resistant are left out. Raises IrnscaleError where
    anything is not given back.
    """
    options = {"multiple": CROP} | options | {"ruler": Ruler(crop=CROP)}
    found = []
    for result in evaluate_files(name, paths, [full_size()], [Codec(), Codec(format="webp")], **options):
        found.append((f"{result.codec.name.removesuffix(' lossless')}, full size", result.mean["bpp"]))
    for rescaler in rescalers:
        if rescaler.jpeg_resistant or available() is None:
            continue
        method = with_detail(rescaler, Storage("webp", exact=True))
        (result,) = evaluate_files(name, paths, [method], [Codec()], **options)
        if result.min["detail_psnr_y"] < LARGEST_PSNR:
            raise IrnscaleError(f"{name}: {rescaler.name} gave a photograph back with other pixels", "report this")
        found.append((f"{rescaler.name}, {result.stored}", result.mean["bpp"]))
    return sorted(found, key=lambda row: row[1])


def exact_table(rates: Sequence[tuple[str, float]]) -> str:
    """Those rates as a Markdown table."""
    lines = ["| bit for bit | bits/pixel |", "|---|---|", *(f"| {what} | {bpp:.3f} |" for what, bpp in rates)]
    return "\n".join(lines) + "\n"


def comparison(curves: Sequence[Curve]) -> list[tuple[Curve, Point, dict[str, float]]]:
    """For each point of a small picture: what each ordinary codec reaches at equal bytes, in dB of luma PSNR."""
    plain = [curve for curve in curves if not curve.small]
    return [
        (curve, point, {other.name: other.at(point.bpp) for other in plain})
        for curve in curves
        if curve.small
        for point in curve.points
    ]


def as_markdown(curves: Sequence[Curve]) -> str:
    """The comparison as a Markdown table, the best of each row in bold."""
    plain = [curve for curve in curves if not curve.small]
    titles = ["small picture", "bits/pixel", "restored", *(curve.name for curve in plain)]
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for curve, point, others in comparison(curves):
        cells = [f"{point.psnr_y:.2f}", *(other.shown(point.bpp) for other in plain)]
        values = [point.psnr_y, *others.values()]
        best = max(range(len(values)), key=lambda n: -math.inf if math.isnan(values[n]) else values[n])
        cells[best] = f"**{cells[best]}**"
        lines.append(f"| {curve.name.split(',')[0]}, {point.setting} | {point.bpp:.3f} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def as_csv(curves: Sequence[Curve]) -> bytes:
    """A CSV file in UTF-8, one line per point: curve, setting, bits per pixel, luma PSNR (dB) and SSIM."""
    lines = ["curve,setting,bpp,psnr_y,ssim_y"]
    for curve in curves:
        for p in curve.points:
            lines.append(f'"{curve.name}","{p.setting}",{p.bpp:.6f},{p.psnr_y:.4f},{p.ssim_y:.5f}')
    return ("\n".join(lines) + "\n").encode()


def verdict(curves: Sequence[Curve]) -> str:
    """Which codec is ahead of the models at equal bytes, how often; for people and for the page in `docs/`."""
    words = {False: "", True: " that carry detail"}
    parts = [
        _ahead([row for row in comparison(curves) if row[0].model and row[0].detail is detail], words[detail])
        for detail in (False, True)
    ]
    found = " ".join(part for part in parts if part)
    return found or "No codec of the whole photograph reaches as few bytes as these small pictures."


def _ahead(rows: Sequence[tuple[Curve, Point, dict[str, float]]], which: str) -> str:
    known_rows = [(p, others) for _, p, others in rows if any(not math.isnan(value) for value in others.values())]
    if not known_rows:
        return ""
    parts = []
    for name in known_rows[0][1]:
        known = [(point, others[name]) for point, others in known_rows if not math.isnan(others[name])]
        wins = sum(value > point.psnr_y for point, value in known)
        parts.append(f"{name} is ahead at {wins} of the {len(known)} that it reaches")
    return f"At equal bytes, of {len(known_rows)} settings of the models' small pictures{which}: {'; '.join(parts)}."
