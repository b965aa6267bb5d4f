"""Shrink photographs so that they can be blown up again almost losslessly.

    import irnscale
    small = irnscale.load("x4").down(image)      # PIL image, numpy array or tensor
    restored = irnscale.load("x4").up(small, size=image.size)

    irnscale.down_file("photo.jpg", "small.png", scale=4)   # with the record and the coded detail, as `irnscale down`
    irnscale.up_file("small.png", "restored.png")

Importing this is cheap: torch is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from irnscale._version import __version__

if TYPE_CHECKING:
    from irnscale.engine.rescaler import Rescaler, load
    from irnscale.errors import IrnscaleError
    from irnscale.jobs.files import Written, down_file, up_file
    from irnscale.jobs.transfer import transfer_file

__all__ = ["IrnscaleError", "Rescaler", "Written", "__version__", "down_file", "load", "transfer_file", "up_file"]

_HOMES = {
    "IrnscaleError": "irnscale.errors",
    "Rescaler": "irnscale.engine.rescaler",
    "Written": "irnscale.jobs.files",
    "down_file": "irnscale.jobs.files",
    "load": "irnscale.engine.rescaler",
    "transfer_file": "irnscale.jobs.transfer",
    "up_file": "irnscale.jobs.files",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
