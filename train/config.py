"""The recipe: a typed configuration read from YAML with `key=value` overrides; unknown keys are errors."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import asdict, dataclass, field, fields
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from irnscale.errors import InputError, UsageError
from irnscale.kernels import ACTIVATIONS
from irnscale.networks.family import Family, NetworkConfig, find_family, own_families
from irnscale.train.jpeg import GRADIENTS, SUBSAMPLINGS
from irnscale.train.losses import NORMS

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RECIPES = resources.files("irnscale.train") / "recipes"
LAMBDAS_SR = ("lambda_a1", "lambda_a2", "lambda_a3")
INITIALISATIONS = ("xavier", "kaiming", "default")
OPTIMIZERS = ("adam", "muon")
SCHEDULES = ("cosine", "milestones", "constant")
R = TypeVar("R", bound="DataclassInstance")


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters, by the names of the dissertation's table 3.2 where it has one.

    inv_per_ds is a number of couplings, or a list with one for each level from the image downwards.
    constant_scales: the couplings, by the numbers of their weights, whose scale network s is a constant per channel
    from the start: a third of the work of a coupling is then left out, see `IRNConfig`.
    lambda_guide None means scale squared (the losses are sums, and LR has that many times fewer pixels).
    batch_size crops of img_size squared make a step, over all processes; each process computes its part in
    `accumulate` pieces, which takes less memory and changes nothing else.
    optimizer: "adam" (weight_decay is L2) or "muon", see `optimizers`.
    clip_value_max_g bounds each gradient, then clip_norm_max_g their global L2 norm; None: no bound.
    budget is the run's wall-clock ("20m") or number of steps ("5000"). schedule: of the rate. "cosine":
    by the fraction of the budget that is done, `warmup` of it rising, then falling to `final_lr` of
    `initial_lr`; "milestones": multiplied by `lr_gamma` at each step in `lr_milestones`; "constant".
    save_memory: recompute activations through the inverse instead of keeping them. cuda_graph: replay the
    step as one graph on CUDA.
    checkpoint_compact: store averages and moments in 16 bits; such a run resumes closely, not exactly.
    validate_steps: validate every so many steps instead of every `validate_minutes`, so that the curves of several runs
    have their points at the same steps; and after each power of two before that.
    alert_loss: an alert is sent when the loss passes it; challenge_factor: a crop whose loss is above so
    many times the running mean is kept as a picture; None: never.
    ema is the decay of the averaged weights, which are what is validated and exported.
    zerosample: the inverse gets z = 0 rather than a sample of N(0, 1).
    init: name of a model or a safetensors file to start from. Else dense blocks start by `initialisation`: "xavier" or
    "kaiming", both normal times 0.1, or torch's "default"; zero_last: their last convolutions start at zero, so that
    the untrained network is the Haar transform. See `initial.initialise_weights`.
    precision: of the convolutions; auto takes bfloat16 where the device multiplies it natively.
    compression_mode: the small image goes through JPEG before it is enlarged, each with a quality drawn from
    `compression_quality` ("75", or a range such as "10-99") and the chroma subsampling
    `compression_subsampling` ("420", "422", "444", or "random": one of them for each image).
    compression_gradient: "identity" or "dct", see `jpeg.jpeg`.
    guide_norm, recon_norm: "l2", "l1" or "charbonnier", see `losses`; quantize_guide_loss, quantize_recon_loss:
    compare the small or the restored picture in 8 bits. y_channel_usage: the part of both losses that is
    of luma, 0 to 1. loss_flip_period: epochs between the phases of `objective.loss_flip`, in which
    lambda_recon or lambda_guide is divided by `loss_flip_scale`; None: never.
    sr_mode: the inverse gets the bicubic small picture in 8 bits instead of the network's own.
    assistant_of: name or file of a model; what is trained is then an `AssistantFlow` of `assistant_steps`
    before that model's inverse, by the losses A.1 to A.3 with the weights lambda_a1, lambda_a2 and lambda_a3, see
    `assistance.Assistance`, which is measured by `recon_norm`.
    lr_cells: on what grid the inverse gets the small picture: cells of so many of the 256 levels, each a divisor of
    256, one of the list drawn for each crop; [1, 2] is 8 bits for half of them and 7 for the others, see
    `cells.quantize_cells`. Validation, samples and what is shipped are 8 bits always.
    blocks: of an `SRNet` of so many `channels`, which is then what is trained, by the distance `recon_norm` of what it
    makes of the bicubic small picture in 8 bits; 0: none. jpeg_share: the part of its small pictures that went through
    JPEG as `compression_quality` and `compression_subsampling` say.
    noise_levels: of what grid the uniform noise covers one step that a flow's HR gets (0: of 8 bits); frozen_until: up
    to which fraction of the budget its pretrained encoder is left as it is, see `likelihood.Likelihood`.
    family: of the network, by name (None: read off the other keys, as above; else "irn"). network: what of the family's
    configuration has no key of its own here.
    codec_blocks: couplings more at the end that model the codec, see `IRN`, trained by `lambda_codec` (None: scale
    squared / 4) times three squared distances, see `Objective`.
    """

    name: str = "irn"
    family: str | None = None
    network: dict[str, Any] = field(default_factory=dict)
    scale: int = 4
    inv_per_ds: Any = 8
    growth: int = 32
    clamp: float = 1.0
    clamp_activation: str = "sigmoid"
    clamp_tightness: float = 1.0
    actnorm: bool = False
    codec_blocks: int = 0
    constant_scales: list[int] = field(default_factory=list)
    batch_size: int = 16
    img_size: int = 144
    accumulate: int = 1
    optimizer: str = "adam"
    schedule: str = "cosine"
    initial_lr: float = 2e-4
    final_lr: float = 0.01
    warmup: float = 0.01
    lr_gamma: float = 0.5
    lr_milestones: list[int] = field(default_factory=lambda: [100_000, 200_000, 300_000, 400_000])
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 1e-5
    clip_norm_max_g: float = 10.0
    clip_value_max_g: float | None = None
    lambda_recon: float = 1.0
    lambda_guide: float | None = None
    lambda_distr: float = 1.0
    zerosample: bool = True
    guide_norm: str = "l2"
    recon_norm: str = "charbonnier"
    quantize_guide_loss: bool = False
    quantize_recon_loss: bool = False
    y_channel_usage: float = 0.0
    loss_flip_period: float | None = None
    loss_flip_scale: float = 1.0
    sr_mode: bool = False
    assistant_of: str | None = None
    assistant_steps: int = 8
    lambda_a1: float = 0.0
    lambda_a2: float = 0.0
    lambda_a3: float = 1.0
    compression_mode: bool = False
    compression_quality: str = "10-99"
    compression_subsampling: str = "420"
    compression_gradient: str = "identity"
    lambda_codec: float | None = None
    blocks: int = 0
    channels: int = 48
    jpeg_share: float = 0.0
    noise_levels: int = 0
    frozen_until: float = 0.0
    lr_cells: list[int] = field(default_factory=lambda: [1])
    ema: float = 0.999
    seed: int = 10
    budget: str = "60m"
    init: str | None = None
    initialisation: str = "xavier"
    zero_last: bool = True
    precision: str = "auto"
    save_memory: bool = False
    cuda_graph: bool = True
    checkpoint_minutes: float = 5.0
    checkpoint_compact: bool = False
    validate_minutes: float = 20.0
    validate_steps: int | None = None
    validate_limit: int = 8
    alert_loss: float | None = None
    challenge_factor: float | None = 3.0

    def __post_init__(self) -> None:
        """Raise UsageError for values that cannot be trained with."""
        for name, value in asdict(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UsageError(f"{name}={value} is not a number to train with")
        for name in ("growth", "batch_size", "accumulate", "img_size", "validate_limit", "validate_steps"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise UsageError(f"{name}={value} must be at least 1")
        above_zero = (
            "clamp",
            "clamp_tightness",
            "loss_flip_scale",
            "initial_lr",
            "lr_gamma",
            "clip_norm_max_g",
            "clip_value_max_g",
        )
        for name in (*above_zero, "alert_loss", "challenge_factor"):
            if (value := getattr(self, name)) is not None and value <= 0:
                raise UsageError(f"{name}={value} must be above 0")
        for name in (
            "weight_decay",
            "lambda_recon",
            "lambda_guide",
            "lambda_distr",
            "lambda_codec",
            "seed",
            *LAMBDAS_SR,
        ):
            if (value := getattr(self, name)) is not None and value < 0:
                raise UsageError(f"{name}={value} must not be negative")
        for name in ("warmup", "beta1", "beta2", "ema"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise UsageError(f"{name}={value} must be at least 0 and below 1")
        for name in ("checkpoint_minutes", "validate_minutes"):
            if (value := getattr(self, name)) < 0:
                raise UsageError(f"{name}={value} must not be negative")
        if not 0 <= self.final_lr <= 1:
            raise UsageError(f"final_lr={self.final_lr} is a fraction of initial_lr, from 0 to 1")
        if self.clamp_activation not in ACTIVATIONS:
            raise UsageError(f"clamp_activation={self.clamp_activation} must be one of {', '.join(ACTIVATIONS)}")
        for name, allowed in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("initialisation", INITIALISATIONS),
        ):
            if (value := getattr(self, name)) not in allowed:
                raise UsageError(f"{name}={value} must be one of {', '.join(allowed)}")
        if self.lr_milestones != sorted(set(self.lr_milestones)) or min(self.lr_milestones, default=1) < 1:
            raise UsageError(f"lr_milestones={self.lr_milestones} must be rising numbers of steps")
        if self.batch_size % self.accumulate:
            raise UsageError(f"batch_size={self.batch_size} is not divisible by accumulate={self.accumulate}")
        # float16 would need its losses scaled; bfloat16 does not.
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise UsageError(f"precision={self.precision} must be auto, float32 or bfloat16")
        try:
            config = self.config().to_dict()
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from error
        for name, value in config.items():  # there are several ways to write the same
            if name in self.network:
                self.network[name] = value
            else:
                object.__setattr__(self, name, value)
        if self.img_size % self.scale:
            raise UsageError(f"img_size={self.img_size} is not divisible by scale={self.scale}")
        Budget.parse(self.budget)
        self._check_objective()

    def _check_objective(self) -> None:
        _ = self.qualities, self.chroma
        for name, allowed in (
            ("compression_gradient", GRADIENTS),
            ("guide_norm", tuple(NORMS)),
            ("recon_norm", tuple(NORMS)),
        ):
            if (value := getattr(self, name)) not in allowed:
                raise UsageError(f"{name}={value} must be one of {', '.join(allowed)}")
        if not 0 <= self.y_channel_usage <= 1:
            raise UsageError(f"y_channel_usage={self.y_channel_usage} must be from 0 to 1")
        if self.loss_flip_period is not None and self.loss_flip_period <= 0:
            raise UsageError(f"loss_flip_period={self.loss_flip_period} must be above 0", "or null for no flipping")
        if self.loss_flip_scale != 1 and self.loss_flip_period is None:
            raise UsageError(f"loss_flip_scale={self.loss_flip_scale} does nothing without a loss_flip_period")
        if not self.lr_cells or any(m < 1 or 256 % m for m in self.lr_cells):
            raise UsageError(f"lr_cells={self.lr_cells} must be divisors of 256", "for example lr_cells=[1,2]")
        if self.lr_cells != [1] and (self.compression_mode or self.sr_mode):
            raise UsageError("lr_cells are of the network's own LR, stored without loss", "leave one of them out")
        if self.codec_blocks and not self.compression_mode:
            raise UsageError("codec_blocks model a codec", "add compression_mode=true")
        if self.codec_blocks and self.sr_mode:
            raise UsageError("codec_blocks model the codec of the network's own LR, which sr_mode does not use")
        if not 0 <= self.jpeg_share <= 1:
            raise UsageError(f"jpeg_share={self.jpeg_share} must be from 0 to 1")
        if self.init and (self.initialisation, self.zero_last) != ("xavier", True):
            raise UsageError(f"init={self.init} gives all weights", "leave initialisation and zero_last out")
        if self.blocks or self.trained.task == "super-resolution":
            self._check_super_resolution()
        elif self.jpeg_share:
            raise UsageError("jpeg_share is of what a network for super-resolution is given", "add blocks=6")
        self._check_likelihood()
        if self.assistant_of:
            self._check_assistant()

    def _check_super_resolution(self) -> None:
        what = "blocks" if self.blocks else f"a network of the family {self.trained.kind}"
        names = ("assistant_of", "sr_mode", "compression_mode", "actnorm", "loss_flip_period", "save_memory")
        for name in (*names, "quantize_guide_loss", "quantize_recon_loss"):
            if getattr(self, name):
                raise UsageError(f"{name} has no meaning for super-resolution by {what}", "leave one of them out")
        if self.lr_cells != [1]:
            raise UsageError(f"lr_cells has no meaning for super-resolution by {what}", "leave one of them out")

    def _check_likelihood(self) -> None:
        if self.noise_levels < 0 or not 0 <= self.frozen_until <= 1:
            raise UsageError(
                f"noise_levels={self.noise_levels} must not be negative, and frozen_until={self.frozen_until} be from "
                "0 to 1"
            )
        for name in ("noise_levels", "frozen_until"):
            if getattr(self, name) and not self.trained.samples:
                raise UsageError(f"{name} is of flows that are trained by their likelihood", "add family=srflow")
        if self.frozen_until and (self.weight_decay or self.optimizer != "adam"):
            raise UsageError(
                "frozen_until: what is frozen would be changed by weight_decay, or by an optimizer other than adam",
                "add weight_decay=0 optimizer=adam",
            )

    def _check_assistant(self) -> None:
        if not any(getattr(self, name) for name in LAMBDAS_SR):
            raise UsageError("lambda_a1, lambda_a2 and lambda_a3 are all 0: nothing would be learnt")
        for name in (
            "sr_mode",
            "compression_mode",
            "actnorm",
            "constant_scales",
            "loss_flip_period",
            "quantize_guide_loss",
        ):
            if getattr(self, name):
                raise UsageError(f"{name} has no meaning for the assistant of {self.assistant_of}", "leave one out")
        if self.lr_cells != [1]:
            raise UsageError(f"lr_cells has no meaning for the assistant of {self.assistant_of}", "leave one out")

    @property
    def trained(self) -> Family:
        """The family of the network that is trained. Raises UsageError where it is unknown or named in two ways."""
        named = [f for f in own_families() if f.recipe_key is not None and getattr(self, f.recipe_key)]
        if self.family is None:
            return named[0] if named else find_family("irn")
        for other in named:
            if other.kind != self.family:
                raise UsageError(f"family={self.family} and {other.recipe_key} name two families", "leave one out")
        try:
            return find_family(self.family)
        except LookupError as error:
            raise UsageError(f"family={self.family}: {error}") from error

    def config(self) -> NetworkConfig:
        """What defines the network that is trained. Raises UsageError, ValueError, TypeError."""
        family = self.trained
        known = [f.name for f in fields(family.config)]
        if unknown := sorted(self.network.keys() - set(known)):
            raise UsageError(
                f"network.{unknown[0]}: a network of the family {family.kind} has no such key",
                f"it has {', '.join(known)}",
            )
        own = {name: getattr(self, name) for name in known if hasattr(self, name)}
        return family.config(**own | self.network)

    @property
    def guide_weight(self) -> float:
        """The guidance weight in force."""
        return float(self.scale**2) if self.lambda_guide is None else self.lambda_guide

    @property
    def codec_weight(self) -> float:
        """The weight of the codec blocks' distances in force."""
        return self.scale**2 / 4 if self.lambda_codec is None else self.lambda_codec

    @property
    def qualities(self) -> tuple[int, int]:
        """Lowest and highest JPEG quality of `compression_mode`. Raises UsageError."""
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", self.compression_quality)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high <= 100:
            raise UsageError(f"compression_quality={self.compression_quality} is not a quality or range within 1-100")
        return low, high

    @property
    def chroma(self) -> str | None:
        """The chroma subsampling of `compression_mode` as `jpeg.jpeg` names it; None: random. Raises UsageError."""
        if self.compression_subsampling == "random":
            return None
        for name in SUBSAMPLINGS:
            hours, minutes, seconds = map(int, name.split(":"))
            # YAML takes an unquoted 4:2:0 for a number in base sixty
            if self.compression_subsampling in (
                name,
                name.replace(":", ""),
                str(hours * 3600 + minutes * 60 + seconds),
            ):
                return name
        known = ", ".join(name.replace(":", "") for name in SUBSAMPLINGS)
        raise UsageError(f"compression_subsampling={self.compression_subsampling} must be {known} or random")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Budget:
    """A number of steps, or seconds of wall-clock; exactly one is set."""

    steps: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """ "5000" is steps; "90s", "20m", "1.5h" is time. Raises UsageError."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
        if not match or float(match[1]) <= 0:
            raise UsageError(f"budget {text!r} is not a number of steps or a time like 90s, 20m, 1.5h")
        if not match[2]:
            if "." in match[1]:
                raise UsageError(f"budget {text!r}: a number of steps must be whole")
            return cls(steps=int(match[1]))
        return cls(seconds=float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]])

    def fraction(self, steps: int, seconds: float) -> float:
        """How much of the budget is used, 0 to 1 and beyond."""
        if self.steps is not None:
            return steps / self.steps
        assert self.seconds is not None
        return seconds / self.seconds


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(p.name.removesuffix(".yaml") for p in RECIPES.iterdir() if p.name.endswith(".yaml"))


def describe(recipe: Traversable) -> str:
    """The line about a recipe: the second of its file, after the command that runs it."""
    return recipe.read_text(encoding="utf-8").splitlines()[1].removeprefix("# ")


def load_recipe(source: str, overrides: list[str]) -> Recipe:
    """A recipe by name or YAML file, with `key=value` overrides. Raises InputError, UsageError naming what is wrong."""
    return parse_recipe(Recipe, source, recipe_text(source, RECIPES, recipe_names()), overrides)


def parse_recipe(kind: type[R], source: str, text: str, overrides: list[str], *, listed_by: str = "") -> R:
    """The dataclass `kind` from YAML `text`, read from `source`, and `key=value` overrides. Raises UsageError.

    listed_by: the command that lists all keys, to name where one is unknown.
    """
    try:
        from omegaconf import OmegaConf
        from omegaconf.errors import OmegaConfBaseException
        from yaml import YAMLError
    except ImportError as error:
        raise UsageError("training needs OmegaConf", "pip install 'irnscale[train]'") from error

    for item in overrides:
        if "=" not in item:
            raise UsageError(f"{item!r} is not of the form key=value")
    known = [f.name for f in fields(kind)]
    try:
        given = OmegaConf.create(text)
        if not OmegaConf.is_dict(given):
            raise UsageError(f"recipe {source}: not a list of key: value lines")
        merged: Any = OmegaConf.merge(OmegaConf.structured(kind), given, OmegaConf.from_dotlist(overrides))
        values = {name: OmegaConf.to_container(v) if OmegaConf.is_config(v := merged[name]) else v for name in known}
    except OmegaConfBaseException as error:
        key = str(error.full_key or "").split(".")[0].split("[")[0]
        if key not in known:
            hint = _known(key, known, listed_by or f"irnscale train recipes {source}")
            raise UsageError(f"recipe {source}: unknown key {key!r}", hint) from error
        raise UsageError(f"recipe {source}: {key}: {str(error).splitlines()[0]}") from error
    except (YAMLError, AssertionError) as error:  # OmegaConf asserts that YAML is more than a scalar
        raise UsageError(f"recipe {source}: not valid YAML: {error or 'no key: value lines'}") from error
    return kind(**values)


def recipe_text(source: str, folder: Traversable, names: list[str]) -> str:
    """The YAML of a file, or of one of the recipes `names` in the package's `folder`.

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
    if source in names:
        return (folder / f"{source}.yaml").read_text(encoding="utf-8")
    raise UsageError(
        f"no recipe {source!r}", _known(source, names, "irnscale train recipes") + ", or name a .yaml file"
    )


def _known(word: str, known: list[str], listed_by: str) -> str:
    """A hint: names that look like `word`, and the command that lists all."""
    close = difflib.get_close_matches(word, known, 3)
    return (f"did you mean {' or '.join(close)}? " if close else "") + f"`{listed_by}` lists all"


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """The recipe that a checkpoint recorded. Raises UsageError for keys this version does not know."""
    known = {f.name for f in fields(Recipe)}
    if unknown := sorted(set(values) - known):
        raise UsageError(f"the run's recipe has keys this version does not know: {', '.join(unknown)}")
    return Recipe(**values)
