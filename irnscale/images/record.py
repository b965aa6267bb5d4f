"""The record that `down` and `up` leave in a file. Its JSON is read as if an enemy had written it."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, NoReturn

from irnscale.jsontext import parsed

KEYWORD = "irnscale"
MAX_RECORD = 16 * 1024
SCHEMA = 1
SCALES = (2, 3, 4, 8, 16, 32, 64)
_MAX_SIDE = 2**31

_PATTERNS = {
    "kind": re.compile(r"down|up"),
    "version": re.compile(r"[0-9A-Za-z.+!_-]{1,64}"),
    "model": re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,200}"),
    "digest": re.compile(r"[0-9a-f]{12}"),
    "original_format": re.compile(r"[a-z0-9]{1,16}"),
    "source_digest": re.compile(r"[0-9a-f]{64}"),
    "settings_digest": re.compile(r"[0-9a-f]{8,64}"),
}
_BOUNDS = {
    "scale": (2, SCALES[-1]),
    "width": (1, _MAX_SIDE),
    "height": (1, _MAX_SIDE),
    "lr_width": (1, _MAX_SIDE),
    "lr_height": (1, _MAX_SIDE),
    "crc": (0, 2**32 - 1),
}


@dataclass(frozen=True)
class Provenance:
    """How a picture was made. `width` and `height` are the original's, `lr_*` the small picture's."""

    kind: str  # "down" or "up"
    version: str  # of irnscale
    model: str  # its id
    digest: str  # first 12 hexadecimal digits of the model's sha256
    scale: int
    width: int
    height: int
    lr_width: int
    lr_height: int
    padding: tuple[int, int]  # (right, bottom), in pixels of the original
    jpeg_resistant: bool
    original_format: str
    source_digest: str  # sha256 of the input file
    settings_digest: str  # 8 to 64 hexadecimal digits
    crc: int  # of the small picture's pixels, see `picture.pixel_crc`
    opaque_alpha: bool
    gray: bool
    in_colour: bool = False  # of a gray original: the small picture has three channels all the same
    detail: dict[str, Any] | None = None  # what is said of the coded layer, see docs/detail.md; None: there is none

    def to_json(self) -> str:
        """One line of JSON. Raises ValueError for a record that `from_json` would refuse."""
        values = asdict(self)
        _validate(values)
        said = {f.name: values[f.name] for f in fields(self) if f.default is MISSING or values[f.name] != f.default}
        text = json.dumps({"schema": SCHEMA, **said}, separators=(",", ":"))
        if len(text) > MAX_RECORD:
            raise ValueError(f"the record has {len(text)} bytes, more than {MAX_RECORD}")
        return text

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Read a record, trusting nothing. Raises ValueError naming the first thing that is wrong.

        Keys that this version does not know are ignored, so that later versions may add some. A key that was added
        after the first release has a default, which is what its absence means: old files stay readable.
        """
        if len(text) > MAX_RECORD:
            raise ValueError(f"the record has {len(text)} characters, more than {MAX_RECORD}")
        data = parsed(text, constant=_refuse_constant)
        if not isinstance(data, dict):
            raise ValueError("the record is not an object")
        if data.get("schema", SCHEMA) != SCHEMA or isinstance(data.get("schema"), bool):
            raise ValueError("the record was written by a newer version")
        known = fields(cls)
        missing = [f.name for f in known if f.name not in data and f.default is MISSING]
        if missing:
            raise ValueError(f"the record lacks {missing[0]}")
        values = {f.name: data.get(f.name, f.default) for f in known}
        _validate(values)
        return cls(**{**values, "padding": tuple(values["padding"])})


def settings_digest(settings: str) -> str:
    """The first 16 hexadecimal digits of the sha256 of text that identifies the options used."""
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")


def _validate(values: dict[str, Any]) -> None:
    """Check types, bounds and that the sizes agree; `values` has all fields. Raises ValueError."""
    for name, pattern in _PATTERNS.items():
        value = values[name]
        if not isinstance(value, str) or not pattern.fullmatch(value) or not value.isprintable():
            raise ValueError(f"{name} is not valid")
    for name, (low, high) in _BOUNDS.items():
        if not _is_int(values[name]) or not low <= values[name] <= high:
            raise ValueError(f"{name} is not a whole number from {low} to {high}")
    for name in ("jpeg_resistant", "opaque_alpha", "gray", "in_colour"):
        if not isinstance(values[name], bool):
            raise ValueError(f"{name} is neither true nor false")
    scale = values["scale"]
    if scale not in SCALES:
        raise ValueError(f"scale is none of {', '.join(map(str, SCALES))}")
    expected = [values[f"lr_{side}"] * scale - values[side] for side in ("width", "height")]
    if not all(0 <= pad < scale for pad in expected):
        raise ValueError("the small size does not follow from the original size and the scale")
    _validate_detail(values.get("detail"))
    padding = values["padding"]
    if not isinstance(padding, (list, tuple)) or not all(map(_is_int, padding)) or list(padding) != expected:
        raise ValueError("padding does not follow from the sizes and the scale")


def _validate_detail(detail: object) -> None:
    """What the record says of the coded layer: where it is, its size, and luma PSNR with, without and by bicubic."""
    if detail is None:
        return
    if not isinstance(detail, dict) or not isinstance(detail.get("codec"), str):
        raise ValueError("detail is not valid")
    bounds = {"bits": (0, 8), "side": (16, 4080), "bytes": (1, 2**40), "attached": (0, 2**40)}
    if not all(_is_int(detail.get(k)) and low <= detail[k] <= high for k, (low, high) in bounds.items()):
        raise ValueError("detail is not valid")
    if not isinstance(detail.get("exact"), bool):
        raise ValueError("detail is not valid")
    psnr = detail.get("psnr")
    sound = isinstance(psnr, list) and len(psnr) == 3 and all(isinstance(v, int | float) for v in psnr)
    if not sound or not re.fullmatch(r"[A-Za-z0-9-]{1,16}", detail["codec"]):
        raise ValueError("detail is not valid")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
