"""Rows that were measured before, so that a second run measures only what is new."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from dataclasses import MISSING, asdict, fields
from pathlib import Path

from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.methods import Method
from irnscale.evaluation.pictures import Photograph
from irnscale.evaluation.ruler import FIELDS, Row, Ruler

PROTOCOL = 3
"""Changes when the same inputs would be measured otherwise, so that no old result is taken for a new one."""

_MEASURED = {field.name for field in fields(Row) if field.default is MISSING}
"""What every row has."""


def default_folder() -> Path:
    """The user's folder for what can be made again."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "irnscale"


class Cache:
    """Rows on disk, by all they depend on.

    A file of JSON lines; one that was cut off or damaged costs the lines concerned. `path` None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, Row] = {}
        self._cut = False
        if path is None or not path.is_file():
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        self._cut = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                if _MEASURED <= set(entry["row"]) <= set(FIELDS):
                    self._rows[entry["key"]] = Row(**entry["row"])
            except (ValueError, KeyError, TypeError):
                continue

    @staticmethod
    def key(method: Method, photograph: Photograph, codec: Codec, ruler: Ruler, draw: int = 0) -> str:
        """What identifies a row."""
        device = None if ruler.device is None else str(ruler.device)
        what = (method.identity, method.scale, codec.name, draw)
        parts = (PROTOCOL, *what, photograph.digest, photograph.multiple, ruler.rounded_luma, device, ruler.crop)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def get(self, key: str) -> Row | None:
        """A row measured earlier."""
        return self._rows.get(key)

    def put(self, key: str, row: Row) -> None:
        """Keep a row, at once: an interrupted run loses nothing that it has measured."""
        self._rows[key] = row
        if self._path is not None:
            kept = {name: value for name, value in asdict(row).items() if name in _MEASURED or not math.isnan(value)}
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._cut + json.dumps({"key": key, "row": kept}) + "\n")
            self._cut = False
