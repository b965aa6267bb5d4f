"""What a family of networks is, and how the `kind` of a model's card finds it. Importing this does not import torch."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from irnscale.networks.config import NetworkConfig as NetworkConfig  # what a family's file derives its own from

if TYPE_CHECKING:
    from torch import Tensor

    from irnscale.networks.network import Network

PACKAGE = "irnscale.networks.families"
ENTRY_POINTS = "irnscale.families"
"""The group in which other distributions name families of theirs."""
Task = Literal["rescaling", "assistance", "super-resolution"]
"""Shrinking and restoring; preparing foreign small pictures for another model's inverse; enlarging them."""


def _nothing(config: Any, tensors: Mapping[str, Tensor]) -> None:
    """For families whose configuration says nothing about the values of weights."""


@dataclass(frozen=True)
class Family:
    """All that the rest of the program knows of a family: `FAMILY` in a file of its own.

    config: its fields are what a recipe and a card may say; it raises ValueError for those that make no network.
    build: an untrained network of a configuration, of the class that `irnscale.networks.network` has for the task.
    title: what the description of a trained model begins with; "{scale}" and "{base}" are filled in.
    recipe_key: a recipe in which this key has a value trains this family, without naming it.
    samples: whether its networks are `SamplingNetwork`s, which give another result for each seed.
    contradiction(config, tensors): what is wrong with weights of the right names and shapes, to go on "its card says
    that ..."; None: nothing.
    """

    config: type[NetworkConfig]
    task: Task
    build: Callable[[Any], Network]
    title: str
    recipe_key: str | None = None
    samples: bool = False
    contradiction: Callable[[Any, Mapping[str, Tensor]], str | None] = _nothing

    @property
    def kind(self) -> str:
        """Its name: what cards and recipes call it."""
        return self.config.kind


def find_family(kind: str) -> Family:
    """The family of a name: `FAMILY` of the module so called in `irnscale.networks.families`, or an entry point.

    Raises LookupError, whose text goes on "its family, <kind>, ", where there is none or its module cannot be imported.
    """
    if kind.isidentifier() and find_spec(f"{PACKAGE}.{kind}"):
        own: Family = import_module(f"{PACKAGE}.{kind}").FAMILY
        return own
    for entry in entry_points(group=ENTRY_POINTS, name=kind):
        try:
            found: Family = entry.load()
        except (ImportError, AttributeError) as error:
            raise LookupError(f"cannot be imported from {entry.value}: {error}") from error
        return found
    raise LookupError("is not installed")


def own_families() -> list[Family]:
    """The families that irnscale brings, by name."""
    names = [module.name for module in pkgutil.iter_modules(import_module(PACKAGE).__path__)]
    return [find_family(name) for name in sorted(names)]
