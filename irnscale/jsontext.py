"""JSON that somebody else may have written: cards, records, logs, states of runs, results that were kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from sys import float_info
from typing import Any, TypeGuard


def parsed(text: str | bytes, *, constant: Callable[[str], Any] | None = None) -> Any:
    """What the text says. `constant` is called with NaN, Infinity and -Infinity, which are floats without it.

    Raises ValueError where it is no JSON, or is nested too deeply to be read.
    """
    try:
        return json.loads(text, parse_constant=constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def is_real(value: object) -> TypeGuard[int | float]:
    """Whether it is a number that a float can hold, NaN and infinities among them."""
    return isinstance(value, float) or is_number(value)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is a finite number that a float can hold; JSON's whole numbers may have thousands of digits."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= float_info.max


def is_count(value: object) -> TypeGuard[int]:
    """Whether it is a whole number from 0 that 64 bits can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
