"""The HTML report of `irnscale check`."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence

from irnscale._version import __version__
from irnscale.evaluation import page
from irnscale.evaluation.check import Checked, exact
from irnscale.evaluation.crops import Crop
from irnscale.evaluation.curves import Curve, comparison, verdict
from irnscale.evaluation.plot import rate_distortion
from irnscale.evaluation.tables import DEFAULT, shown
from irnscale.metrics.scores import Chosen


def check_report(
    results: Sequence[Checked], crops: Sequence[Crop], curves: Sequence[Curve], chosen: Chosen = DEFAULT
) -> bytes:
    """A page with a row per photograph, the part of each that comes out worst, and the curves where there are any."""
    scale = results[0].scale
    introduction = (
        f"irnscale {__version__}: each photograph shrunk x{scale}, written as {results[0].stored}, read back "
        f"and restored. PSNR (dB) and SSIM, {scale} pixels cut off every side; luma and RGB by the network "
        "alone, and luma with the coded detail that the small file carries. The part shown of each is the one where "
        "the restored picture is farthest from the original. Bytes of the small file include its record."
    )
    scores = "luma", "RGB", "luma with detail", "bicubic, luma", "LR luma"
    further = [score for score in chosen.more if score.of is not None]
    introduction += "".join(f" {score.title}: {score.what}." for score in further)
    introduction += f" {chosen.by}." if chosen.by else ""
    titles = ["photograph", "size", *scores, *(score.title for score in further), "input bytes", "small bytes"]
    rows = [
        [
            result.label,
            f"{result.width} x {result.height}",
            f"{exact(result.psnr_y)} / {shown('ssim_y', result.ssim_y)}",
            f"{exact(result.psnr_rgb)} / {shown('ssim_rgb', result.ssim_rgb)}",
            _with_detail(result),
            f"{exact(result.bicubic_psnr_y)} / {shown('ssim_y', result.bicubic_ssim_y)}",
            f"{exact(result.lr_psnr_y)} / {shown('ssim_y', result.lr_ssim_y)}",
            *(shown(score.key, result.more[score.key], chosen) for score in further),
            str(result.original_bytes),
            str(result.small_bytes),
        ]
        for result in results
    ]
    body = [page.paragraph(introduction), page.table(titles, rows), page.slider(crops)]
    if curves:
        body += [page.heading("Quality at equal bytes"), page.paragraph(verdict(curves)), _figure(curves)]
        body.append(page.details("every point", _points(curves)))
    return page.page("irnscale check", body)


def _with_detail(result: Checked) -> str:
    if math.isnan(result.detail_psnr_y):
        return "-"
    return f"{exact(result.detail_psnr_y)} / {shown('ssim_y', result.detail_ssim_y)}"


def _figure(curves: Sequence[Curve]) -> str:
    svg = rate_distortion(curves, "quality over bytes")
    uri = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    return page.figure(uri, "PSNR of luma over bits per pixel; the table below has the numbers")


def _points(curves: Sequence[Curve]) -> str:
    plain = [curve for curve in curves if not curve.small]
    rows = []
    for curve, point, _ in comparison(curves):
        cells = [other.shown(point.bpp) for other in plain]
        rows.append([curve.name, point.setting, f"{point.bpp:.3f}", f"{point.psnr_y:.2f}", *cells])
    return page.table(
        ["small picture", "setting", "bits/pixel", "restored", *(curve.name for curve in plain)], rows, words=2
    )
