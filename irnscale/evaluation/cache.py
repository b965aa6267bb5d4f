"""Rows that were measured before, so that a second run measures only what is new."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irnscale.errors import OutputError
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.methods import Method
from irnscale.evaluation.pictures import Photograph
from irnscale.evaluation.ruler import FIELDS, Row, Ruler
from irnscale.jsontext import is_real, parsed
from irnscale.metrics.scores import Score
from irnscale.metrics.sets import Estimate
from irnscale.userfolders import cache_folder

NAME = "evaluate.ndjson"
PROTOCOL = 4
"""Changes when the same inputs would be measured otherwise, so that no old result is taken for a new one."""

_OPTIONAL = frozenset(("detail_psnr_y", "detail_ssim_y"))
"""Fields that are left out where they have no value."""


def open_cache(folder: Path | None, *, kept: bool = True) -> Cache:
    """The cache in `folder`, else in the user's; without `kept`, or where the user has none, one that keeps nothing."""
    if not kept:
        return Cache(None)
    if folder is not None:
        return Cache(folder / NAME)
    base = cache_folder()
    return Cache(None if base is None else base / "irnscale" / NAME, dispensable=True)


class Cache:
    """Rows on disk, by all they depend on.

    A file of JSON lines; one that was cut off or damaged costs the lines concerned. `path` None keeps nothing, and a
    `dispensable` one that cannot be read or written neither; any other is an OutputError.
    """

    def __init__(self, path: Path | None, *, dispensable: bool = False) -> None:
        self._path, self._dispensable = path, dispensable
        self._rows: dict[str, Row] = {}
        self._scores: dict[str, float] = {}
        self._cut = False
        if path is None or not os.path.lexists(path):
            return
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            self._give_up(error)
            return
        self._cut = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                entry = parsed(line)
                if "score" in entry:
                    self._scores[entry["key"]] = math.nan if entry["score"] is None else float(entry["score"])
                    continue
                row = dict(entry["row"])
                if set(FIELDS) - _OPTIONAL <= set(row) <= set(FIELDS) and all(map(is_real, row.values())):
                    self._rows[entry["key"]] = {name: row.get(name, math.nan) for name in FIELDS}
            except (ValueError, KeyError, TypeError, OverflowError):
                continue

    @staticmethod
    def key(method: Method, photograph: Photograph, codec: Codec, ruler: Ruler, draw: int = 0) -> str:
        """64 hexadecimal digits that identify a row: they change with all that its scores depend on."""
        device = None if ruler.device is None else str(ruler.device)
        what = (method.identity, method.scale, codec.name, draw)
        parts = (PROTOCOL, *what, photograph.digest, photograph.multiple, ruler.rounded_luma, device, ruler.crop)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    @staticmethod
    def key_of_set(method: Method, digests: Sequence[str], multiple: int, codec: Codec, draw: int = 0) -> str:
        """What identifies the scores of a set, whose files have these `digests`."""
        parts = (PROTOCOL, "set", method.identity, method.scale, codec.name, draw, *digests, multiple)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def get(self, key: str) -> Row | None:
        """The fields of a row that was measured earlier."""
        return self._rows.get(key)

    def put(self, key: str, row: Row) -> None:
        """Keep a row's fields, at once: an interrupted run loses nothing that it has measured."""
        self._rows[key] = row
        self._append({"key": key, "row": {n: v for n, v in row.items() if n not in _OPTIONAL or not math.isnan(v)}})

    def score(self, key: str, score: Score) -> float | None:
        """A score that was measured earlier of what `key` identifies."""
        return self._scores.get(_of_score(key, score))

    def put_score(self, key: str, score: Score, value: float) -> None:
        """Keep one score, as `put` does."""
        self._scores[_of_score(key, score)] = value
        self._append({"key": _of_score(key, score), "score": None if math.isnan(value) else value})

    def estimate(self, key: str, score: Score) -> Estimate | None:
        """A score of a set that was measured earlier."""
        value, deviation = (self.score(of, score) for of in (key, f"{key} deviation"))
        return None if value is None or deviation is None else Estimate(value, deviation)

    def put_estimate(self, key: str, score: Score, estimate: Estimate) -> None:
        """Keep one score of a set, as `put` does."""
        self.put_score(key, score, estimate.value)
        self.put_score(f"{key} deviation", score, estimate.deviation)

    def _append(self, entry: dict[str, Any]) -> None:
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with self._path.open("a", encoding="utf-8") as file:
                    file.write("\n" * self._cut + json.dumps(entry) + "\n")
            except OSError as error:
                self._give_up(error)
            self._cut = False

    def _give_up(self, error: OSError) -> None:
        if not self._dispensable:
            what = f"{self._path}: cannot keep results there: {error.strerror}"
            hint = "name another folder with `cache`, or give `no_cache`"
            raise OutputError(what, hint, parameters=("cache", "no_cache")) from error
        self._path = None


def _of_score(key: str, score: Score) -> str:
    return hashlib.sha256(f"{key} {score.identity}".encode()).hexdigest()
