"""What is found by its name: a module of a package of ours, or an entry point of another distribution."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any


def find(name: str, *, group: str, package: str = "", attribute: str = "") -> Any:
    """`attribute` of the module `name` in `package`, or what an entry point of that name in `group` names.

    Raises LookupError, whose text goes on "its family, <name>, ", where there is none or it cannot be imported.
    """
    if package and name in own_names(package):
        return getattr(import_module(f"{package}.{name}"), attribute)
    for entry in entry_points(group=group, name=name):
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            raise LookupError(f"cannot be imported from {entry.value}: {error}") from error
    raise LookupError("is not installed")


def own_names(package: str) -> list[str]:
    """The names of our own, sorted: the modules of `package`."""
    return sorted(module.name for module in pkgutil.iter_modules(import_module(package).__path__))
