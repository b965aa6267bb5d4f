"""Tables for terminals."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]], *, words: int) -> list[str]:
    """Columns one under the other: the first `words` from the left, numbers from the right. A line may be empty."""
    widths = [max(len(line[k]) for line in lines if line) for k in range(len(lines[0]))]

    def one(line: Sequence[str]) -> str:
        cells = [cell.ljust(w) for cell, w in zip(line[:words], widths, strict=False)]
        return "  ".join(cells + [c.rjust(w) for c, w in zip(line[words:], widths[words:], strict=False)]).rstrip()

    return [one(line) for line in lines]
