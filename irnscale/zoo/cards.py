"""Model cards: what a checkpoint is, where it comes from and what it was measured to do."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from irnscale.errors import ModelError
from irnscale.images.record import SCALES
from irnscale.jsontext import is_number, parsed

MOST_LOST = 0.03
"""dB of luma PSNR that a number format may cost a model on any set, for `auto` to choose it."""
TEXTS = ("kind", "base", "base_digest", "description", "origin", "data", "licence")
SHOWN = ("name", "kind", "base", "base_digest")
"""Texts that stand in tables, of which control characters would make other tables."""


@dataclass(frozen=True)
class ModelCard:
    """The JSON beside `<name>.safetensors`.

    kind: the family of the network, see `networks.family`. One that prepares small pictures for another model has the
    name of that model as `base`, its digest as `base_digest`, and its scale as its own.
    architecture: keyword arguments of the family's configuration. scores: by data set, `psnr_y` and `ssim_y` of the
    restored picture and `lr_psnr_y`, `lr_ssim_y` of the small one against bicubic. precisions: number formats that
    `auto` may choose from, of which it takes none that costs more than `MOST_LOST` on any set. precision_costs: by
    number format and set, what its round trip loses against float32, in dB of luma PSNR.
    sha256: of the weights file.
    """

    name: str
    scale: int
    architecture: dict[str, Any]
    sha256: str
    kind: str = "irn"
    base: str = ""
    base_digest: str = ""
    jpeg_resistant: bool = False
    description: str = ""
    origin: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    licence: str = ""
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    precisions: tuple[str, ...] = ("float32",)
    precision_costs: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The first 12 hexadecimal digits of the weights' sha256: what provenance records."""
        return self.sha256[:12]

    @property
    def automatic(self) -> set[str]:
        """The number formats that `auto` chooses from."""
        return {name for name in self.precisions if (self.cost(name) or 0) <= MOST_LOST}

    def cost(self, precision: str) -> float | None:
        """What a number format costs at most, in dB of luma PSNR, over the sets that were measured; None: none was."""
        return max(self.precision_costs.get(precision, {}).values(), default=None)

    def to_json(self) -> str:
        """Indented JSON, one trailing newline."""
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def read_card(path: Path) -> ModelCard:
    """Read a card. Raises ModelError naming the file and the first thing wrong with it."""
    try:
        # version 0.1.0 wrote NaN of sets whose pictures are too small for a score
        values = parsed(path.read_text(encoding="utf-8"), constant=lambda _: None)
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model card: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{path}: the model card is not JSON", "reinstall or import the model again") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path}: the model card is not a JSON object", "import the model again")
    if not _sound(values):
        raise ModelError(f"{path}: the model card has fields of the wrong kind", "import the model again")
    known = {f.name: f for f in fields(ModelCard)}
    for key, kind in (("name", str), ("scale", int), ("architecture", dict), ("sha256", str)):
        if not isinstance(values.get(key), kind):
            raise ModelError(f"{path}: the model card lacks a valid {key!r}", "import the model again")
    if isinstance(values["scale"], bool) or not 2 <= values["scale"] <= SCALES[-1]:
        raise ModelError(f"{path}: the model card's scale is not from 2 to {SCALES[-1]}", "import the model again")
    values = {k: v for k, v in values.items() if k in known}
    for key in {"scores", "precision_costs"} & values.keys():
        values[key] = {of: {k: v for k, v in row.items() if v is not None} for of, row in values[key].items()}
    values["precisions"] = tuple(values.get("precisions", ("float32",)))
    return ModelCard(**values)


def _sound(values: dict[str, Any]) -> bool:
    """Whether the optional fields are of the kinds that `ModelCard` says, and all numbers ones to calculate with."""
    precisions = values.get("precisions", [])
    tables = [values.get(key, {}) for key in ("scores", "precision_costs")]
    architecture = values.get("architecture")
    settings = list(architecture.values()) if isinstance(architecture, dict) else []
    settings += [one for several in settings if isinstance(several, list) for one in several]
    return (
        all(isinstance(values.get(key, ""), str) for key in TEXTS)
        and all(text.isprintable() for key in SHOWN if isinstance(text := values.get(key), str))
        and isinstance(values.get("jpeg_resistant", False), bool)
        and isinstance(values.get("training", {}), dict)
        and isinstance(precisions, list)
        and all(isinstance(name, str) for name in precisions)
        and all(isinstance(table, dict) for table in tables)
        and all(isinstance(row, dict) for table in tables for row in table.values())
        and all(v is None or is_number(v) for table in tables for row in table.values() for v in row.values())
        and all(is_number(one) for one in settings if type(one) in (int, float))
    )


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
