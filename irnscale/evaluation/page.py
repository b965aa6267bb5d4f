"""The parts of a self-contained HTML page: nothing on it is fetched from anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from irnscale.evaluation.crops import Crop


def _asset(name: str) -> str:
    return (resources.files("irnscale") / "assets" / name).read_text(encoding="utf-8")


def page(title: str, body: Iterable[str]) -> bytes:
    """A whole document, UTF-8. Its policy forbids the browser to load anything that is not in it."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    lines = (
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<link rel="icon" href="data:,">',  # or the browser asks for one
        f"<title>{escape(title)}</title><style>\n{_asset('report.css')}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *body,
        f"<script>\n{_asset('report.js')}</script></body></html>",
    )
    return ("\n".join(lines) + "\n").encode(errors="backslashreplace")  # names of files may be no text


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, classes: Sequence[str] = (), words: int = 1) -> str:
    """A table; cells are text, the first `words` columns are words. `classes`: one per row, may be empty."""

    def line(cells: Sequence[str], tag: str, name: str = "") -> str:
        inner = "".join(
            f"<{tag}{' class=words' if place < words else ''}>{escape(cell)}</{tag}>"
            for place, cell in enumerate(cells)
        )
        return f"<tr{f' class={name}' if name else ''}>{inner}</tr>"

    body = [line(row, "td", classes[n] if n < len(classes) else "") for n, row in enumerate(rows)]
    return f'<div class="wide"><table>\n{line(titles, "th")}\n' + "\n".join(body) + "\n</table></div>"


def paragraph(text: str) -> str:
    """Text as a paragraph of HTML, escaped."""
    return f"<p>{escape(text)}</p>"


def heading(text: str) -> str:
    """Text as a heading below the title."""
    return f"<h2>{escape(text)}</h2>"


def details(title: str, inner: str) -> str:
    """Markup that is shown on a click."""
    return f"<details><summary>{escape(title)}</summary>\n{inner}\n</details>"


def figure(uri: str, text: str) -> str:
    """A picture, given as a data URI, with a text for those who do not see it."""
    return f'<figure><img src="{escape(uri)}" alt="{escape(text)}"></figure>'


def slider(crops: Sequence[Crop]) -> str:
    """A choice of crops and two pictures of it, one beside the other along a line that can be moved."""
    data = [
        {
            "title": crop.title,
            "pictures": crop.pictures,
            "notes": crop.notes,
            "left": _preferred(crop, 0),
            "right": _preferred(crop, 1),
        }
        for crop in crops
    ]
    text = json.dumps(data).replace("<", "\\u003c")  # neither </script> nor <!-- may end or hide it
    return f"""<div class="compare">
<script type="application/json">{text}</script>
<div class="controls"><label>part <select></select></label><label>left <select></select></label>
<label>right <select></select></label></div>
<div class="stage"><img class="right" alt=""><img class="left" alt=""><div class="bar"></div></div>
<input type="range" min="0" max="100" step="0.1" aria-label="where the left picture ends">
<div class="notes"><span class="note-left"></span><span class="note-right"></span></div>
</div>"""


def _preferred(crop: Crop, place: int) -> str:
    """To begin with: the first model, else what comes first, beside bicubic."""
    labels = list(crop.pictures)
    models = [label.removesuffix(": small") for label in labels if label.endswith(": small")]
    if place == 0:
        return next(iter(models), labels[0])
    return "bicubic" if "bicubic" in labels else labels[-1]
