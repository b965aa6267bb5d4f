"""Keys with bounds in dataclasses, and how YAML and `key=value` words become one; unknown keys are errors."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from dataclasses import MISSING, Field, dataclass, field, fields, make_dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from irnscale.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
LARGEST = {int: 2**63 - 1, float: 1e30}
"""What a key's number may be, with either sign: what torch can hold as such."""


@dataclass(frozen=True)
class Group:
    """Keys that belong together. Raises UsageError for a value out of its key's bounds, or that is not a number."""

    def __post_init__(self) -> None:
        for key in fields(self):
            value = getattr(self, key.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{key.name}={value} is not a number to train with")
            if type(value) in LARGEST and abs(value) > LARGEST[type(value)]:
                raise UsageError(f"{key.name}={value} is too large a number")
            if value is not None and "allows" in key.metadata and not key.metadata["allows"](value):
                raise UsageError(f"{key.name}={value} {key.metadata['words']}")


def bounded(default: object, allows: Callable[[Any], bool], words: str) -> Any:
    """A key whose values `allows` takes, or None; `words` say which, after the name and the value."""
    return field(default=default, metadata={"allows": allows, "words": words})


def above_zero(default: float | None) -> Any:
    """A key above 0, or None."""
    return bounded(default, lambda value: value > 0, "must be above 0")


def at_least_one(default: int | None, most: int | None = None) -> Any:
    """A key of at least 1 and, where it is given, at most `most`; or None."""
    if most is not None:
        return bounded(default, lambda value: 1 <= value <= most, f"must be from 1 to {most}")
    return bounded(default, lambda value: value >= 1, "must be at least 1")


def not_negative(default: float | None) -> Any:
    """A key of at least 0, or None."""
    return bounded(default, lambda value: value >= 0, "must not be negative")


def below_one(default: float) -> Any:
    """A key from 0 to below 1."""
    return bounded(default, lambda value: 0 <= value < 1, "must be at least 0 and below 1")


def share(default: float, words: str = "must be from 0 to 1") -> Any:
    """A key from 0 to 1."""
    return bounded(default, lambda value: 0 <= value <= 1, words)


def one_of(default: str, allowed: Sequence[str]) -> Any:
    """A key with a few values."""
    return bounded(default, lambda value: value in allowed, f"must be one of {', '.join(allowed)}")


def default_of(key: Field[Any]) -> Any:
    """What a key is where nothing is said."""
    return key.default if key.default_factory is MISSING else key.default_factory()


_CHECKED: dict[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "list[int]": list[int]}
_CHECKED |= {"int | None": int | None, "float | None": float | None, "str | None": str | None}


def schema(kinds: Sequence[type[DataclassInstance]], **more: tuple[Any, Any]) -> type[DataclassInstance]:
    """A dataclass of all keys of several; `more`: (type, default) by name.

    The types of plain keys are checked when it is read, those of others by the dataclass itself.
    """
    found: dict[str, tuple[Any, Any]] = dict(more)
    for kind in kinds:
        for key in fields(kind):
            written = key.type if isinstance(key.type, str) else key.type.__name__
            found.setdefault(key.name, (_CHECKED.get(written, Any), default_of(key)))
    lines = [(name, kind, field(default_factory=partial(deepcopy, value))) for name, (kind, value) in found.items()]
    return make_dataclass("Schema", lines)


def parse_keys(source: str, text: str, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What YAML `text`, read from `source`, and `key=value` overrides say, unchecked. Raises UsageError."""
    omegaconf, yaml = _libraries()
    for item in overrides:
        if "=" not in item:
            raise UsageError(f"{item!r} is not of the form key=value")
    try:
        given = omegaconf.OmegaConf.create(text)
        if not omegaconf.OmegaConf.is_dict(given):
            raise UsageError(f"recipe {source}: not a list of key: value lines")
        changes = omegaconf.OmegaConf.from_dotlist(list(overrides))
        for config in (given, changes):
            for key in sorted(omegaconf.OmegaConf.missing_keys(config)):
                raise UsageError(f"recipe {source}: {key}=??? has no value", "give one, or leave it out")
        return _plain(given), _plain(changes)
    except (omegaconf.errors.OmegaConfBaseException, yaml.YAMLError, AssertionError) as error:
        # OmegaConf asserts that YAML is more than a scalar
        raise UsageError(f"recipe {source}: not valid YAML: {error or 'no key: value lines'}") from error


def read_keys(kind: type[DataclassInstance], source: str, values: dict[str, Any]) -> dict[str, Any]:
    """`values` in the types of the dataclass `kind`, and its defaults beside them. Raises UsageError."""
    omegaconf, _ = _libraries()
    try:
        merged: Any = omegaconf.OmegaConf.merge(omegaconf.OmegaConf.structured(kind), values)
        return {
            key.name: _plain(value) if omegaconf.OmegaConf.is_config(value := merged[key.name]) else value
            for key in fields(kind)
        }
    except omegaconf.errors.OmegaConfBaseException as error:
        key = str(error.full_key or "").split(".")[0].split("[")[0]
        raise UsageError(f"recipe {source}: {key}: {str(error).splitlines()[0]}") from error
    except TypeError as error:  # OmegaConf's of a list that is given as keys
        lists = [key.name for key in fields(kind) if str(key.type).startswith("list")]
        key = next((name for name in lists if isinstance(values.get(name), dict)), "")
        raise UsageError(f"recipe {source}: {key}: must be a list", f"write all of it, as in {key}=[1,2]") from error


def did_you_mean(word: str, known: Collection[str], listed_by: str) -> str:
    """A hint: names that look like `word`, and the command, in backticks, that lists all."""
    close = difflib.get_close_matches(word, known, 3)
    return (f"did you mean {' or '.join(close)}? " if close else "") + f"{listed_by} lists all"


def parse_dataclass(kind: type[T], source: str, text: str, *, listed_by: str) -> T:
    """The dataclass `kind` from YAML `text`, read from `source`. Raises UsageError.

    listed_by: the command that lists all keys, in backticks, to name where one is unknown.
    """
    values, _ = parse_keys(source, text, ())
    known = [key.name for key in fields(kind)]
    for key in values:
        if key not in known:
            raise UsageError(f"recipe {source}: unknown key {key!r}", did_you_mean(key, known, listed_by))
    return kind(**read_keys(kind, source, values))


def _plain(config: Any) -> dict[str, Any]:
    omegaconf, _ = _libraries()
    values: dict[str, Any] = omegaconf.OmegaConf.to_container(config)
    return values


def _libraries() -> tuple[Any, Any]:
    try:
        import omegaconf
        import yaml
    except ImportError as error:
        raise UsageError("training needs OmegaConf", "pip install 'irnscale[train]'") from error
    return omegaconf, yaml
