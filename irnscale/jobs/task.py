"""What distinguishes `down` and `up`: which models, which size, what is done to the pixels, what should be said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from irnscale.images.record import settings_digest
from irnscale.jobs.settings import Settings, Tell

if TYPE_CHECKING:
    from irnscale.batch import Naming
    from irnscale.engine.executor import Progress
    from irnscale.engine.rescaler import Rescaler
    from irnscale.images.picture import Picture
    from irnscale.images.read import Header
    from irnscale.images.record import Provenance
    from irnscale.zoo import Model

    Rescaled = tuple[Picture, Provenance]


@dataclass(frozen=True)
class Choice:
    """Which models rescale an input, and text that identifies all that its output depends on but its bytes.

    facts: what programs are told of it beside the name of the model.
    """

    models: Sequence[Model]
    scale: int
    settings: str
    assistant: Model | None = None
    completion: Model | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the record calls the models: their names, joined by +, or that of the one that helps them."""
        from irnscale.zoo import combined_name

        helper = self.assistant or self.completion
        return helper.card.name if helper else combined_name(self.models)

    @property
    def digest(self) -> str:
        """What the record keeps of the settings."""
        return settings_digest(self.settings)


@dataclass(frozen=True)
class Request:
    """What pictures are to become: all of one size, (width, height); `settings`: text of which records keep a digest.

    samples: of a single picture, which to make.
    """

    size: tuple[int, int]
    settings: str
    tell: Tell
    progress: Progress | None
    samples: Sequence[int] = (1,)


class Task(Protocol):
    """`down` or `up` with its options. Picklable, and without state: workers on other machines have their own.

    Neither making one nor `choose` imports torch.
    """

    @property
    def settings(self) -> Settings:
        """What it has in common with the other."""

    @property
    def kind(self) -> str:
        """What the records of its outputs say: "down" or "up"."""

    @property
    def scales(self) -> Sequence[int]:
        """The scales that inputs may have."""

    @property
    def samples(self) -> int:
        """How many outputs each input has."""

    @property
    def naming(self) -> Naming:
        """How outputs are called that get no name of their own. Raises UsageError."""

    @property
    def fingerprint(self) -> str:
        """What must be the same wherever the task is done, such as the weights of the models that it names."""

    def choose(self, label: str, record: Provenance | None, format: str | None = None, *, sample: int = 1) -> Choice:
        """The models for an input with this record, stored as `format`. Raises IrnscaleError. Does not import torch.

        sample: which of the input's outputs.

        The scale does not depend on the format.
        """

    def size(self, choice: Choice, header: Header) -> tuple[int, int]:
        """(width, height) of the output."""

    def recover(self, label: str, data: bytes, header: Header) -> Header:
        """The header, with what the pixels alone tell: the record that they stand in for, how they were turned."""

    def prepare(self, label: str, picture: Picture, tell: Tell) -> Picture:
        """The picture with what else is found in it. Raises IrnscaleError."""

    def notes(self, choice: Choice, picture: Picture) -> list[str]:
        """What the user should know about this input; each begins as what its name is followed by."""

    def notes_once(self, choice: Choice, picture: Picture) -> list[str]:
        """The like, of which one input in a run is enough."""

    def compute(self, rescaler: Rescaler, pictures: Sequence[Picture], wanted: Request) -> list[Rescaled]:
        """The rescaled pictures and the records to write."""
