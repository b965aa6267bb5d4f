"""Scores of a set as a whole, which no photograph has: measured while the loop goes over the set, and kept apart."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from irnscale.evaluation.cache import Cache
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.methods import Method, full_size
from irnscale.metrics import as_8bit
from irnscale.metrics.scores import OfSet, Score
from irnscale.metrics.sets import Estimate

Look = Callable[[Tensor], Tensor]


class SetScores:
    """Those of `scores` that are of sets, for the pictures in these files, cropped to this `multiple`.

    What they keep of each picture is in memory until the set has been gone through; only the results are cached.
    """

    def __init__(self, scores: Sequence[Score], cache: Cache, paths: Sequence[Path], multiple: int) -> None:
        self._scores = [(score, score.of_set) for score in scores if score.of_set is not None]
        self._cache, self._multiple = cache, multiple
        self._digests = tuple(_digest(path) for path in paths) if self._scores else ()
        self._restored: dict[tuple[Method, Codec, int, Look], list[Tensor]] = {}
        self._originals: dict[tuple[int, Look], dict[Path, Tensor]] = {}

    def lack(self, method: Method, codec: Codec) -> bool:
        """Whether pictures must be seen for a method with a codec."""
        keys = [self._key(method, codec, draw) for draw in range(method.draws)]
        keys.append(self._key_of_halves(method.scale))
        return any(self._cache.estimate(key, score) is None for score, _ in self._scores for key in keys)

    def see(self, method: Method, codec: Codec, path: Path, original: Tensor, restored: Sequence[Tensor]) -> None:
        """Take what was restored of the photograph in a file: (1, 3, H, W) in [0, 1] of each draw."""
        for look in {of_set.look for _, of_set in self._scores}:
            originals = self._originals.setdefault((method.scale, look), {})
            if path not in originals:
                originals[path] = look(original)
            for draw, pixels in enumerate(restored):
                found = self._restored.setdefault((method, codec, draw, look), [])
                found.append(look(as_8bit(pixels.cpu()).float() / 255))

    def estimates(self, method: Method, codec: Codec) -> dict[str, list[Estimate]]:
        """By the scores' keys: an estimate per draw."""
        return {
            score.key: [self._estimate(score, of_set, method, codec, draw) for draw in range(method.draws)]
            for score, of_set in self._scores
        }

    def halves(self, scale: int) -> dict[str, Estimate]:
        """By the scores' keys: of one random half of the original pictures' parts against the other."""
        found = {}
        for score, of_set in self._scores:
            key = self._key_of_halves(scale)
            if (known := self._cache.estimate(key, score)) is None:
                parts = self._parts(scale, of_set)
                parts = parts[torch.randperm(len(parts), generator=torch.Generator().manual_seed(0))]
                one, other = parts[::2], parts[1::2]
                known = of_set.compare(one, other)
                self._cache.put_estimate(key, score, known)
            found[score.key] = known
        return found

    def _estimate(self, score: Score, of_set: OfSet, method: Method, codec: Codec, draw: int) -> Estimate:
        key = self._key(method, codec, draw)
        if (known := self._cache.estimate(key, score)) is None:
            restored = torch.cat(self._restored[method, codec, draw, of_set.look])
            known = of_set.compare(restored, self._parts(method.scale, of_set))
            self._cache.put_estimate(key, score, known)
        return known

    def _parts(self, scale: int, of_set: OfSet) -> Tensor:
        return torch.cat(list(self._originals[scale, of_set.look].values()))

    def _key(self, method: Method, codec: Codec, draw: int) -> str:
        plain = codec if method.travel is not None or not codec.lossless else Codec()
        return self._cache.key_of_set(method, self._digests, self._crop(method.scale), plain, draw)

    def _key_of_halves(self, scale: int) -> str:
        method = replace(full_size(), scale=scale, identity="halves 1")
        return self._cache.key_of_set(method, self._digests, self._crop(scale), Codec())

    def _crop(self, scale: int) -> int:
        return math.lcm(scale, self._multiple)


def _digest(path: Path) -> str:
    """The sha256 of a file; empty where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
