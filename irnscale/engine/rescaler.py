"""The public way to run a model: `Rescaler`, and `load` that makes one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from irnscale.engine.canvas import Sink, Source
from irnscale.engine.completing import TILE, Completing, Reader, memory
from irnscale.engine.device import choose_device
from irnscale.engine.enlarging import Enlarging, Sampling
from irnscale.engine.executor import EXTREME, Progress, Sweep, Warn
from irnscale.engine.memory import is_out_of_memory, mapped_file
from irnscale.engine.plan import SMALLEST_TILE, Plan, make_plan
from irnscale.engine.precision import choose_precision
from irnscale.engine.prepared import Prepared
from irnscale.engine.warming import compile_kernels
from irnscale.engine.workers import threads_of
from irnscale.errors import DeviceError, InputError, ModelError, UsageError
from irnscale.kernels import philox_normal
from irnscale.logs import logger
from irnscale.networks.network import IMAGE_CHANNELS, AssistingNetwork, CompletingNetwork, Flow, RescalingNetwork
from irnscale.networks.step import Program
from irnscale.sizes import check_original_size, parse_memory
from irnscale.zoo import (
    Model,
    base_of,
    combined_digest,
    combined_name,
    combined_scale,
    compose,
    find_all,
    load_network,
    super_resolution,
)

_log = logger(__name__)

ATTEMPTS, LESS = 4, 0.75
"""How often a sample that is not finite is drawn, each time at so much of the temperature; then without noise."""
AnyImage = TypeVar("AnyImage", Image.Image, "np.ndarray[Any, Any]", Tensor)


class Rescaler:
    """Shrinks images and restores them, with one network or several composed without rounding in between.

    Images are PIL images (8-bit RGB or L), numpy arrays (H, W, 3) or (N, H, W, 3) uint8 or uint16, or float tensors
    (3, H, W) or (N, 3, H, W) in [0, 1]; the result is of the same kind, rounded to the grid of `depth` bits
    per channel, 8 or 16: by default 8, so that a uint16 array gives a uint8 one unless 16 is asked for.
    Gray images are replicated to three channels and the result is the rounded mean of the channels, which
    costs about 9 dB at x2 and 6 dB at x4 against passing the same image as RGB. Any H and W: sizes that are not
    multiples of the scale are padded by reflection, and `up(..., size=...)` crops back.
    Nothing is random: z = 0.
    With an `assistant`, which belongs to the one model given, `up` prepares the small image first: for small images
    that `down` did not make. So is a model for super-resolution, which stands alone, and has no `down`; and no noise,
    but where it draws `samples`, as SRFlow does. With a `completion`, which belongs to the one model given, z is what
    that makes of the small image, and of noise where there is a temperature.
    Safe to call from several threads.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        assistant: Model | None = None,
        completion: Model | None = None,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        max_memory: int | str | None = None,
        warn: Warn | None = None,
    ) -> None:
        self.models = tuple(models)
        self.assistant, self.completion = assistant, completion
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        used = [*models, assistant] if assistant else models
        allowed = set.intersection(*(m.card.automatic for m in used))
        if precision == "auto" and str(self.dtype).removeprefix("torch.") not in allowed:
            _log.info("%s costs too much, by the cards of the models: float32", self.dtype)
            self.dtype = torch.float32
        if tile is not None and tile < 1:
            raise UsageError(f"tile={tile}: not a number of positions", "leave it out", parameters=("tile",))
        self.tile = tile
        self.max_memory = None if max_memory is None else parse_memory(str(max_memory))
        self._warn = _logged(warn or _python_warning)
        self.networks: list[RescalingNetwork] = []
        self.enlarging: Enlarging | None = None
        if len(models) == 1 and models[0].task == "super-resolution" and assistant is None:
            enlarger = load_network(models[0], "super-resolution").to(self.device)
            self.enlarging = Enlarging(enlarger, self.dtype, self._warn)
        for model in models if self.enlarging is None else ():
            net = load_network(model).to(self.device)
            self.networks.append(net)
        self.flow: AssistingNetwork | None = None
        if assistant:
            _check_base(assistant, models)
            self.flow = load_network(assistant, "assistance").to(self.device)
        self.completing: CompletingNetwork | None = None
        if completion:
            _check_base(completion, models)
            self.completing = load_network(completion, "completion").to(self.device)
        used_networks: list[Flow] = [*self.networks, *([self.flow] if self.flow is not None else [])]
        self._prepared = {net: Prepared(net, self.dtype) for net in used_networks}
        self.compiled = compile_kernels(self._prepared.values(), self.device)
        """The kernels that were compiled for the networks, or found compiled; None where there are none to compile."""
        self.scale = combined_scale(models)
        for model in used:
            card, cost = model.card, model.card.cost(str(self.dtype).removeprefix("torch."))
            form = f"{self.dtype}" if cost is None else f"{self.dtype}, which costs it {cost:.3f} dB"
            _log.info("%s, %s, on %s in %s: %s", card.name, card.digest, self.device, form, model.weights)

    @property
    def name(self) -> str:
        """Name of the model, of those composed joined by "+", or of what helps it, as provenance records it."""
        helper = self.assistant or self.completion
        return helper.card.name if helper else combined_name(self.models)

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that identify the weights."""
        return combined_digest([m for m in (self.assistant, self.completion) if m is not None] + list(self.models))

    @property
    def batches(self) -> bool:
        """Whether several images at once are faster than one after the other: on a GPU."""
        return self.device.type == "cuda"

    @property
    def draws(self) -> bool:
        """Whether it draws `samples`, one picture for each seed."""
        return self.enlarging is not None and self.enlarging.samples

    @property
    def shrinks(self) -> bool:
        """Whether it has `down`: not where it is for super-resolution alone."""
        return self.enlarging is None

    @property
    def jpeg_resistant(self) -> bool:
        """Whether LR may go through JPEG."""
        return all(m.card.jpeg_resistant for m in self.models)

    def plans(
        self,
        kind: str,
        width: int,
        height: int,
        *,
        bytes_per_pixel: float = 3.0,
        result_bytes_per_pixel: float | None = None,
    ) -> list[Plan]:
        """How `down` or `up` (`kind`) would run a large image of this size, one plan per network in order.

        One for super-resolution has `up` alone.

        bytes_per_pixel: what the given image takes, and the result (None: as much). Raises DeviceError where it does
        not fit into `max_memory`.
        """
        result = bytes_per_pixel if result_bytes_per_pixel is None else result_bytes_per_pixel
        if self.enlarging is not None:
            wide, high = (-(-side // self.scale) * self.scale for side in (width, height))
            return [self._enlarging_plan(self.enlarging, wide, high, bytes_per_pixel, result)]
        return [self._plan(stage, 1) for stage in self._stages(kind, width, height, bytes_per_pixel, result)]

    def _stages(self, kind: str, width: int, height: int, given: float, result: float, held: int = 0) -> list[_Stage]:
        """What runs one after the other for a large image of this size, and what is held in memory meanwhile.

        given, result: bytes per pixel of the image and of what is made of it. held: bytes of other pictures.
        """
        rev = kind == "up"
        high, wide = (-(-side // self.scale) * self.scale for side in (height, width))
        found = []
        for index, net in enumerate(self.networks):
            found.append(_Stage(net, self.models[index].card.name, high, wide, rev=rev, index=index))
            high, wide = high // net.scale, wide // net.scale
        if rev:
            found.reverse()
            if self.flow is not None and self.assistant is not None:
                found.insert(0, _Stage(self.flow, self.assistant.card.name, high, wide, rev=False))
        # the pictures stay in the host's memory, which is not what a limit for a device is about
        large, small = (result, given) if rev else (given, result)
        pictures = 0.0 if self.device.type != "cpu" else (large * self.scale**2 + small) * high * wide
        for before, after in pairwise(found):
            between = before.values * self._prepared[before.net].trunk_dtype.itemsize
            before.held += between
            after.held += between
        for stage in found if rev else ():
            completing = self.completing or stage.completion
            if completing is not None:
                sides = stage.height // stage.net.scale, stage.width // stage.net.scale
                stage.held += memory(completing, *sides, self.tile or TILE)
        for stage in found:
            stage.held += round(pictures) + (held if self.device.type == "cpu" else 0)
        return found

    def down(self, image: AnyImage, *, depth: int = 8, progress: Progress | None = None, held: int = 0) -> AnyImage:
        """HR -> LR, ceil(H / scale) x ceil(W / scale), rounded to the grid of `depth` bits.

        held: bytes of other pictures that are in memory meanwhile, for `max_memory`.
        Raises InputError for a kind, shape or dtype that is not an image, or that cannot hold 16 bits (a PIL
        image), DeviceError when memory runs out.
        """
        if self.enlarging is not None:
            raise ModelError(f"{self.name}: enlarges pictures and does not shrink any", "use it for `up`")
        source = Source(image, self.scale)
        n, height, width = source.samples, source.height, source.width
        sink = Sink(image, n, height // self.scale, width // self.scale, depth)
        stages = self._stages("down", width, height, source.bytes_per_pixel, sink.bytes_per_pixel, held)
        self._through(stages, source, sink, _Noise(), progress)
        return sink.finish()  # type: ignore[no-any-return]

    def up(
        self,
        image: AnyImage,
        *,
        size: tuple[int, int] | None = None,
        depth: int = 8,
        temperature: float = 0.0,
        seed: int = 0,
        progress: Progress | None = None,
        held: int = 0,
    ) -> AnyImage:
        """LR -> HR, scale times the size, or cropped at the right and bottom to `size` = (width, height).

        temperature: z is drawn from a normal distribution of this standard deviation, by `seed` and the place of
        each coefficient alone; 0 is no noise, and the paper's way is 1. held: as in `down`. Raises InputError as
        `down` does, where `size` is not one that `down` makes this LR from, and for a negative temperature.
        """
        source = Source(image)
        n, height, width = source.samples, source.height, source.width
        if not 0 <= temperature < float("inf") or not 0 <= seed < 2**64:
            raise InputError(
                f"temperature {temperature:g} with seed {seed} is not possible",
                "the temperature is at least 0, the seed from 0 to 2^64 - 1",
            )
        if size is not None:
            check_original_size(size, (width, height), self.scale)
        wide, high = size or (width * self.scale, height * self.scale)
        sink = Sink(image, n, high, wide, depth)
        if self.enlarging is not None:
            if temperature:
                made = self.samples(
                    image, temperature=temperature, seeds=[seed], size=size, depth=depth, progress=progress, held=held
                )
                return made[0]
            self._enlarge(self.enlarging, source, [sink], progress, held, None)
            return sink.finish()  # type: ignore[no-any-return]
        stages = self._stages(
            "up", width * self.scale, height * self.scale, source.bytes_per_pixel, sink.bytes_per_pixel, held
        )
        self._through(stages, source, sink, _Noise(temperature, seed, self.completing, self.tile), progress)
        return sink.finish()  # type: ignore[no-any-return]

    def samples(
        self,
        image: AnyImage,
        *,
        temperature: float,
        seeds: Sequence[int],
        size: tuple[int, int] | None = None,
        depth: int = 8,
        progress: Progress | None = None,
        held: int = 0,
    ) -> list[AnyImage]:
        """LR -> one HR for each seed, by a network that draws samples, such as SRFlow's; other arguments as for `up`.

        Each is what `up` gives with its seed and this temperature, but all share the passes of the encoder. A sample
        that is not finite is never given: it is drawn again at three quarters of its temperature, and so on, and
        `warn` is told. Raises InputError as `up` does, and where there is no noise to draw.
        """
        net = self.enlarging
        if net is None or not net.samples:
            raise InputError(f"{self.name} draws no samples: it has no temperature", "leave the temperature out")
        if not 0 <= temperature < float("inf") or not seeds or not all(0 <= seed < 2**64 for seed in seeds):
            raise InputError(
                f"temperature {temperature:g} with seeds {list(seeds)} is not possible",
                "the temperature is at least 0, a seed from 0 to 2^64 - 1",
            )
        source = Source(image)
        if size is not None:
            check_original_size(size, (source.width, source.height), self.scale)
        wide, high = size or (source.width * self.scale, source.height * self.scale)
        sinks = [Sink(image, source.samples, high, wide, depth) for _ in seeds]
        left = list(range(len(seeds)))
        for drawn in _temperatures(temperature):
            if len(left) < len(seeds) or drawn < temperature:
                names = ", ".join(str(seeds[k]) for k in left)
                self._warn(f"the sample of seed {names} was not finite and is drawn again at temperature {drawn:g}")
            sampling = Sampling(drawn, [seeds[k] for k in left])
            broken = self._enlarge(net, source, [sinks[k] for k in left], progress, held, sampling)
            left = [left[k] for k in sorted(broken)]
            if not left:
                return [sink.finish() for sink in sinks]
        raise InputError("the network's result is not finite, nothing is written", EXTREME)

    def _enlarging_plan(
        self,
        net: Enlarging,
        width: int,
        height: int,
        given: float,
        result: float,
        held: int = 0,
        samples: int = 1,
        draws: int = 1,
    ) -> Plan:
        """The plan of a network for super-resolution; draws: samples of each image; else as in `_stages`."""
        area = width * height
        pictures = 0 if self.device.type != "cpu" else round((draws * result + given / self.scale**2) * area) + held
        limit = self.max_memory // samples if self.max_memory else None
        return net.plan(
            width, height, model=self.name, tile=self.tile, max_memory=limit, pictures=pictures, draws=draws
        )

    def _enlarge(
        self,
        net: Enlarging,
        source: Source,
        sinks: Sequence[Sink],
        progress: Progress | None,
        held: int,
        sampling: Sampling | None,
    ) -> set[int]:
        """The image through a network for super-resolution; see `Enlarging.draw`."""
        width, height = source.width * self.scale, source.height * self.scale
        sizes = source.bytes_per_pixel, sinks[0].bytes_per_pixel
        plan = self._enlarging_plan(net, width, height, *sizes, held=held, samples=source.samples, draws=len(sinks))
        _log.debug("plan: %s", plan)
        return net.draw(
            source,
            sinks,
            tile=plan.tile,
            fixed=self.tile is not None,
            fail=self._out_of_memory,
            progress=progress,
            sampling=sampling,
        )

    def _through(
        self, stages: Sequence[_Stage], source: Source, sink: Sink, noise: _Noise, progress: Progress | None
    ) -> None:
        """The image through the networks; what lies between two of them is not rounded."""
        report = _Progress(progress, sum(self._program(stage).work(stage.height, stage.width) for stage in stages))
        # the Haar kernels read and write 8-bit pixels themselves
        before = self._program(stages[0]).levels[0].before
        levels = before is not None and before.takes_levels
        reader: Reader = partial(source.read, device=self.device, levels=levels)
        for stage in stages:
            result = None if stage is stages[-1] else self._buffer(source.samples, stage)
            if stage.rev:
                reader = noise.beside(reader, stage)
            self._run(stage, source.samples, reader, sink, result, report)
            if result is not None:
                reader = _rows_of(result)

    def _buffer(self, samples: int, stage: _Stage) -> Tensor:
        """What comes out of a network and goes into the next, on the device."""
        dtype = self._prepared[stage.net].trunk_dtype
        try:
            return torch.empty((samples, IMAGE_CHANNELS, *stage.output), device=self.device, dtype=dtype)
        except (RuntimeError, MemoryError) as error:
            raise self._out_of_memory(error, "") from error

    def _program(self, stage: _Stage) -> Program:
        return self._prepared[stage.net].programs[stage.rev]

    def _plan(self, stage: _Stage, samples: int) -> Plan:
        return make_plan(
            self._program(stage),
            stage.width,
            stage.height,
            device=self.device,
            dtype=self.dtype,
            model=stage.name,
            tile=self.tile,
            max_memory=self.max_memory // samples if self.max_memory else None,
            pictures=stage.held,
            threads=threads_of(self.device),
        )

    def _run(
        self, stage: _Stage, samples: int, reader: Reader, sink: Sink, result: Tensor | None, report: _Progress
    ) -> None:
        """One network over an image, into `result`, or rounded into the sink."""
        plan = self._plan(stage, samples)
        _log.debug("plan: %s", plan)
        columns = plan.order == "columns"
        axis = 3 if columns else 2
        mapped = plan.trunk == "mapped file"

        def shrink(tile: int, error: BaseException) -> int:
            if self.tile or tile <= SMALLEST_TILE:
                raise self._out_of_memory(error, f" at tiles of {tile}") from error
            smaller = max(SMALLEST_TILE, 1 << ((tile - 1).bit_length() - 1))
            report.once("memory", f"out of memory at tiles of {tile}: going on with tiles of {smaller}", self._warn)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            return smaller

        def write(first: int, head: Tensor, rest: Tensor) -> None:
            if result is None:
                sink.write(first, head, columns=columns)
            else:
                result.narrow(axis, first, head.shape[axis]).copy_(head)

        try:
            sweep = Sweep(
                self._prepared[stage.net],
                (samples, stage.height, stage.width),
                rev=stage.rev,
                tile=plan.tile,
                band=plan.band,
                columns=columns,
                levels=result is None and sink.takes_levels,
                at_once=plan.at_once,
                allocate=(lambda size: mapped_file(size, self._prepared[stage.net].trunk_dtype)) if mapped else None,
                shrink=shrink,
                warn=lambda text: report.once(text, text, self._warn),
                progress=report.step,
            )
            sweep.run(lambda first, last: reader(first, last, columns=columns), write)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._out_of_memory(error, "") from error
        report.next()

    def _out_of_memory(self, error: BaseException, where: str) -> DeviceError:
        remedy = "use a smaller `tile`" if self.tile else "give a `max_memory` that is free"
        other = "" if self.device.type == "cpu" else ", or device=cpu"
        return DeviceError(
            f"out of memory on {self.device}{where}", remedy + other, parameters=("max_memory", "tile", "device")
        )


@dataclass
class _Stage:
    """One network in its turn. height, width: of its large image. held: bytes of all pictures that are alive then."""

    net: Flow
    name: str
    height: int
    width: int
    rev: bool
    index: int = 0
    held: int = 0

    @property
    def output(self) -> tuple[int, int]:
        """Height and width of what it makes."""
        factor = 1 if self.rev else self.net.scale
        return self.height // factor, self.width // factor

    @property
    def completion(self) -> CompletingNetwork | None:
        """What the network itself makes z of, if it does."""
        return self.net.completion if isinstance(self.net, RescalingNetwork) else None

    @property
    def values(self) -> int:
        """Numbers that an image of this size has."""
        return IMAGE_CHANNELS * self.output[0] * self.output[1]


@dataclass(frozen=True)
class _Noise:
    """z for the inverse: zeros, or noise by absolute position, the same in every image of a batch; or what a completing
    network makes of either.
    """

    temperature: float = 0.0
    seed: int = 0
    completing: CompletingNetwork | None = None
    tile: int | None = None

    def beside(self, reader: Reader, stage: _Stage) -> Reader:
        """The rows of LR with the z of this network after them. Each network draws from channels of its own."""
        completing = self.completing or stage.completion
        if completing is not None:
            sides = stage.height // stage.net.scale, stage.width // stage.net.scale
            return Completing(completing, reader, sides, self.tile or TILE, self.temperature, self.seed)
        channels, channel = IMAGE_CHANNELS * (stage.net.scale**2 - 1), stage.index << 16

        def read(first: int, last: int, *, columns: bool) -> Tensor:
            lr = reader(first, last, columns=columns)
            n, _, h, w = lr.shape
            if not self.temperature:
                return torch.cat((lr, lr.new_zeros(n, channels, h, w)), dim=1)
            origin = (0, channel, 0, first) if columns else (0, channel, first, 0)
            z = philox_normal((1, channels, h, w), seed=self.seed, origin=origin, device=lr.device)
            return torch.cat((lr, (z * self.temperature).to(lr.dtype).expand(n, -1, -1, -1)), dim=1)

        return read


class _Progress:
    """Adds up what several networks report, and says each warning once."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total = progress, total
        self._before = self._latest = 0
        self._said: set[str] = set()

    def step(self, done: int, total: int) -> None:
        self._latest = done
        if self._progress is not None:
            self._progress(self._before + done, self._total)

    def next(self) -> None:
        self._before += self._latest
        self._latest = 0

    def once(self, kind: str, text: str, warn: Warn) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warn(text)


def _temperatures(temperature: float) -> list[float]:
    """At which a sample is drawn, one after the other, until one is finite."""
    return [*(temperature * LESS**k for k in range(ATTEMPTS)), 0.0] if temperature else [0.0]


def _check_base(helper: Model, models: Sequence[Model]) -> None:
    """Raise ModelError where a model was trained for other weights than those of `models`."""
    card = helper.card
    if [m.card.digest for m in models] != [card.base_digest]:
        raise ModelError(
            f"{card.name}: was trained for {card.base} ({card.base_digest}), "
            f"not for {models[0].card.name} ({combined_digest(models)})",
            "leave the model out",
        )


def _rows_of(image: Tensor) -> Reader:
    """Rows of what the network before has made."""
    return lambda first, last, *, columns: image.narrow(3 if columns else 2, first, last - first)


def _python_warning(text: str) -> None:
    warnings.warn(text, stacklevel=3)


def _logged(warn: Warn) -> Warn:
    """`warn`, and the log is told too: of every fallback."""

    def both(text: str) -> None:
        _log.info("%s", text)
        warn(text)

    return both


def load(
    model: int | str | os.PathLike[str] = 4,
    *,
    jpeg_resistant: bool = False,
    sr: bool = False,
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    max_memory: int | str | None = None,
) -> Rescaler:
    """A `Rescaler` for a scale (2, 4, "x4"; 8 and 16 compose two models) or for a model by name or file.

    A model that completes another brings that one along.
    `sr` is for small images that `down` did not make: a scale, whose model for them is taken, or such a model.
    Raises ModelError, DeviceError or UsageError.
    """
    if isinstance(model, os.PathLike):
        model = os.fspath(model)
    if isinstance(model, str) and model.removeprefix("x").isdecimal():
        model = int(model.removeprefix("x"))
    if sr:
        if jpeg_resistant:
            raise UsageError("`sr` chooses the model, and `jpeg_resistant` does too", "leave one of them out")
        base, assistant = super_resolution(model)
        return Rescaler(
            [base], assistant=assistant, device=device, precision=precision, tile=tile, max_memory=max_memory
        )
    chosen = compose(model, jpeg_resistant=jpeg_resistant) if isinstance(model, int) else find_all(model)
    if jpeg_resistant and not all(one.card.jpeg_resistant for one in chosen):
        raise UsageError(f"jpeg_resistant=True contradicts {model}, which is not", "leave one of them out")
    completion = None
    if len(chosen) == 1 and chosen[0].task == "completion":
        (completion,), chosen = chosen, [base_of(chosen[0])]
    return Rescaler(chosen, completion=completion, device=device, precision=precision, tile=tile, max_memory=max_memory)
