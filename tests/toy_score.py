"""A score in one file: how far colours are off. What CONTRIBUTING says a score needs."""

from __future__ import annotations

from irnscale.metrics.scores import Files, Score, Seen


def tint(seen: Seen) -> float:
    """The largest difference of a channel's mean between both pictures, in grey levels."""
    return 255 * (seen.restored.mean((2, 3)) - seen.original.mean((2, 3))).abs().max().item()


def score(files: Files) -> Score:
    """The entry point `tint = "toy_score:score"` in the group `irnscale.scores`."""
    return Score("tint", "Tint", "difference of the mean colours, in grey levels", False, 3, "tint 1", of=tint)
