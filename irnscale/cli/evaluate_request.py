"""What `irnscale evaluate` measures: its options, and the methods and codecs that they name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from irnscale.errors import ModelError, UsageError, check_choice

if TYPE_CHECKING:
    from irnscale.engine.rescaler import Rescaler
    from irnscale.evaluation.codecs import Codec
    from irnscale.evaluation.methods import Method
    from irnscale.evaluation.trip import Storage
    from irnscale.metrics.scores import Chosen


@dataclass(frozen=True)
class Request:
    """The options, as given; `evaluate --help` says what they mean."""

    folders: tuple[Path, ...]
    scales: str | None
    names: tuple[str, ...]
    jpeg: str | None
    subsampling: str
    detail: str | None
    attach: str | None
    sr: bool
    temperature: str | None
    draws: int
    seed: int
    methods: tuple[str, ...]
    methods_down: tuple[str, ...]
    no_baselines: bool
    luma: str
    fast: bool
    metrics: str
    niqe: Path | None
    lpips: Path | None
    limit: int | None
    crop_to: int | None
    cache: Path | None
    no_cache: bool
    as_json: bool
    csv_path: Path | None
    report: Path | None
    crops: int
    update_card: bool
    precision_costs: bool
    fit_niqe: Path | None
    readme: Path | None
    rate_distortion: Path | None
    overwrite: bool
    no_progress: bool
    device: str
    precision: str


def numbers(option: str, text: str, allowed: Sequence[int]) -> list[int]:
    """Whole numbers out of `allowed`, joined by commas: "30,50" as [30, 50]. Raises UsageError, naming the option."""
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or not set(found) <= set(allowed):
        few = ", ".join(map(str, allowed)) if len(allowed) < 10 else f"{allowed[0]} to {allowed[-1]}"
        raise UsageError(f"{option} {text}: not numbers of {few}, joined by commas", f"for example {option} 2,4")
    return found


def codecs_of(request: Request, rescalers: Sequence[Rescaler]) -> list[Codec]:
    """PNG, and JPEG as asked for; cards of JPEG-resistant models want their qualities unasked."""
    from irnscale.evaluation.codecs import Codec
    from irnscale.evaluation.scores import JPEG_QUALITIES
    from irnscale.images.write import SUBSAMPLINGS

    if request.jpeg is not None:
        qualities: Sequence[int] = numbers("--jpeg", request.jpeg, range(1, 101))
    else:
        wanted = request.update_card and any(rescaler.jpeg_resistant for rescaler in rescalers)
        qualities = JPEG_QUALITIES if wanted else ()
    chromas = dict.fromkeys(chroma.strip() for chroma in request.subsampling.split(","))
    for chroma in chromas:
        check_choice("subsampling", chroma, SUBSAMPLINGS)
    return [Codec(), *(Codec(q, chroma) for chroma in chromas for q in qualities)]


def rescalers_of(request: Request) -> list[Rescaler]:
    """Those named; else all that are installed, and for x8 and x16 the shipped ones in a row where none is trained.

    With --sr, the assistants of these too, and where none are named the networks for super-resolution.
    """
    from irnscale.cli.models import report_broken
    from irnscale.engine.memory import keep_freed_memory
    from irnscale.engine.rescaler import Rescaler
    from irnscale.zoo import Model, base_of, compose, find_all, models

    keep_freed_memory()
    scales, assistants, completions = _scales(request), list[Model](), list[Model]()
    if request.names:
        named = [find_all(name) for name in dict.fromkeys(request.names)]
        chosen = [several for several in named if several[0].task not in ("assistance", "completion")]
        completions = [model for several in named for model in several if model.task == "completion"]
        assistants = [model for several in named for model in several if model.task == "assistance"]
    else:
        broken: dict[Path, ModelError] = {}
        tasks = ("rescaling", "super-resolution") if request.sr else ("rescaling",)
        chosen = [[m] for m in models(broken) if m.task in tasks and m.card.scale in scales]
        report_broken(broken)
        trained = {model.card.scale for (model,) in chosen if model.task == "rescaling"}
        chosen += [list(compose(scale)) for scale in scales if scale > 4 and scale not in trained]
    options: dict[str, Any] = {"device": request.device, "precision": request.precision}
    found = [Rescaler(several, **options) for several in chosen]
    if request.sr:
        digests = {rescaler.digest for rescaler in found}
        given = {model.card.name for model in assistants}
        assistants += [m for m in models({}) if m.card.base_digest in digests and m.card.name not in given]
    found += [Rescaler([base_of(model)], assistant=model, **options) for model in assistants]
    found += [Rescaler([base_of(model)], completion=model, **options) for model in completions]
    other = [rescaler for rescaler in found if request.scales and rescaler.scale not in scales]
    if other:
        what = f"-s {request.scales} contradicts -m {other[0].name}, which is x{other[0].scale}"
        raise UsageError(what, "leave -s out")
    return sorted(found, key=lambda rescaler: rescaler.scale)


def _scales(request: Request) -> list[int]:
    return numbers("-s", request.scales or "2,4", (2, 3, 4, 8, 16))


def methods_of(request: Request, rescalers: Sequence[Rescaler], chosen: Chosen) -> list[Method]:
    """By scale: baselines, then the models and what they are asked for besides."""
    from irnscale.evaluation.methods import (
        baselines,
        full_size,
        model_method,
        published_bicubic,
        sampled,
        super_resolution,
        with_detail,
    )

    temperatures = _temperatures(request.temperature)
    found: list[Method] = []
    if any(score.no_reference for score in chosen.more) and not request.no_baselines and not request.update_card:
        found.append(full_size())
    compared = _compared(rescalers) if request.precision_costs else {}
    for scale in sorted({rescaler.scale for rescaler in rescalers}) if request.names else _scales(request):
        if not request.no_baselines and not request.update_card:
            found += [published_bicubic(scale)] if request.luma == "rounded" else []
            found += baselines(scale)
        found += _external(request, scale)
        for rescaler in rescalers:
            if rescaler.scale == scale and rescaler.shrinks and rescaler.assistant is None:
                found.append(model_method(rescaler))
                found += [with_detail(rescaler, storage) for storage in _storages(request, scale)]
                found += [sampled(rescaler, t, draws=request.draws, seed=request.seed) for t in temperatures]
            if rescaler.scale == scale and (request.sr or rescaler.assistant is not None or not rescaler.shrinks):
                found.append(super_resolution(rescaler))
                if rescaler.draws:
                    found += [sampled(rescaler, t, draws=request.draws, seed=request.seed) for t in temperatures]
            if rescaler.scale == scale:
                found += compared.get(rescaler, [])
    if not found:
        raise UsageError("nothing to measure", "leave --no-baselines out, or choose a model with -m")
    return found


def _external(request: Request, scale: int) -> list[Method]:
    """Other programs. Raises UsageError where one reduces that does not enlarge."""
    from irnscale.evaluation.external import both_ways, enlarging, parse

    ups, downs = parse(request.methods, "--method"), parse(request.methods_down, "--method-down")
    alone = [name for name in downs if name not in ups]
    if alone:
        raise UsageError(f"--method-down {alone[0]}: nothing enlarges what it reduces", f"add --method {alone[0]}=...")
    return [both_ways(downs[n], up, scale) if n in downs else enlarging(up, scale) for n, up in ups.items()]


def _compared(rescalers: Sequence[Rescaler]) -> dict[Rescaler, list[Method]]:
    """The same models in float32 and bfloat16, each as its main method."""
    from irnscale.engine.rescaler import Rescaler
    from irnscale.evaluation.methods import in_precision, model_method, super_resolution

    found: dict[Rescaler, list[Method]] = {}
    for rescaler in rescalers:
        make = model_method if rescaler.assistant is None and rescaler.shrinks else super_resolution
        for precision in ("float32", "bfloat16"):
            other = Rescaler(
                rescaler.models,
                assistant=rescaler.assistant,
                completion=rescaler.completion,
                device=str(rescaler.device),
                precision=precision,
            )
            found.setdefault(rescaler, []).append(in_precision(make(other), other))
    return found


def _storages(request: Request, scale: int) -> list[Storage]:
    """The files of --detail and --attach, as `down` would write them."""
    from irnscale.evaluation.trip import Storage
    from irnscale.jobs.amounts import detail_bits, parse_attach

    found = []
    for part in (request.detail or "").split(",") if request.detail is not None else ():
        if part.strip() not in ("1", "2", "3", "exact"):
            raise UsageError(f"--detail {request.detail}: not 1, 2, 3 or exact", "for example --detail 1,2")
        bits = detail_bits(part.strip(), scale, lossy=False, jpeg_resistant=False)
        found.append(Storage(bits=bits, exact=part.strip() == "exact"))
    qualities = [] if request.jpeg is None else numbers("--jpeg", request.jpeg, range(1, 101))
    for part in (request.attach or "").split(",") if request.attach is not None else ():
        amount = parse_attach(part.strip())
        found += [
            Storage("jpg", quality, chroma.strip(), amount=amount)
            for chroma in request.subsampling.split(",")
            for quality in qualities
        ] or [Storage(amount=amount)]
    return found


def _temperatures(text: str | None) -> list[float]:
    try:
        found = list(dict.fromkeys(map(float, text.split(",")))) if text is not None else []
    except ValueError as error:
        raise UsageError(f"--temperature {text}: not numbers", "for example --temperature 0.5,1") from error
    return found
