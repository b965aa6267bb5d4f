"""The groups of a recipe's keys: data, optim and run, and what every objective's has."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from irnscale.errors import UsageError
from irnscale.train.budget import Budget
from irnscale.train.keys import Group, above_zero, at_least_one, below_one, not_negative, one_of, share

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from irnscale.networks.config import NetworkConfig
    from irnscale.zoo import Model


class Dataset(Protocol):
    """What batches come from: each is a function of (seed, step) alone, so that a run can go on, or be shared."""

    def __len__(self) -> int:
        """How many examples an epoch has."""

    def introduction(self) -> list[str]:
        """Lines about it, for the beginning of a run."""

    def batch(self, size: int, *, seed: int, step: int, rows: slice = ...) -> tuple[Tensor, ...]:
        """What the objective's `forward` takes, of the examples `rows` of the batch of `size`."""

    def batches(self, size: int, *, seed: int, first: int, rows: slice = ...) -> Generator[tuple[Tensor, ...]]:
        """`batch` of step `first`, `first` + 1 and so on, without end."""

    def place(self, size: int, *, seed: int, step: int, example: int) -> dict[str, Any]:
        """Where an example of a batch is from, for the log."""


@dataclass(frozen=True)
class Data(Group):
    """batch_size examples make a step, over all processes; each process computes its part in `accumulate` pieces, which
    takes less memory and changes nothing else.
    """

    batch_size: int = at_least_one(16, most=65536)
    accumulate: int = at_least_one(1)

    def __post_init__(self) -> None:
        """Raise UsageError for values that cannot be trained with."""
        super().__post_init__()
        if self.batch_size % self.accumulate:
            raise UsageError(f"batch_size={self.batch_size} is not divisible by accumulate={self.accumulate}")

    def check(self, scale: int) -> None:
        """Raise UsageError for what does not go with a network of this scale."""

    def accept(self, sources: Sequence[Path], val: Sequence[Path]) -> None:
        """Raise UsageError where data of this kind needs sources, or pictures to validate on, and has none, or has no
        use for what is given. Before anything else is looked at.
        """

    def open(self, sources: Sequence[Path], *, scale: int, seed: int, device: torch.device) -> Dataset:
        """The data itself, of `sources`, folders and files. Raises UsageError, InputError."""
        raise NotImplementedError


@dataclass(frozen=True)
class Crops(Data):
    """Crops of photographs, img_size x img_size. turns: "all", of the eight ways to turn and mirror a crop one by
    chance, or "mirror", as it is or left and right exchanged.
    """

    img_size: int = at_least_one(144)
    turns: str = one_of("all", ("all", "mirror"))

    def check(self, scale: int) -> None:
        """See `Data`."""
        if self.img_size % scale:
            raise UsageError(f"img_size={self.img_size} is not divisible by scale={scale}")

    def accept(self, sources: Sequence[Path], val: Sequence[Path]) -> None:
        """See `Data`: there must be photographs."""
        if not sources:
            raise UsageError("`data` is missing", "name a folder or .tar of photographs", parameters=("data",))

    def open(self, sources: Sequence[Path], *, scale: int, seed: int, device: torch.device) -> Dataset:
        """See `Data`; sources: folders, .tar archives, or one pack of photographs."""
        from irnscale.train.data import Photographs

        return Photographs(list(sources), scale=scale, crop=self.img_size, device=device, turns=self.turns)


@dataclass(frozen=True)
class Optim(Group):
    """How a minimum is searched.

    optimizer: "adam" (weight_decay is L2), "adamw" (weight_decay is decoupled) or "muon", see `optimizers`.
    schedule: of the rate. "cosine": by the fraction of the budget that is done, `warmup` of it rising, then falling to
    `final_lr` of `initial_lr`; "milestones": multiplied by `lr_gamma` at each step in `lr_milestones`; "constant".
    clip_value_max_g bounds each gradient, then clip_norm_max_g their global L2 norm; None: no bound.
    ema is the decay of the averaged weights, which are what is validated and exported.
    """

    optimizer: str = one_of("adam", ("adam", "adamw", "muon"))
    schedule: str = one_of("cosine", ("cosine", "milestones", "constant"))
    initial_lr: float = above_zero(2e-4)
    final_lr: float = share(0.01, "is a fraction of initial_lr, from 0 to 1")
    warmup: float = below_one(0.01)
    lr_gamma: float = above_zero(0.5)
    lr_milestones: list[int] = field(default_factory=lambda: [100_000, 200_000, 300_000, 400_000])
    beta1: float = below_one(0.9)
    beta2: float = below_one(0.999)
    weight_decay: float = not_negative(1e-5)
    clip_norm_max_g: float = above_zero(10.0)
    clip_value_max_g: float | None = above_zero(None)
    ema: float = below_one(0.999)

    def __post_init__(self) -> None:
        """Raise UsageError for values that cannot be trained with."""
        super().__post_init__()
        if self.lr_milestones != sorted(set(self.lr_milestones)) or min(self.lr_milestones, default=1) < 1:
            raise UsageError(f"lr_milestones={self.lr_milestones} must be rising numbers of steps")


@dataclass(frozen=True)
class ObjectiveConfig(Group):
    """The keys of an objective, and its name."""

    name: ClassVar[str]
    renamed: ClassVar[Mapping[str, str]] = {}
    """Other names that keys, of any group, may be written by."""

    def check(self, network: NetworkConfig, optim: Optim) -> None:
        """Raise UsageError where these do not go with it."""

    def base_model(self) -> Model | None:
        """The frozen model beside which the network is trained. Raises ModelError, UsageError."""
        return None

    @property
    def jpeg_resistant(self) -> bool:
        """Whether small pictures of what is trained may be stored as JPEG."""
        return False


@dataclass(frozen=True)
class Run(Group):
    """How a run begins and ends, what it keeps, and what is seen of it.

    budget is the run's wall-clock ("20m") or number of steps ("5000").
    init: name of a model or a safetensors file to start from. Else dense blocks start by `initialisation`: "xavier" or
    "kaiming", both normal times 0.1, or torch's "default"; zero_last: their last convolutions start at zero, so that
    the untrained network is the Haar transform. See `initial.initialise_weights`.
    precision: of the convolutions; auto takes bfloat16 where the device multiplies it natively.
    save_memory: recompute activations through the inverse instead of keeping them. cuda_graph: record the step once and
    replay it as one CUDA graph; see `graph`.
    checkpoint_compact: store averages and moments in 16 bits; such a run resumes closely, not exactly.
    validate_steps: validate every so many steps instead of every `validate_minutes`, so that the curves of several runs
    have their points at the same steps; and after each power of two before that.
    alert_loss: an alert is sent when the loss passes it; challenge_factor: a crop whose loss is above so many times the
    running mean is kept as a picture; None: never.
    """

    name: str = "irn"
    seed: int = not_negative(10)
    budget: str = "60m"
    init: str | None = None
    initialisation: str = one_of("xavier", ("xavier", "kaiming", "default"))
    zero_last: bool = True
    # float16 would need its losses scaled; bfloat16 does not.
    precision: str = one_of("auto", ("auto", "float32", "bfloat16"))
    save_memory: bool = False
    cuda_graph: bool = False
    checkpoint_minutes: float = not_negative(5.0)
    checkpoint_compact: bool = False
    validate_minutes: float = not_negative(20.0)
    validate_steps: int | None = at_least_one(None)
    validate_limit: int = at_least_one(8)
    alert_loss: float | None = above_zero(None)
    challenge_factor: float | None = above_zero(3.0)

    def __post_init__(self) -> None:
        """Raise UsageError for values that cannot be trained with."""
        super().__post_init__()
        Budget.parse(self.budget)
        if self.init and (self.initialisation, self.zero_last) != ("xavier", True):
            raise UsageError(f"init={self.init} gives all weights", "leave initialisation and zero_last out")
