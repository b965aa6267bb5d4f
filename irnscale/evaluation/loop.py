"""The generic test loop (McGuinness, algorithm 3): any method, any codec, any set; results kept for the next time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from irnscale.errors import InputError, IrnscaleError
from irnscale.evaluation.cache import Cache
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.methods import Method, Rescale
from irnscale.evaluation.pictures import Photograph, files_of, load
from irnscale.evaluation.ruler import FIELDS, Row, Ruler, Shrunk, measure, shrink


@dataclass(frozen=True)
class Summary:
    """A method with a codec on a set: the mean, least and greatest of each field of its rows.

    A row is the mean over draws where the method has several. `spread` is then the standard deviation over
    the draws of the set's mean, by field; empty for methods that are not random.
    """

    set: str
    method: Method
    codec: Codec
    images: int
    mean: dict[str, float]
    min: dict[str, float]
    max: dict[str, float]
    spread: dict[str, float]
    rows: dict[str, Row]

    @property
    def scale(self) -> int:
        """That of the method."""
        return self.method.scale

    @property
    def stored(self) -> str:
        """How small pictures are stored, as tables show it."""
        return self.method.stored or self.codec.name


@dataclass
class Watch:
    """What the loop tells while it runs."""

    begin: Callable[[str, int], None] = lambda name, steps: None
    step: Callable[[str], None] = lambda text: None
    skipped: Callable[[IrnscaleError], None] = lambda error: None


@dataclass
class _Work:
    """One photograph's measurements; small pictures are shared by the methods and codecs that start from them."""

    photograph: Photograph
    ruler: Ruler
    cache: Cache
    _shrunk: dict[Rescale, Shrunk] = field(default_factory=dict)

    def row(self, method: Method, codec: Codec, draw: int) -> Row:
        key = self.cache.key(method, self.photograph, codec, self.ruler, draw)
        row = self.cache.get(key)
        if row is None:
            if method.travel is None and method.shrink not in self._shrunk:
                self._shrunk[method.shrink] = shrink(method.shrink, self.photograph)
            small = self._shrunk.get(method.shrink)
            if small is not None and codec.lossless and codec != Codec():
                row = self._as_png(method, codec, small, draw)
            else:
                row = measure(method, self.photograph, codec, self.ruler, shrunk=small, draw=draw)
            self.cache.put(key, row)
        return row

    def _as_png(self, method: Method, codec: Codec, small: Shrunk, draw: int) -> Row:
        """Another lossless codec changes the bytes alone."""
        size = codec.store(small.pixels)[1]
        height, width = self.photograph.pixels.shape[2:]
        return replace(self.row(method, Codec(), draw), bytes=size, bpp=8 * size / (height * width))


def evaluate(folder: Path, methods: Sequence[Method], codecs: Sequence[Codec], **options: Any) -> list[Summary]:
    """Every method with every codec on the photographs of a folder; options as for `evaluate_files`."""
    return evaluate_files(folder.name, files_of(folder), methods, codecs, **options)


def evaluate_files(
    name: str,
    paths: Sequence[Path],
    methods: Sequence[Method],
    codecs: Sequence[Codec],
    *,
    cache: Cache,
    ruler: Ruler | None = None,
    limit: int | None = None,
    multiple: int | None = None,
    watch: Watch | None = None,
) -> list[Summary]:
    """Every method with every codec on the first `limit` photographs of a set that is called `name`.

    Photographs are cropped to multiples of the scale, and of `multiple` where it is given. One that cannot be
    read is handed to `watch.skipped` and left out of every mean, whatever the scale that it cannot be read for.
    Raises InputError where none is left.
    """
    ruler, watch = ruler or Ruler(), watch or Watch()
    # what a codec would only blur, or what has one of its own
    bare = {method for method in methods if method.unrounded or method.compared or method.travel}
    pairs = [(method, codec) for method in methods for codec in codecs if method not in bare or codec == Codec()]
    paths = paths[:limit]
    distinct = len({path.name for path in paths}) == len(paths)
    watch.begin(name, len(paths) * sum(method.draws for method, _ in pairs))
    found: list[dict[str, list[Row]]] = [{} for _ in pairs]
    for path in paths:
        try:
            photographs = {
                scale: load(path, math.lcm(scale, multiple or 1)) for scale in {method.scale for method in methods}
            }
        except InputError as error:
            watch.skipped(error)
            continue
        works = {scale: _Work(photograph, ruler, cache) for scale, photograph in photographs.items()}
        for place, (method, codec) in enumerate(pairs):
            rows = found[place].setdefault(path.name if distinct else str(path), [])
            for draw in range(method.draws):
                watch.step(f"{path.name} {method.name} {codec.name}")
                rows.append(works[method.scale].row(method, codec, draw))
    if not any(found):
        raise InputError(f"{name}: no photograph of it can be read", "see the messages above")
    return [_summary(name, *pair, rows) for pair, rows in zip(pairs, found, strict=True)]


def _summary(name: str, method: Method, codec: Codec, drawn: dict[str, list[Row]]) -> Summary:
    rows = {photograph: _mean_row(several) for photograph, several in drawn.items()}

    def each(reduce: Callable[[Iterable[float]], float]) -> dict[str, float]:
        return {key: _reduced(reduce, [getattr(row, key) for row in rows.values()]) for key in FIELDS}

    spread = {}
    if method.draws > 1:
        for key in FIELDS:
            means = [fmean(getattr(several[k], key) for several in drawn.values()) for k in range(method.draws)]
            spread[key] = _reduced(stdev, means)
    return Summary(name, method, codec, len(rows), each(fmean), each(min), each(max), spread, rows)


def _mean_row(rows: Sequence[Row]) -> Row:
    return (
        rows[0]
        if len(rows) == 1
        else Row(**{key: _reduced(fmean, [getattr(row, key) for row in rows]) for key in FIELDS})
    )


def _reduced(reduce: Callable[[Iterable[float]], float], values: Sequence[float]) -> float:
    """NaN where any of them is."""
    return math.nan if any(map(math.isnan, values)) else reduce(values)
