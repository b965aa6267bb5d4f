"""The array of a picture's samples."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

Pixels = npt.NDArray[Any]
"""uint8 or uint16, of a shape that whoever uses it says; numpy's types cannot say so without a cast at each step."""
