"""Where models are: those shipped with the package and those the user imported."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from irnscale.errors import ModelError, OutputError
from irnscale.logs import logger
from irnscale.networks.family import Task, find_family
from irnscale.userfolders import data_folder
from irnscale.zoo.cards import ModelCard, file_sha256, read_card
from irnscale.zoo.names import family, generation

if TYPE_CHECKING:
    from irnscale.networks.network import (
        AssistingNetwork,
        CompletingNetwork,
        Network,
        RescalingNetwork,
        SuperResolutionNetwork,
    )

_log = logger(__name__)

ARCHIVE = "irnscale_models_archive"
ARCHIVE_COMMAND = "`pip install ./archive` in irnscale's repository"
"""What brings the models that the wheel has no room for."""


@dataclass(frozen=True)
class Model:
    """A card and the safetensors file it describes. `archived`: from the package of older models."""

    card: ModelCard = field(hash=False)  # has dictionaries
    weights: Path
    shipped: bool
    archived: bool = False

    @property
    def task(self) -> Task | None:
        """What its network is for; None where its family is not installed."""
        try:
            return find_family(self.card.kind).task
        except LookupError:
            return None

    @property
    def samples(self) -> bool:
        """Whether its network draws a picture for each seed; not where its family is not installed."""
        try:
            return find_family(self.card.kind).samples
        except LookupError:
            return False

    @property
    def remedy(self) -> str:
        """What to do where its file is damaged."""
        return "reinstall irnscale" if self.shipped else "reinstall it" if self.archived else "import the model again"


def shipped_folder() -> Path:
    """The folder of the package `irnscale.checkpoints`, with the models that irnscale brings."""
    return Path(str(resources.files("irnscale.checkpoints")))


def user_folder() -> Path | None:
    """Where imported models go: `$IRNSCALE_MODELS`, else in the folder for user data; None without either."""
    if chosen := os.environ.get("IRNSCALE_MODELS"):
        return Path(chosen)
    base = data_folder()
    return None if base is None else base / "irnscale" / "models"


def new_folder() -> Path:
    """`user_folder`, for a model that is to be kept. Raises OutputError where there is none."""
    if (folder := user_folder()) is None:
        raise OutputError("this user has no home folder to keep models in", "set IRNSCALE_MODELS to a folder")
    return folder


def archive_folder() -> Path | None:
    """The folder of the package `irnscale-models-archive`, which holds older models; None where it is not installed."""
    spec = find_spec(ARCHIVE)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def archive_hint() -> str:
    """Where else a model may be that is not installed, as the beginning of a remedy."""
    found = "is installed and lacks it" if archive_folder() else f"may have it: {ARCHIVE_COMMAND}"
    return f"the archive of older models {found}"


def installed(broken: dict[Path, ModelError] | None = None) -> list[Model]:
    """All models: shipped first, then archived, then imported, each by family and generation; two may have one name.

    A card that cannot be read is left out and put into `broken`; without `broken` it is a ModelError.
    """
    shipped, archive = shipped_folder(), archive_folder()
    found = []
    for folder in (shipped, archive, user_folder()):
        for path in _cards(folder):
            try:
                card = read_card(path)
            except ModelError as error:
                if broken is None:
                    raise
                _log.info("%s is left out: %s", path, error)
                broken[path] = error
                continue
            found.append(Model(card, path.with_suffix(".safetensors"), folder == shipped, folder == archive))
    return found


def _cards(folder: Path | None) -> list[Path]:
    """Nothing of a folder that is not there or may not be searched, such as another user's home.

    Only files: a pipe would be waited for.
    """
    if folder is None or not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises where it may not look
        return []
    try:
        cards = [path for path in folder.iterdir() if path.match("*.json") and os.path.isfile(path)]  # noqa: PTH113 - see above
    except OSError:
        return []
    return sorted(cards, key=lambda path: (family(path.stem), generation(path.stem)))


def models(broken: dict[Path, ModelError] | None = None) -> list[Model]:
    """`installed` without those whose name another one has that comes before."""
    found: dict[str, Model] = {}
    for model in installed(broken):
        found.setdefault(model.card.name, model)
    return list(found.values())


def newest(models: Iterable[Model]) -> list[Model]:
    """The latest generation of each family, in the order in which the families appear."""
    latest: dict[str, Model] = {}
    for model in models:
        name = model.card.name
        held = latest.setdefault(family(name), model)
        if generation(name) > generation(held.card.name):
            latest[family(name)] = model
    return list(latest.values())


def find(name: str) -> Model:
    """A model by name, or by the path of its .safetensors (its card beside it). Raises ModelError."""
    if name.endswith(".safetensors"):
        weights = Path(name)
        if not os.path.isfile(weights):  # noqa: PTH113 - see find_all
            raise ModelError(f"{name}: no such model file", "check the path, or see `irnscale models`")
        card = weights.with_suffix(".json")
        if not card.is_file():
            raise ModelError(
                f"{name}: no model card {card.name} beside it",
                "use `irnscale models import` or `irnscale models export`, which write one",
            )
        return Model(read_card(card), weights, shipped=False)
    broken: dict[Path, ModelError] = {}
    for model in models(broken):
        if model.card.name == name:
            return model
    for path, error in broken.items():
        if path.stem == name:
            raise error
    if Path(name).suffix in (".pth", ".pt", ".ckpt"):
        raise ModelError(f"{name}: pickled checkpoints are not run", f"run `irnscale models import {name} --name NAME`")
    raise ModelError(f"no model {name!r} is installed", "see `irnscale models`, or `irnscale models import`")


def find_all(names: str) -> list[Model]:
    """The models of a name, of several names joined by "+" (in the order of downscaling), or of a file."""
    if os.path.isfile(names):  # noqa: PTH113 - Path.is_file raises for long names; a path may have a "+" in it
        return [find(names)]
    return [find(name) for name in names.split("+")]


def default_model(scale: int, *, jpeg_resistant: bool = False) -> Model:
    """The newest shipped model for a scale. Raises ModelError naming what there is.

    Archived ones do not count: which model a scale means depends on the version of irnscale alone.
    """
    kind = "a JPEG-resistant model" if jpeg_resistant else "a model"
    candidates = [
        m for m in models({}) if m.shipped and m.task == "rescaling" and m.card.jpeg_resistant == jpeg_resistant
    ]
    for model in newest(candidates):
        if model.card.scale == scale:
            return model
    have = ", ".join(sorted({f"x{m.card.scale}" for m in candidates})) or "none"
    remedy = f"installed: {have}; others can be trained, see `irnscale train recipes`, and named with `model`"
    raise ModelError(f"{kind} for scale {scale} is not installed", remedy, parameters=("model",))


def compose(scale: int, *, jpeg_resistant: bool = False) -> list[Model]:
    """Shipped models whose scales multiply to `scale`, in the order of downscaling: 8 is x4 then x2."""
    try:
        return [default_model(scale, jpeg_resistant=jpeg_resistant)]
    except ModelError:
        if scale not in (8, 16):
            raise
    return [
        default_model(4, jpeg_resistant=jpeg_resistant),
        default_model(scale // 4, jpeg_resistant=jpeg_resistant),
    ]


def combined_scale(models: Sequence[Model]) -> int:
    """The product of the models' scales."""
    return math.prod(m.card.scale for m in models)


def combined_name(models: Sequence[Model]) -> str:
    """What records and tables call one model, or several in order: their names joined by "+"."""
    return "+".join(m.card.name for m in models)


def combined_digest(models: Sequence[Model]) -> str:
    """12 hexadecimal digits that identify the weights of one model, or of several in order."""
    if len(models) == 1:
        return models[0].card.digest
    return hashlib.sha256("+".join(m.card.sha256 for m in models).encode()).hexdigest()[:12]


@cache
def _verified(path: Path, size: int, mtime: int, sha256: str) -> bool:
    return file_sha256(path) == sha256


def verify(model: Model) -> None:
    """Raise ModelError where the weights are missing or not the bytes that the card describes."""
    path = model.weights
    try:
        status = path.stat()
        sound = path.is_file() and _verified(path, status.st_size, status.st_mtime_ns, model.card.sha256)
    except OSError as error:
        what = f"{path}: the weights of {model.card.name} are missing or unreadable: {error.strerror}"
        raise ModelError(what, model.remedy) from error
    if not sound:
        raise ModelError(f"{path}: damaged: its sha256 is not the one on the card of {model.card.name}", model.remedy)


def base_of(model: Model) -> Model:
    """The model that an assistant or a completion was trained for, whatever it is called. Raises ModelError."""
    card = model.card
    same = [m for m in installed({}) if m.card.digest == card.base_digest and m.task == "rescaling"]
    if same:
        return min(same, key=lambda m: m.card.name != card.base)
    what = f"was trained for {card.base} ({card.base_digest}), which is not installed"
    if others := [m.card.digest for m in models({}) if m.card.name == card.base]:
        what = (
            f"was trained for other weights of {card.base} ({card.base_digest}) than the installed ones ({others[0]})"
        )
    raise ModelError(f"{card.name}: {what}", f"{archive_hint()}; else import the two that belong together")


def super_resolution(wanted: int | str, *, sampling: bool = False) -> tuple[Model, Model | None]:
    """What enlarges small pictures that no model made, and its assistant if it needs one.

    wanted: a scale, for which a network of that kind comes first, then an assistant, of each the shipped ones and of a
    family the newest; or the name or file of either. sampling: of networks for a scale first one that draws samples;
    else last. Raises ModelError where there is none.
    """
    if isinstance(wanted, str):
        chosen = find(wanted)
        if chosen.task == "rescaling":
            raise ModelError(
                f"{chosen.card.name}: is not for super-resolution",
                "leave `sr` out, or `model`",
                parameters=("sr", "model"),
            )
    else:
        able = [m for m in models({}) if m.task in ("super-resolution", "assistance")]
        found = newest(m for m in able if m.card.scale == wanted)
        if not found:
            have = ", ".join(sorted({f"x{m.card.scale}" for m in able})) or "none"
            raise ModelError(f"no super-resolution model for scale {wanted} is installed", f"installed: {have}")
        chosen = min(found, key=lambda m: (m.task != "super-resolution", m.samples != sampling, not m.shipped))
    return (base_of(chosen), chosen) if chosen.task == "assistance" else (chosen, None)


@overload
def load_network(model: Model, task: Literal["rescaling"] = "rescaling") -> RescalingNetwork: ...
@overload
def load_network(model: Model, task: Literal["assistance"]) -> AssistingNetwork: ...
@overload
def load_network(model: Model, task: Literal["completion"]) -> CompletingNetwork: ...
@overload
def load_network(model: Model, task: Literal["super-resolution"]) -> SuperResolutionNetwork: ...
def load_network(model: Model, task: Task = "rescaling") -> Any:
    """The network of a model for a task, float32 weights on the CPU, ready to run. Raises ModelError."""
    if model.task != task:
        raise _unfit(model, task)
    net = _load(model)
    if task != "assistance" and net.scale != model.card.scale:
        what = f"{model.card.name}: its card says x{model.card.scale}, its architecture x{net.scale}"
        raise ModelError(what, "import the model again")
    return net


def _unfit(model: Model, task: Task) -> ModelError:
    """Why a model cannot be used for a task that is not its own."""
    card = model.card
    if model.task is None:
        try:
            find_family(card.kind)
        except LookupError as error:
            what = f"{card.name}: its family, {card.kind}, {error}"
            return ModelError(what, "install what brings it, or a newer irnscale")
    if task == "super-resolution":
        return ModelError(f"{card.name}: is no network for super-resolution", "see `irnscale models`")
    if task == "assistance":
        return ModelError(f"{card.name}: is no assistant", "see `irnscale models`")
    if task == "completion":
        return ModelError(f"{card.name}: completes no other model", "see `irnscale models`")
    if model.task == "completion":
        what = f"{card.name}: is no network of its own but completes what {card.base} restores"
        return ModelError(what, f"use it for `up` with model={card.name}", parameters=("model",))
    if model.task == "super-resolution":
        return ModelError(
            f"{card.name}: enlarges pictures and does not shrink any",
            "use it alone, for `up` with `sr`",
            parameters=("sr",),
        )
    return ModelError(
        f"{card.name}: is no network of its own but an assistant of {card.base}",
        f"use it for `up` with `sr` and model={card.name}",
        parameters=("sr", "model"),
    )


def _load(model: Model) -> Network:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    verify(model)
    _log.debug("%s, of the family %s, is read from %s", model.card.name, model.card.kind, model.weights)
    family = find_family(model.card.kind)
    try:
        config = family.config(**model.card.architecture)
        net = family.build(config)
    except Exception as error:  # a hostile card makes families and torch raise anything
        what = f"{model.card.name}: unknown architecture on its card: {error}"
        raise ModelError(what, "import the model again, with this version") from error
    try:
        tensors = load_file(model.weights)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{model.weights}: not a safetensors file: {error}", "import the model again") from error
    own = net.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape:
            raise ModelError(
                f"{model.weights}: does not fit its architecture, first at {name}", "import the model again"
            )
    net.load_state_dict(tensors)
    if wrong := family.contradiction(config, tensors):
        raise ModelError(f"{model.weights}: its card says that {wrong}", "import the model again")
    net.eval().requires_grad_(False)
    return net
