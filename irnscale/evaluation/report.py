"""The HTML report of `irnscale evaluate`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from irnscale._version import __version__
from irnscale.evaluation import page
from irnscale.evaluation.crops import Crop
from irnscale.evaluation.loop import Summary
from irnscale.evaluation.published import Published, published, published_on
from irnscale.evaluation.ruler import Ruler
from irnscale.evaluation.tables import DEFAULT, floors, shown, shown_mean
from irnscale.metrics.scores import Chosen, Score

_PAIRS = (
    ("HR luma", "psnr_y", "ssim_y"),
    ("with detail", "detail_psnr_y", "detail_ssim_y"),
    ("HR RGB", "psnr_rgb", "ssim_rgb"),
    ("LR luma", "lr_psnr_y", "lr_ssim_y"),
    ("LR RGB", "lr_psnr_rgb", "lr_ssim_rgb"),
)


def report(results: Sequence[Summary], crops: Sequence[Crop], ruler: Ruler, chosen: Chosen = DEFAULT) -> bytes:
    """A page with means beside published figures, pictures to compare, and a row per photograph."""
    body = [page.paragraph(_introduction(ruler, chosen))]
    for (name, scale), group in groupby(results, key=lambda summary: (summary.set, summary.scale)):
        several = list(group)
        body.append(page.heading(f"{name}, x{scale} ({several[0].images} photographs)"))
        body.append(_means(several, chosen))
        body += [page.paragraph(line) for line in floors(several, chosen)]
        body += [page.slider(mine)] if (mine := [c for c in crops if c.title.startswith(f"{name} x{scale},")]) else []
        body.append(page.details("least and greatest", _extremes(several, chosen)))
        body.append(page.details("every photograph", _photographs(several, chosen)))
    body.append(page.heading("Published figures"))
    body.append(
        page.paragraph("As their authors print them; a set that is not measured above is here for orientation.")
    )
    body += _published_tables()
    body.append(_sources())
    return page.page("irnscale evaluate", body)


def _introduction(ruler: Ruler, chosen: Chosen) -> str:
    luma = "rounded to whole numbers, gray pictures as they are" if ruler.rounded_luma else "unrounded"
    where = "in float64" if ruler.device is None else f"in float32 on {ruler.device}"
    return (
        f"irnscale {__version__}. PSNR (dB) and SSIM, {where}. HR: the restored picture against the "
        f"original, the scale's number of pixels cut off every side. LR: the small picture, as it is read back from "
        f"its file, against bicubic; equal pictures read 100 dB. With detail: with the coded layer that the small "
        f"picture carries, which the other columns leave out. Luma {luma}. Seconds are for both directions on the "
        "machine that measured. Gray italics are published figures, measured by their authors; the published rows of "
        "bicubic were made with luma rounded, small pictures in floating point, and gray pictures as they are."
        + "".join(
            f" {score.title}: {score.what}; {'higher' if score.higher else 'lower'} is better." for score in chosen.more
        )
        + (f" {chosen.by}." if chosen.by else "")
    )


def _pair(scores: dict[str, float], first: str, second: str) -> str:
    ratio, likeness = (scores.get(key, float("nan")) for key in (first, second))
    return "-" if ratio != ratio else f"{ratio:.2f} / {shown(second, likeness)}"


def _pairs(results: Sequence[Summary], chosen: Chosen) -> list[tuple[str, str, str]]:
    """What is shown of the protocol; detail only where a small picture carries some."""
    detailed = any(not math.isnan(summary.mean["detail_psnr_y"]) for summary in results)
    found = [pair for pair in _PAIRS if detailed or not pair[1].startswith("detail")]
    return found if chosen.protocol else []


def _more(row: Mapping[str, float], chosen: Chosen, scores: Sequence[Score]) -> list[str]:
    """A cell for each of the further scores; nothing where a row has none."""
    return [shown(score.key, row.get(score.key, math.nan), chosen) for score in scores]


def _means(results: Sequence[Summary], chosen: Chosen) -> str:
    pairs = _pairs(results, chosen)
    further = [score.title for score in chosen.more]
    titles = ["method", "stored", *(title for title, *_ in pairs), *further, "bytes", "bits/pixel", "s"]
    rows, classes = [], []
    best = max(results, key=lambda summary: summary.mean["psnr_y"])
    for summary in results:
        mean = summary.mean
        cells = [_pair(mean, *keys) for _, *keys in pairs]
        if summary.spread and cells:
            cells[0] += f" ± {summary.spread['psnr_y']:.4f} / {summary.spread['ssim_y']:.5f}"
        cells += [shown_mean(score.key, summary, chosen) for score in chosen.more]
        numbers = [shown("bytes", mean["bytes"]), f"{mean['bpp']:.3f}", shown("seconds", mean["seconds"])]
        rows.append([_label(summary), summary.stored, *cells, *numbers])
        classes.append("best" if summary is best else "")
    for codec in dict.fromkeys(summary.stored for summary in results):
        for row in published_on(results[0].set, results[0].scale, codec):
            cells = [_pair(row.scores, *keys) for _, *keys in pairs] + _more(row.scores, chosen, chosen.more)
            rows.append([row.method, codec, *cells, "", "", ""])
            classes.append("published")
    return page.table(titles, rows, classes=classes, words=2)


def _label(summary: Summary) -> str:
    draws = f", {summary.method.draws} draws" if summary.method.draws > 1 else ""
    return summary.method.name + draws


def _extremes(results: Sequence[Summary], chosen: Chosen) -> str:
    titles, pairs = ["method", "stored"], _pairs(results, chosen)
    for title in (*(title for title, *_ in pairs), *(score.title for score in chosen.of_photographs)):
        titles += [f"{title} least", f"{title} greatest"]
    rows = []
    for summary in results:
        ends = summary.min, summary.max
        cells = [_pair(end, *keys) for _, *keys in pairs for end in ends]
        cells += [shown(score.key, end[score.key], chosen) for score in chosen.of_photographs for end in ends]
        rows.append([_label(summary), summary.stored, *cells])
    return page.table(titles, rows, words=2)


def _photographs(results: Sequence[Summary], chosen: Chosen) -> str:
    pairs = _pairs(results, chosen)
    further = [score.title for score in chosen.of_photographs]
    titles = ["photograph", "method", "stored", *(title for title, *_ in pairs), *further, "bytes", "s"]
    rows = []
    for name in results[0].rows:
        for summary in results:
            scores = summary.rows[name]
            cells = [_pair(scores, *keys) for _, *keys in pairs] + _more(scores, chosen, chosen.of_photographs)
            numbers = [shown(key, scores[key]) for key in ("bytes", "seconds")]
            rows.append([name, _label(summary), summary.stored, *cells, *numbers])
    return page.table(titles, rows, words=3)


def _published_tables() -> list[str]:
    """Plain rescaling, rescaling through JPEG, super-resolution, and pictures made of noise."""
    rows = published()
    plain = [row for row in rows if row.codec == "png"]
    lossy = [row for row in rows if row.codec.startswith("jpg")]
    generated = [row for row in rows if row.codec == "generated"]
    others = [row for row in rows if row not in plain + lossy + generated]
    return [
        _table_of_pairs("HR luma", plain, [row.set for row in plain]),
        _table_of_pairs(f"{lossy[0].set}, HR luma, small picture as JPEG", lossy, [row.codec for row in lossy]),
        *(
            _table_of_scores(f"{name}, super-resolution of bicubic small pictures", list(group))
            for name, group in groupby(others, key=lambda row: row.set)
        ),
        _table_of_scores("Frechet distance (FID) of pictures that flows made of noise", generated),
    ]


def _table_of_pairs(title: str, rows: Sequence[Published], columns: Sequence[str]) -> str:
    """PSNR and SSIM of luma: methods by row; `columns`: for each row, in which column it belongs."""
    found: dict[tuple[int, str], dict[str, str]] = {}
    for row, column in sorted(zip(rows, columns, strict=True), key=lambda pair: pair[0].scale):
        found.setdefault((row.scale, row.method), {})[column] = _pair(row.scores, "psnr_y", "ssim_y")
    titles = list(dict.fromkeys(columns))
    lines = [[f"x{scale}", method, *(cells.get(c, "") for c in titles)] for (scale, method), cells in found.items()]
    return f"<h3>{escape(title)}</h3>" + page.table(["scale", "method", *titles], lines, words=2)


def _table_of_scores(title: str, rows: Sequence[Published]) -> str:
    """Whatever scores these have, by column; of generated pictures, sizes by column instead."""
    made = rows[0].codec == "generated"
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        cells = {row.set: f"{row.scores['fid']:.2f}"} if made else {k: f"{v:g}" for k, v in row.scores.items()}
        found.setdefault(row.method if made else f"{row.method}, x{row.scale}", {}).update(cells)
    titles = list(dict.fromkeys(key for cells in found.values() for key in cells))
    lines = [[method, *(cells.get(key, "") for key in titles)] for method, cells in found.items()]
    return f"<h3>{escape(title)}</h3>" + page.table(["method", *titles], lines)


def _sources() -> str:
    unique = dict.fromkeys((row.source, row.url) for row in published())
    links = "\n".join(f'<li><a href="{escape(url)}">{escape(title)}</a></li>' for title, url in unique)
    return f"<h3>Sources</h3>\n<ul>\n{links}\n</ul>"
