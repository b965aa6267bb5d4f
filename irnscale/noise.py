"""What may be asked of noise: its standard deviation. Imports nothing heavy: the command line starts quickly."""

from __future__ import annotations

from irnscale.errors import UsageError

HOTTEST = 100.0
"""The highest temperature; networks are trained at 1."""


def check_temperature(temperature: float, *, zero: bool = True) -> None:
    """Raise UsageError unless it is a number from 0 to HOTTEST; zero: whether 0, no noise, will do."""
    if not 0 <= temperature <= HOTTEST or (not zero and not temperature):
        least = "from 0" if zero else "above 0 and up"
        what = f"temperature={temperature:g}: is no number {least} to {HOTTEST:g}"
        raise UsageError(what, "for example temperature=0.8", parameters=("temperature",))
