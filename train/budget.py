"""How long a run is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from irnscale.errors import UsageError


@dataclass(frozen=True)
class Budget:
    """A number of steps, or seconds of wall-clock; exactly one is set."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """ "5000" is steps; "90s", "20m", "1.5h" is time. Raises UsageError."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
        if not match or float(match[1]) <= 0:
            raise UsageError(f"budget {text!r} is not a number of steps or a time like 90s, 20m, 1.5h")
        if not match[2]:
            if "." in match[1]:
                raise UsageError(f"budget {text!r}: a number of steps must be whole")
            return cls(steps=int(match[1]))
        return cls(seconds=float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]])

    def fraction(self, steps: int, seconds: float) -> float:
        """How much of the budget is used, 0 to 1 and beyond."""
        if self.steps is not None:
            return steps / self.steps
        assert self.seconds is not None
        return seconds / self.seconds
