"""What a run records about itself."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from irnscale.errors import OutputError


class Log:
    """`log.jsonl` of a run: one JSON object per line; numbers that JSON cannot hold become null."""

    def __init__(self, out: Path) -> None:
        self.path = out / "log.jsonl"
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{out}: cannot be made a folder: {error.strerror or error}") from error

    def write(self, record: dict[str, Any]) -> None:
        """Append one record. Raises OutputError."""
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(clean) + "\n")
        except OSError as error:
            raise OutputError(f"{self.path}: could not be written: {error.strerror or error}") from error
