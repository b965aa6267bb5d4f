"""Names of models: bound to their weights for ever, so that better weights are a new generation of a family."""

from __future__ import annotations

import re

_NAME = re.compile(r"(?P<family>.+)\.(?P<generation>[2-9]|[1-9][0-9]+)")


def family(name: str) -> str:
    """What a model is an edition of: "irn-x4" for "irn-x4", "irn-x4.2" and "irn-x4.10"."""
    match = _NAME.fullmatch(name)
    return match["family"] if match else name


def generation(name: str) -> int:
    """Which edition of its family a model is, from 1, which no name says: 2 for "irn-x4.2"."""
    match = _NAME.fullmatch(name)
    return int(match["generation"]) if match else 1
