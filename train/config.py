"""The recipe: what is trained and how, in groups of keys that are written flat, in YAML or as `key=value`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Protocol

from irnscale import plugins
from irnscale.errors import InputError, UsageError
from irnscale.networks.family import PACKAGE, Family, NetworkConfig, find_family, own_families
from irnscale.train.groups import Data, ObjectiveConfig, Optim, Run
from irnscale.train.keys import default_of, did_you_mean, parse_keys, read_keys, schema

RECIPES = resources.files("irnscale.train") / "recipes"
OBJECTIVES = "irnscale.train.objectives"
ENTRY_POINTS = "irnscale.objectives"
"""The group in which other distributions name objectives of theirs."""
LARGEST_IN_NETWORK = 65536
"""What a number that says what a network is may be in a recipe: a width, a count, a bound."""
Keys = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters in groups, by the names of the dissertation's table 3.2 where it has one.

    network: the configuration of the family, `objective` that of the objective, which say what their keys mean. A
    recipe is written flat: a key is looked up in the groups of this recipe, and given to each that has it.
    `family` and `objective` are keys too, by name. Without, a key that only another family begins with (`assistant_of`,
    `blocks`) names it, else it is "irn"; and a family has its usual objective. Keys of the network may also be written
    as `network: {width: 8}`, or `network.width=8`.
    """

    network: NetworkConfig
    objective: ObjectiveConfig
    data: Data
    optim: Optim
    run: Run

    def __post_init__(self) -> None:
        """Raise UsageError for groups that do not go together."""
        self.data.check(self.scale)
        self.objective.check(self.network, self.optim)

    @classmethod
    def of(cls, **keys: Any) -> Recipe:
        """From flat keys in their types; the rest as it usually is. Raises UsageError for what makes no recipe."""
        choice, known = _chosen({}, keys)
        return choice.recipe(known)

    def but(self, **changes: Any) -> Recipe:
        """With other values of some keys, as if they had been written instead. Raises as `of`."""
        choice, known = _chosen(self.to_dict(), changes)
        return choice.recipe(known)

    @property
    def family(self) -> Family:
        """The family of the network that is trained."""
        return find_family(self.network.kind)

    @property
    def scale(self) -> int:
        """Side of the large picture over side of the small one: of the network, or of the one that it assists."""
        return int(getattr(self.network, "scale", 0) or getattr(self.objective, "scale", 1))

    def to_dict(self) -> Keys:
        """All keys, flat, for JSON; `of` makes the same recipe of them."""
        found = {"name": self.run.name} | self.network.to_dict()
        for group in (self.objective, self.data, self.optim, self.run):
            found |= asdict(group)
        implied = _family_of(found) == self.family
        usual = self.objective.name == self.family.usual_objective
        names = {"family": None if implied else self.family.kind, "objective": None if usual else self.objective.name}
        return names | found


class Trains(Protocol):
    """The class of an objective, as far as a recipe goes: see `irnscale.train.objective.Objective`."""

    Config: type[ObjectiveConfig]
    Data: type[Data]
    __call__: Any


@dataclass(frozen=True)
class _Choice:
    """Family and objective: they decide what the keys of a recipe are."""

    family: Family
    objective: Trains

    @property
    def groups(self) -> tuple[type[Any], ...]:
        """In the order of `Recipe`."""
        return (self.family.config, self.objective.Config, self.objective.Data, Optim, Run)

    @property
    def known(self) -> set[str]:
        """All keys."""
        return {"family", "objective"} | {key.name for group in self.groups for key in fields(group)}

    def recipe(self, keys: Keys) -> Recipe:
        """Of known keys in their types. Raises UsageError for what makes no recipe."""
        for key in fields(self.family.config):
            value = keys.get(key.name)
            for number in value if isinstance(value, list | tuple) else [value]:
                # Before the network's own checks: some count as many layers as there would be.
                if isinstance(number, int | float) and number > LARGEST_IN_NETWORK:
                    raise UsageError(f"{key.name}={value} is too large", f"{LARGEST_IN_NETWORK} is the most")
        try:
            return Recipe(*(g(**{k.name: keys[k.name] for k in fields(g) if k.name in keys}) for g in self.groups))
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from error


def _family_of(keys: Keys) -> Family:
    """Raises UsageError where it is unknown or named in two ways."""
    named = [f for f in own_families() if f.recipe_key is not None and keys.get(f.recipe_key) is not None]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(str(f.recipe_key) for f in named)} name two families", "leave one out")
    kind = keys.get("family")
    if kind is None:
        return named[0] if named else find_family("irn")
    for other in named:
        if other.kind != kind:
            raise UsageError(f"family={kind} and {other.recipe_key} name two families", "leave one out")
    try:
        return find_family(kind)
    except LookupError as error:
        own = plugins.own_names(PACKAGE)
        raise UsageError(f"family={kind}: {error}", f"irnscale has {', '.join(own)}") from error


def _choice_of(keys: Keys) -> _Choice:
    family = _family_of(keys)
    return _Choice(family, find_objective(keys.get("objective") or family.usual_objective))


def _chosen(base: Keys, changes: Keys, *, source: str = "", recorded: bool = False) -> tuple[_Choice, Keys]:
    """What the keys of `base` with `changes` choose, and those of them that it knows.

    A key that only another family or objective has is an error, but where it says nothing, where it is of `base` and
    `changes` choose another family or objective than `base` does, and where it was `recorded` when every recipe had all
    keys. Raises UsageError.
    """
    given, nested = _flat(base, changes)
    choice = _choice_of(given)
    if unknown := sorted(nested - {key.name for key in fields(choice.family.config)}):
        known = ", ".join(key.name for key in fields(choice.family.config))
        what = f"network.{unknown[0]}: a network of the family {choice.family.kind} has no such key"
        raise UsageError(what, f"it has {known}")
    renamed = choice.objective.Config.renamed
    given, changes = ({renamed.get(key, key): value for key, value in keys.items()} for keys in (given, changes))
    moved = recorded or (bool(base) and _choice_of(_flat(base, {})[0]) != choice)
    for key in sorted(given.keys() - choice.known):
        _check_foreign(key, given[key], choice, source=source, recorded=recorded, left=moved and key not in changes)
    return choice, {key: value for key, value in given.items() if key in choice.known}


def _flat(base: Keys, changes: Keys) -> tuple[Keys, set[str]]:
    """The keys of both, with those under `network` among the others; and which these are."""
    given: Keys = {}
    nested: set[str] = set()
    for keys in (base, changes):
        inner = keys.get("network") or {}
        if not isinstance(inner, dict):
            raise UsageError(f"network={inner} must be keys of the network", "for example network.growth=16")
        if twice := sorted(key for key in inner.keys() & keys.keys() if inner[key] != keys[key]):
            key = twice[0]
            what = f"{key}={keys[key]} and network.{key}={inner[key]} say two things of one key"
            raise UsageError(what, "leave one out")
        given |= {key: value for key, value in keys.items() if key != "network"} | inner
        nested |= inner.keys()
    return given, nested


def _check_foreign(key: str, value: Any, choice: _Choice, *, source: str, recorded: bool, left: bool) -> None:
    """Raise UsageError for a key that nothing here has; or that only others have, unless it is `left` from them or has
    the value that they have where nothing is said.
    """
    where = f"recipe {source}: " if source else ""
    if not (owners := _owners(key)):
        if recorded:
            raise UsageError(f"the run's recipe has a key that this version does not know: {key}")
        hint = did_you_mean(key, choice.known, f"`{f'irnscale train recipes {source}'.strip()}`")
        raise UsageError(f"{where}unknown key {key!r}", hint)
    if value and value not in owners.values() and not left:
        here = f"family={choice.family.kind}, objective={choice.objective.Config.name}"
        hint = f"leave it out; it is a key of {' and '.join(owners)}"
        raise UsageError(f"{where}{key}={value} has no meaning for {here}", hint)


def _owners(key: str) -> dict[str, Any]:
    """The families and objectives of irnscale that have a key, and what it is there where nothing is said."""
    objectives = [find_objective(name) for name in plugins.own_names(OBJECTIVES)]
    kinds: list[tuple[str, type[Any]]] = [(f"family={family.kind}", family.config) for family in own_families()]
    kinds += [(f"objective={o.Config.name}", kind) for o in objectives for kind in (o.Config, o.Data)]
    return {name: default_of(k) for name, kind in kinds for k in fields(kind) if k.name == key}


def find_objective(name: str) -> Trains:
    """The objective of a name: `OBJECTIVE` of the module so called in `train/objectives`, or an entry point in the
    group `irnscale.objectives`. Raises UsageError where there is none.
    """
    try:
        found: Trains = plugins.find(name, package=OBJECTIVES, attribute="OBJECTIVE", group=ENTRY_POINTS)
    except LookupError as error:
        own = plugins.own_names(OBJECTIVES)
        raise UsageError(f"objective={name}: {error}", f"irnscale has {', '.join(own)}") from error
    return found


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(p.name.removesuffix(".yaml") for p in RECIPES.iterdir() if p.name.endswith(".yaml"))


def describe(recipe: Traversable) -> str:
    """The line about a recipe: the second of its file, after the command that runs it."""
    return recipe.read_text(encoding="utf-8").splitlines()[1].removeprefix("# ")


def load_recipe(source: str, overrides: list[str]) -> Recipe:
    """A recipe by name or YAML file, with `key=value` overrides; where it has no `name`, the file's stem is.

    Raises InputError, UsageError naming what is wrong.
    """
    base, changes = parse_keys(source, recipe_text(source), overrides)
    base.setdefault("name", Path(source).stem)
    choice, given = _chosen(base, changes, source=source)
    name = (str | None, None)
    return choice.recipe(read_keys(schema(choice.groups, family=name, objective=name), source, given))


def recipe_text(source: str) -> str:
    """The YAML of a file, or of a recipe of the package.

    Raises InputError for a file that cannot be read, UsageError for a name that is none of them.
    """
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise InputError(
                f"{source}: no such recipe file", "`irnscale train recipes` lists those of irnscale"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{source}: the recipe cannot be read: {error}", "give a YAML file") from error
    if source in recipe_names():
        return (RECIPES / f"{source}.yaml").read_text(encoding="utf-8")
    hint = did_you_mean(source, recipe_names(), "`irnscale train recipes`")
    raise UsageError(f"no recipe {source!r}", f"{hint}, or name a .yaml file")


def recipe_from_dict(values: Keys) -> Recipe:
    """The recipe that a run recorded, of any version. Raises UsageError for keys this version does not know."""
    # When every recipe had all keys, blocks was 0 in those of other families.
    unsaid = {family.recipe_key for family in own_families() if not values.get(family.recipe_key or "")}
    choice, known = _chosen({key: value for key, value in values.items() if key not in unsaid}, {}, recorded=True)
    return choice.recipe(known)
