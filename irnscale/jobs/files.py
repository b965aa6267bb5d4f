"""From file to file, for Python: what the commands `down` and `up` do for one picture."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irnscale import batch
from irnscale.batch import Outcome, Output, Selection, Status
from irnscale.errors import check_choice
from irnscale.jobs.down import Down
from irnscale.jobs.planning import plan, targets
from irnscale.jobs.settings import Message, Settings
from irnscale.jobs.stages import RescalingStages
from irnscale.jobs.up import Up

if TYPE_CHECKING:
    from irnscale.engine.rescaler import Rescaler
    from irnscale.jobs.task import Task

PathLike = str | os.PathLike[str]
_FILE_OPTIONS = frozenset(field.name for field in fields(Output)) - {"output", "name", "skip_existing"}
_OPTIONS = frozenset(field.name for field in fields(Settings)) - {"files", "dry_run", "threads", "verbose"}


@dataclass(frozen=True)
class Written:
    """What `down_file` or `up_file` wrote.

    path: the file. size and new_size: (width, height) of the input and of what was written. scale: by how much.
    model: its name. warnings: what the command line would warn of, each about the input.
    """

    path: Path
    size: tuple[int, int]
    new_size: tuple[int, int]
    scale: int
    model: str
    warnings: tuple[str, ...]


def down_file(
    source: PathLike,
    target: PathLike | None = None,
    scale: int | None = None,
    *,
    detail: int | str | None = None,
    attach: str | None = None,
    effort: int = 0,
    gray: str = "keep",
    **options: Any,
) -> Written:
    """Shrink a photograph's file to a small image's, from which `up_file` restores it: `irnscale down`.

    source: a picture file. target: the file to write, whose extension says the format (png, jpg, webp, tiff, avif), or
    a folder; None: photo_down4x.png beside the photograph. scale: 2, 3, 4, 8 or 16; None: 4, or the model's.
    detail: bits of each stored sample that carry a coded layer, 1, 2 or 3, "none" or "exact"; None: what suits.
    attach: detail beside the pixels, a size such as "40K" or a quality from 0 to 100. effort: steps of optimisation.
    gray: "keep" or "color", the channels of a gray photograph's small image.

    options, all of `irnscale down --help`: format, quality, subsampling, depth (8 or 16), strip ("metadata" or "all"),
    overwrite; model, jpeg_resistant, device, precision, tile, max_memory, max_pixels, frames ("error" or "first").

    Raises InputError for what cannot be read, UsageError for options that contradict each other, ModelError,
    DeviceError, and OutputError for what exists (without overwrite) or cannot be written; each is an
    `irnscale.IrnscaleError` and names the file and the remedy. Nothing is left half written. The model is kept in
    memory from one call to the next.

        >>> import irnscale
        >>> irnscale.down_file("photo.png", "small.png", scale=4).new_size
        (24, 16)
    """
    settings = _settings(target, options)
    chosen = None if detail is None else str(detail)
    attached = None if attach is None else str(attach)
    return _run(Down(settings, scale, chosen, attached, effort, gray), source)


def up_file(
    source: PathLike,
    target: PathLike | None = None,
    *,
    scale: int | None = None,
    size: tuple[int, int] | None = None,
    sr: bool = False,
    detail: bool = True,
    temperature: float = 0.0,
    seed: int = 0,
    ignore_provenance: bool = False,
    require_provenance: bool = False,
    **options: Any,
) -> Written:
    """Restore a small image's file to the original size: `irnscale up`.

    source: a file that `down_file` or `irnscale down` wrote: its record names model and size. target: as `down_file`
    has it; None: photo_up4x.png of photo_down4x.png, beside it. scale and size = (width, height) of the original: for
    files without a record. sr: super-resolution, for small images that irnscale did not make. detail: use the coded
    layer that the file carries. temperature, from 0, and seed: noise in place of the lost detail. ignore_provenance,
    require_provenance: trust the options rather than the record; refuse a file that has none. options and errors: as
    of `down_file`.

        >>> import irnscale
        >>> irnscale.up_file("small.png", "restored.png").new_size
        (96, 64)
    """
    check_choice("detail", detail, (True, False))
    task = Up(
        _settings(target, options),
        scale,
        size,
        ignore_provenance,
        require_provenance,
        sr,
        temperature,
        seed,
        with_detail=detail,
    )
    return _run(task, source)


def _settings(target: PathLike | None, options: dict[str, Any]) -> Settings:
    unknown = sorted(set(options) - _OPTIONS - _FILE_OPTIONS)
    if unknown:
        known = ", ".join(sorted(_OPTIONS | _FILE_OPTIONS))
        raise TypeError(f"unknown option {unknown[0]!r}; there are {known}")
    files = {key: value for key, value in options.items() if key in _FILE_OPTIONS}
    output = None if target is None else _named(target)
    rest = {key: value for key, value in options.items() if key in _OPTIONS}
    if isinstance(rest.get("model"), os.PathLike):
        rest["model"] = os.fspath(rest["model"])
    if isinstance(rest.get("max_memory"), int):
        rest["max_memory"] = str(rest["max_memory"])
    return Settings(Output(output=output, **files), **rest)


def _named(path: PathLike) -> str:
    """A file of that name, even where the command line means something else by it."""
    name = os.fspath(path)
    return "./-" if name == "-" else name


def _run(task: Task, source: PathLike) -> Written:
    heard: list[Message] = []
    planned = plan(task, Selection((_named(source),)), heard.append)
    outcomes: list[Outcome] = []
    guard = targets(task, planned.inputs)
    stages = RescalingStages(task, guard, heard.append, rescalers=_kept(_key(task.settings)))
    batch.run(planned.jobs, stages, outcomes.append, workers=1)
    [outcome] = outcomes
    if outcome.error is not None:
        outcome.error.fit(_OPTIONS | _FILE_OPTIONS)
        raise outcome.error
    assert outcome.status is Status.DONE and outcome.target is not None  # noqa: PT018 - it was neither skipped nor planned
    assert outcome.size and outcome.new_size and outcome.scale and outcome.model  # noqa: PT018
    warnings = [message.text for message in heard if message.level == "warn"]
    notes = dict.fromkeys([*warnings, *outcome.notes, *outcome.notes_once])
    return Written(outcome.target, outcome.size, outcome.new_size, outcome.scale, outcome.model, tuple(notes))


def _key(settings: Settings) -> tuple[Any, ...]:
    """What a rescaler depends on besides its models."""
    return settings.device, settings.precision, settings.tile, settings.max_memory


@lru_cache(maxsize=1)
def _kept(key: tuple[Any, ...]) -> dict[str, Rescaler]:
    """The rescalers of the latest device and precision, by the paths of their weights."""
    return {}
