"""Shrink photographs so that they can be blown up again almost losslessly.

    import irnscale
    small = irnscale.load("x4").down(image)      # PIL image, numpy array or tensor
    restored = irnscale.load("x4").up(small, size=image.size)

Importing this is cheap: torch is loaded by `load` and `Rescaler`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from irnscale.engine.rescaler import Rescaler, load

__all__ = ["Rescaler", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Rescaler", "load"):
        from irnscale.engine import rescaler

        return getattr(rescaler, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
