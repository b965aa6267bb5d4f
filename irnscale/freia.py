"""What is used of FrEIA, imported without scipy.stats.

FrEIA imports scipy.stats for the random rotation of one of its blocks, which no network here has. That takes a
second of processor time, a third of what a command takes to start, so it is left until such a block is made.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

DEFERRED = "special_ortho_group"


class _Deferred:
    """Stands for a distribution of scipy.stats, and imports it on use."""

    def __getattr__(self, name: str) -> Any:
        import scipy.stats

        return getattr(getattr(scipy.stats, DEFERRED), name)


def _import() -> None:
    name = "scipy.stats"
    if name in sys.modules:
        return
    stand_in = ModuleType(name)
    setattr(stand_in, DEFERRED, _Deferred())
    sys.modules[name] = stand_in
    try:
        import FrEIA  # noqa: F401
    except ImportError:  # another version that needs more of it
        pass
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


_import()

from FrEIA.framework import SequenceINN  # noqa: E402
from FrEIA.modules import InvertibleModule  # noqa: E402
from FrEIA.modules.coupling_layers import _BaseCouplingBlock as BaseCouplingBlock  # noqa: E402

__all__ = ["BaseCouplingBlock", "InvertibleModule", "SequenceINN"]
