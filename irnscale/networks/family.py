"""What a family of networks is, and how the `kind` of a model's card finds it. Importing this does not import torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from irnscale import plugins
from irnscale.networks.config import NetworkConfig as NetworkConfig  # what a family's file derives its own from

if TYPE_CHECKING:
    from torch import Tensor

    from irnscale.networks.network import Network

PACKAGE = "irnscale.networks.families"
ENTRY_POINTS = "irnscale.families"
"""The group in which other distributions name families of theirs."""
Task = Literal["rescaling", "assistance", "completion", "super-resolution", "density"]
"""Shrinking and restoring; preparing foreign small pictures for another model's inverse; saying what another model
threw away; enlarging foreign small pictures; knowing how likely a picture is, and drawing such."""


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
    objective: what trains it where a recipe names none, see `irnscale.train.objective`; None: that of its task.
    contradiction(config, tensors): what is wrong with weights of the right names and shapes, to go on "its card says
    that ..."; None: nothing.
    """

    config: type[NetworkConfig]
    task: Task
    build: Callable[[Any], Network]
    title: str
    recipe_key: str | None = None
    samples: bool = False
    objective: str | None = None
    contradiction: Callable[[Any, Mapping[str, Tensor]], str | None] = _nothing

    @property
    def kind(self) -> str:
        """Its name: what cards and recipes call it."""
        return self.config.kind

    @property
    def usual_objective(self) -> str:
        """The name of the objective that trains it where a recipe names none."""
        return self.objective or self.task.replace("-", "_")


def find_family(kind: str) -> Family:
    """The family of a name: `FAMILY` of the module so called in `irnscale.networks.families`, or an entry point.

    Raises LookupError, whose text goes on "its family, <kind>, ", where there is none or its module cannot be imported.
    """
    found: Family = plugins.find(kind, package=PACKAGE, attribute="FAMILY", group=ENTRY_POINTS)
    return found


def own_families() -> list[Family]:
    """The families that irnscale brings, by name."""
    return [find_family(name) for name in plugins.own_names(PACKAGE)]
