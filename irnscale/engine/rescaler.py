"""The public way to run a model: `Rescaler`, and `load` that makes one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from irnscale.engine.canvas import Sink, Source
from irnscale.engine.device import choose_device
from irnscale.engine.executor import Progress, Sweep, Warn
from irnscale.engine.memory import is_out_of_memory, mapped_file
from irnscale.engine.plan import SMALLEST_TILE, Plan, make_plan
from irnscale.engine.precision import choose_precision
from irnscale.engine.prepared import Network, Prepared, work_of
from irnscale.errors import DeviceError, InputError, ModelError, UsageError
from irnscale.kernels import philox_normal
from irnscale.networks import IRN, AssistantFlow
from irnscale.networks.irn import IMAGE_CHANNELS
from irnscale.sizes import check_original_size, parse_memory
from irnscale.zoo import Model, combined_digest, compose, find_all, load_assistant, load_network
from irnscale.zoo import assistant as find_assistant

AnyImage = TypeVar("AnyImage", Image.Image, "np.ndarray[Any, Any]", Tensor)

Reader = Callable[[int, int, bool], Tensor]
"""(first, last, columns) -> rows or columns of the input on the device."""


class Rescaler:
    """Shrinks images and restores them, with one network or several composed without rounding in between.

    Images are PIL images (8-bit RGB or L), numpy arrays (H, W, 3) or (N, H, W, 3) uint8 or uint16, or float tensors
    (3, H, W) or (N, 3, H, W) in [0, 1]; the result is of the same kind, rounded to the grid of `depth` bits
    per channel, 8 or 16: by default 8, so that a uint16 array gives a uint8 one unless 16 is asked for.
    Gray images are replicated to three channels and the result is the rounded mean of the channels, which
    costs 4 to 5 dB against passing the same image as RGB. Any H and W: sizes that are not multiples of the
    scale are padded by reflection, and `up(..., size=...)` crops back.
    Nothing is random: z = 0.
    With an `assistant`, which belongs to the one model given, `up` prepares the small image first: for small images
    that `down` did not make.
    Safe to call from several threads.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        assistant: Model | None = None,
        device: str = "auto",
        precision: str = "auto",
        tile: int | None = None,
        max_memory: int | str | None = None,
        warn: Warn | None = None,
    ) -> None:
        self.models = tuple(models)
        self.assistant = assistant
        self.device = choose_device(device)
        self.dtype = choose_precision(precision, self.device)
        used = [*models, assistant] if assistant else models
        allowed = set.intersection(*(set(m.card.precisions) for m in used))
        if precision == "auto" and str(self.dtype).removeprefix("torch.") not in allowed:
            self.dtype = torch.float32
        self.tile = tile
        self.max_memory = parse_memory(max_memory) if isinstance(max_memory, str) else max_memory
        self._warn = warn or _python_warning
        self.networks: list[IRN] = []
        for model in models:
            net = load_network(model).to(self.device)
            self.networks.append(net)
        self.flow: AssistantFlow | None = None
        if assistant:
            if [m.card.digest for m in models] != [assistant.card.base_digest]:
                raise ModelError(
                    f"{assistant.card.name}: was trained for {assistant.card.base} ({assistant.card.base_digest}), "
                    f"not for {self.models[0].card.name} ({combined_digest(models)})",
                    "leave the model out",
                )
            self.flow = load_assistant(assistant).to(self.device)
        used_networks: list[Network] = [*self.networks, *([self.flow] if self.flow is not None else [])]
        self._prepared = {net: Prepared(net, self.dtype) for net in used_networks}
        self.scale = int(np.prod([net.scale for net in self.networks]))

    @property
    def name(self) -> str:
        """Name of the model, or of those composed joined by "+", or of the assistant, as provenance records it."""
        return self.assistant.card.name if self.assistant else "+".join(m.card.name for m in self.models)

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that identify the weights."""
        return combined_digest([self.assistant, *self.models] if self.assistant else self.models)

    @property
    def batches(self) -> bool:
        """Whether several images at once are faster than one after the other: on a GPU."""
        return self.device.type == "cuda"

    @property
    def jpeg_resistant(self) -> bool:
        """Whether LR may go through JPEG."""
        return all(m.card.jpeg_resistant for m in self.models)

    def plans(self, kind: str, width: int, height: int, *, bytes_per_pixel: float = 3.0) -> list[Plan]:
        """How `down` or `up` (`kind`) would run a large image of this size, one plan per network in order.

        bytes_per_pixel: what the large image takes. Raises DeviceError where it does not fit into `max_memory`.
        """
        sides = [-(-side // self.scale) * self.scale for side in (width, height)]
        found = []
        for index, net in enumerate(self.networks):
            name = self.models[index].card.name
            given = bytes_per_pixel if not index else 12.0
            found.append(self._plan(net, sides[0], sides[1], rev=kind == "up", name=name, bytes_per_pixel=given))
            sides = [side // net.scale for side in sides]
        return found if kind == "down" else found[::-1]

    def down(self, image: AnyImage, *, depth: int = 8, progress: Progress | None = None) -> AnyImage:
        """HR -> LR, ceil(H / scale) x ceil(W / scale), rounded to the grid of `depth` bits.

        Raises InputError for a kind, shape or dtype that is not an image, or that cannot hold 16 bits (a PIL
        image), DeviceError when memory runs out.
        """
        source = Source(image, self.scale)
        n, height, width = source.samples, source.height, source.width
        sink = Sink(image, n, height // self.scale, width // self.scale, depth)
        report = _Progress(progress, sum(self._works("down", height, width)))
        state: Tensor | None = None
        for net in self.networks:
            last = net is self.networks[-1]
            result = None if last else self._buffer(n, height // net.scale, width // net.scale)
            self._run(net, (n, height, width), False, _reader(source, state, self.device), sink, result, report, image)
            state, height, width = result, height // net.scale, width // net.scale
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
    ) -> AnyImage:
        """LR -> HR, scale times the size, or cropped at the right and bottom to `size` = (width, height).

        temperature: z is drawn from a normal distribution of this standard deviation, by `seed` and the place of
        each coefficient alone; 0 is no noise, and the paper's way is 1. Raises InputError as `down` does, where
        `size` is not one that `down` makes this LR from, and for a negative temperature.
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
        works = self._works("up", height * self.scale, width * self.scale)
        if self.flow is not None:
            works.append(work_of(self.flow, height, width, False))
        report = _Progress(progress, sum(works))
        state: Tensor | None = None
        if self.flow is not None:
            state = self._buffer(n, height, width)
            reader = _reader(source, None, self.device)
            self._run(self.flow, (n, height, width), False, reader, sink, state, report, image)
        for index, net in reversed(list(enumerate(self.networks))):
            last = index == 0
            result = None if last else self._buffer(n, height * net.scale, width * net.scale)
            shape = n, height * net.scale, width * net.scale
            # each network draws from channels of its own
            noise = _Noise(temperature, seed, index << 16, IMAGE_CHANNELS * (net.scale**2 - 1))
            reader = noise.beside(_reader(source, state, self.device))
            self._run(net, shape, True, reader, sink, result, report, image)
            state, height, width = result, shape[1], shape[2]
        return sink.finish()  # type: ignore[no-any-return]

    def _works(self, kind: str, height: int, width: int) -> list[int]:
        works = []
        for net in self.networks:
            works.append(work_of(net, height, width, kind == "up"))
            height, width = height // net.scale, width // net.scale
        return works

    def _buffer(self, samples: int, height: int, width: int) -> Tensor:
        """An image between two networks, on the device, not rounded."""
        try:
            return torch.empty((samples, IMAGE_CHANNELS, height, width), device=self.device)
        except (RuntimeError, MemoryError) as error:
            raise self._out_of_memory(error, "") from error

    def _plan(
        self, net: Network, width: int, height: int, *, rev: bool, name: str = "", bytes_per_pixel: float = 3.0
    ) -> Plan:
        return make_plan(
            net,
            width,
            height,
            rev=rev,
            device=self.device,
            dtype=self.dtype,
            model=name,
            tile=self.tile,
            max_memory=self.max_memory,
            bytes_per_pixel=bytes_per_pixel,
        )

    def _run(
        self,
        net: Network,
        shape: tuple[int, int, int],
        rev: bool,
        reader: Reader,
        sink: Sink,
        result: Tensor | None,
        report: _Progress,
        image: Any,
    ) -> None:
        """One network over an image, into `result`, or rounded into the sink."""
        plan = self._plan(net, shape[2], shape[1], rev=rev, bytes_per_pixel=_bytes_per_pixel(image))
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
                self._prepared[net],
                shape,
                rev=rev,
                tile=plan.tile,
                band=plan.band,
                columns=columns,
                allocate=(lambda size: mapped_file(size, torch.float32)) if mapped else None,
                shrink=shrink,
                warn=lambda text: report.once("finite", text, self._warn),
                progress=report.step,
            )
            sweep.run(lambda first, last: reader(first, last, columns), write)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._out_of_memory(error, "") from error
        report.next()

    def _out_of_memory(self, error: BaseException, where: str) -> DeviceError:
        remedy = "use a smaller --tile" if self.tile else "give a --max-memory that is free"
        other = "" if self.device.type == "cpu" else ", or --device cpu"
        return DeviceError(f"out of memory on {self.device}{where}", remedy + other)


@dataclass(frozen=True)
class _Noise:
    """z for the inverse: zeros, or noise by absolute position, the same in every image of a batch."""

    temperature: float
    seed: int
    channel: int
    channels: int

    def beside(self, reader: Reader) -> Reader:
        """The rows of LR with z after them."""

        def read(first: int, last: int, columns: bool) -> Tensor:
            lr = reader(first, last, columns)
            n, _, h, w = lr.shape
            if not self.temperature:
                return torch.cat((lr, lr.new_zeros(n, self.channels, h, w)), dim=1)
            origin = (0, self.channel, 0, first) if columns else (0, self.channel, first, 0)
            z = philox_normal((1, self.channels, h, w), seed=self.seed, origin=origin, device=lr.device)
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


def _reader(source: Source, state: Tensor | None, device: torch.device) -> Reader:
    """Rows of the given image, or of what the network before made of it."""
    if state is None:
        return lambda first, last, columns: source.read(first, last, columns=columns, device=device)
    return lambda first, last, columns: state.narrow(3 if columns else 2, first, last - first)


def _bytes_per_pixel(image: Any) -> float:
    if isinstance(image, Tensor):
        return 3.0 * image.element_size()
    return 3.0 * (image.itemsize if isinstance(image, np.ndarray) else 1)


def _python_warning(text: str) -> None:
    warnings.warn(text, stacklevel=2)


def load(
    model: int | str = 4,
    *,
    jpeg_resistant: bool = False,
    sr: bool = False,
    device: str = "auto",
    precision: str = "auto",
    tile: int | None = None,
    max_memory: int | str | None = None,
) -> Rescaler:
    """A `Rescaler` for a scale (2, 4, "x4"; 8 and 16 compose two models) or for a model by name or file.

    `sr` is for small images that `down` did not make: a scale, whose super-resolution assistant `up` then uses.
    Raises ModelError, DeviceError or UsageError.
    """
    if isinstance(model, str) and model.removeprefix("x").isdigit():
        model = int(model.removeprefix("x"))
    if sr:
        if not isinstance(model, int) or jpeg_resistant:
            raise UsageError("sr goes with a scale alone, such as load(4, sr=True)")
        assistant, base = find_assistant(model)
        return Rescaler(
            [base], assistant=assistant, device=device, precision=precision, tile=tile, max_memory=max_memory
        )
    chosen = compose(model, jpeg_resistant=jpeg_resistant) if isinstance(model, int) else find_all(model)
    return Rescaler(chosen, device=device, precision=precision, tile=tile, max_memory=max_memory)
