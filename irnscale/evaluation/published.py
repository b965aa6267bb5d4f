"""Figures that others published, to stand beside ours; all of them in `assets/published.json`, with sources."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

_PLACE = ("method", "scale", "set", "codec", "source")


_PLACE = ("method", "scale", "set", "codec", "source")


@dataclass(frozen=True)
class Published:
    """A row of a published table: `scores` by the names that `irnscale evaluate` gives them, as printed there.

    codec: as `Codec.name` has it; "bicubic LR": super-resolution of bicubic small pictures; "generated": pictures
    that a flow made of noise alone, of the size that `set` names.
    """

    method: str
    scale: int
    set: str
    codec: str
    scores: dict[str, float]
    source: str
    url: str


@cache
def published() -> tuple[Published, ...]:
    """All published rows, in the file's order."""
    data = json.loads((resources.files("irnscale") / "assets" / "published.json").read_text(encoding="utf-8"))
    found = []
    for row in data["rows"]:
        source = data["sources"][row["source"]]
        scores = {key: value for key, value in row.items() if key not in _PLACE}
        where = (row["method"], row["scale"], row["set"], row.get("codec", "png"))
        found.append(Published(*where, scores, source["title"], source["url"]))
    return tuple(found)


def published_on(name: str, scale: int, codec: str) -> list[Published]:
    """Those of a set, a scale and a codec as `Codec.name` has it; sets are told by name."""
    return [row for row in published() if (row.set.lower(), row.scale, row.codec) == (name.lower(), scale, codec)]
