"""What is used of FrEIA, imported without scipy.stats, and without its warnings.

FrEIA imports scipy.stats for the random rotation of one of its blocks, which no network here has. That takes a
second of processor time, a third of what a command takes to start, so it is left until such a block is made.

A docstring of FrEIA 0.2 has an invalid escape sequence. Where its bytecode was not compiled at installation, Python
3.12 and later say so on the first import, which is nothing that a user could mend, and an error where warnings are.
"""

from __future__ import annotations

import sys
import warnings
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


with warnings.catch_warnings():
    # SyntaxWarning from Python 3.12 on, DeprecationWarning before
    warnings.filterwarnings("ignore", message=".*invalid escape sequence")
    _import()

    from FrEIA.framework import SequenceINN
    from FrEIA.modules import InvertibleModule
    from FrEIA.modules.coupling_layers import _BaseCouplingBlock as BaseCouplingBlock


class SameShape(InvertibleModule):  # type: ignore[misc] # FrEIA has no types
    """An `InvertibleModule` whose output has the shape of its input."""

    def output_dims(self, input_dims: list[Any]) -> list[Any]:
        """Shapes without the batch; they stay as they are."""
        return input_dims


__all__ = ["BaseCouplingBlock", "InvertibleModule", "SameShape", "SequenceINN"]
