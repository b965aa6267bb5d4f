"""What the configurations of all networks have in common. Importing this does not import torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar


@dataclass(frozen=True)
class NetworkConfig:
    """What defines a network of a family up to its weights; its fields are the `architecture` on a model's card.

    kind: the family's name, on cards, in recipes and among entry points. Every family but an assistant's has a `scale`.
    """

    kind: ClassVar[str]
    if TYPE_CHECKING:

        @property
        def scale(self) -> int:
            """Side of the large picture over side of the small one."""

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON: tuples become lists."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def check_at_least_one(self, *names: str) -> None:
        """Raise ValueError for the first of these fields, counts and widths, that is below 1."""
        for name in names:
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
