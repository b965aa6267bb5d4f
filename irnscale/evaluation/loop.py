"""The generic test loop (McGuinness, algorithm 3): any method, any codec, any set; results kept for the next time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from torch import Tensor

from irnscale.errors import InputError, IrnscaleError
from irnscale.evaluation.cache import Cache
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.methods import Method, Rescale
from irnscale.evaluation.pictures import Photograph, files_of, load, set_name
from irnscale.evaluation.ruler import Row, Ruler, Shrunk, make, shrink
from irnscale.evaluation.ruler import score as score_of
from irnscale.evaluation.sets import SetScores
from irnscale.metrics.sets import Estimate


@dataclass(frozen=True)
class Summary:
    """A method with a codec on a set: the mean, least and greatest of each field of its rows.

    A row is the mean over draws where the method has several. `spread` is then the standard deviation over
    the draws of the set's mean, by field; empty for methods that are not random. Scores of the set as a whole are
    in `mean` and `spread` alone; `deviation` has how uncertain they are, and `halves` what two random halves of the
    photographs themselves read: the floor.
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
    deviation: dict[str, float] = field(default_factory=dict)
    halves: dict[str, Estimate] = field(default_factory=dict)

    @property
    def scale(self) -> int:
        """Side of the large picture over side of the small one, of the method."""
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

    def rows(self, method: Method, codec: Codec, *, restored: list[Tensor] | None = None) -> list[Row]:
        """A row per draw: fields, and the scores that the ruler asks for. Those of all draws stand in each.

        What was restored is added to `restored` where it is given, and is then made though all is known.
        """
        keys = [self.cache.key(method, self.photograph, codec, self.ruler, draw) for draw in range(method.draws)]
        together = [score for score in self.ruler.scores if score.of_draws is not None]
        unknown = [score for score in together if self.cache.score(keys[0], score) is None]
        several = unknown and method.draws > 1
        drawn: list[Tensor] = [] if restored is None else restored
        wanted = drawn if several or restored is not None else None
        rows = []
        for draw, key in enumerate(keys):
            self._complete(method, codec, draw, key, wanted)
            rows.append(self._known(key))
        for score in unknown:
            value = score.of_draws(drawn) if score.of_draws is not None and several else math.nan
            self.cache.put_score(keys[0], score, value)
        shared = {score.key: self.cache.score(keys[0], score) or 0.0 for score in together}
        return [row | shared for row in rows]

    def _known(self, key: str) -> Row:
        row = dict(self.cache.get(key) or {})
        for score in self.ruler.scores:
            value = self.cache.score(key, score)
            if value is not None:
                row[score.key] = value
        return row

    def _complete(self, method: Method, codec: Codec, draw: int, key: str, drawn: list[Tensor] | None) -> None:
        """Measure what the cache lacks, and add what was restored to `drawn` where it is given."""
        lacking = [s for s in self.ruler.scores if s.of is not None and self.cache.score(key, s) is None]
        known = self.cache.get(key) is not None
        if known and not lacking and drawn is None:
            return
        if codec.lossless and codec != Codec() and drawn is None and method.travel is None:
            self._as_png(method, codec, draw, key)
            return
        shrunk = None if method.travel is not None else self._small(method)
        made = make(method, self.photograph, codec, shrunk=shrunk, draw=draw)
        if not known:
            self.cache.put(key, self.ruler.row(self.photograph, made))
        for score in lacking:
            self.cache.put_score(key, score, score_of(score, self.photograph, made))
        if drawn is not None:
            drawn.append(made.restored)

    def _small(self, method: Method) -> Shrunk:
        if method.shrink not in self._shrunk:
            self._shrunk[method.shrink] = shrink(method.shrink, self.photograph)
        return self._shrunk[method.shrink]

    def _as_png(self, method: Method, codec: Codec, draw: int, key: str) -> None:
        """Another lossless codec changes the bytes alone."""
        png = self.cache.key(method, self.photograph, Codec(), self.ruler, draw)
        self._complete(method, Codec(), draw, png, None)
        size = codec.store(self._small(method).pixels)[1]
        height, width = self.photograph.pixels.shape[2:]
        self.cache.put(key, (self.cache.get(png) or {}) | {"bytes": size, "bpp": 8 * size / (height * width)})
        for score in self.ruler.scores:
            value = self.cache.score(png, score)
            if score.of is not None and value is not None:
                self.cache.put_score(key, score, value)


def evaluate(folder: Path, methods: Sequence[Method], codecs: Sequence[Codec], **options: Any) -> list[Summary]:
    """Every method with every codec on the photographs of a folder; options as for `evaluate_files`."""
    return evaluate_files(set_name(folder), files_of(folder), methods, codecs, **options)


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
    watch.begin(name, len(paths) * len(pairs))
    of_sets = SetScores(ruler.scores, cache, paths, multiple or 1)
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
            watch.step(f"{path.name} {method.name} {codec.name}")
            restored: list[Tensor] | None = [] if of_sets.lack(method, codec) else None
            rows += works[method.scale].rows(method, codec, restored=restored)
            if restored is not None:
                of_sets.see(method, codec, path, photographs[method.scale].pixels, restored)
    if not any(found):
        raise InputError(f"{name}: no photograph of it can be read", "see the messages above")
    return [_summary(name, *pair, rows, of_sets) for pair, rows in zip(pairs, found, strict=True)]


def _summary(name: str, method: Method, codec: Codec, drawn: dict[str, list[Row]], of_sets: SetScores) -> Summary:
    rows = {photograph: _mean_row(several) for photograph, several in drawn.items()}
    keys = next(iter(rows.values())).keys()

    def each(reduce: Callable[[Iterable[float]], float]) -> dict[str, float]:
        return {key: _reduced(reduce, [row[key] for row in rows.values()]) for key in keys}

    mean, spread, deviation = each(fmean), {}, {}
    if method.draws > 1:
        for key in keys:
            means = [fmean(several[k][key] for several in drawn.values()) for k in range(method.draws)]
            spread[key] = _reduced(stdev, means)
    for key, estimates in of_sets.estimates(method, codec).items():
        values = [estimate.value for estimate in estimates]
        mean[key] = _reduced(fmean, values)
        deviation[key] = _reduced(fmean, [estimate.deviation for estimate in estimates])
        if method.draws > 1:
            spread[key] = _reduced(stdev, values)
    ends, halves = (each(min), each(max)), of_sets.halves(method.scale)
    return Summary(name, method, codec, len(rows), mean, *ends, spread, rows, deviation, halves)


def _mean_row(rows: Sequence[Row]) -> Row:
    return rows[0] if len(rows) == 1 else {key: _reduced(fmean, [row[key] for row in rows]) for key in rows[0]}


def _reduced(reduce: Callable[[Iterable[float]], float], values: Sequence[float]) -> float:
    """NaN where any of them is."""
    return math.nan if any(map(math.isnan, values)) else reduce(values)
