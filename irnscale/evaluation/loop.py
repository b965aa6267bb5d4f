"""The generic test loop (McGuinness, algorithm 3): any method, any metric, any set; results kept for the next time."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import fmean

import torch

from irnscale.errors import InputError, IrnscaleError
from irnscale.evaluation.methods import Codec, Method
from irnscale.evaluation.pictures import Photograph, files_of, load
from irnscale.images.bicubic import bicubic_down
from irnscale.metrics import psnr, ssim

PROTOCOL = 1
"""Changes when the same inputs would be measured otherwise, so that no old result is taken for a new one."""


@dataclass(frozen=True)
class Row:
    """One photograph, one method. HR against the original, LR against the rounded bicubic one.

    PSNR in dB; `bytes` of the stored small picture; `seconds` for both directions.
    """

    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    ssim_rgb: float
    lr_psnr_y: float
    lr_ssim_y: float
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Summary:
    """A method on a set: the mean, least and greatest of each field of its rows."""

    set: str
    method: str
    codec: str
    scale: int
    images: int
    mean: dict[str, float]
    min: dict[str, float]
    max: dict[str, float]
    rows: dict[str, Row]


def measure(method: Method, photograph: Photograph, codec: Codec, *, rounded_luma: bool = False) -> Row:
    """Shrink, store, restore and compare one photograph (protocol: `irnscale.metrics`)."""
    hr, scale = photograph.pixels, method.scale
    started = time.perf_counter()
    small, size = codec.store(method.shrink(hr))
    restored = method.restore(small)
    seconds = time.perf_counter() - started
    reference = bicubic_down(hr, scale)

    def ratio(a: torch.Tensor, b: torch.Tensor, crop: int, y: bool) -> float:
        value = psnr(a, b, crop=crop, y_channel=y, rounded=rounded_luma).item()
        return min(value, 100.0)  # equal pictures: as the field's tables do

    def similarity(a: torch.Tensor, b: torch.Tensor, crop: int, y: bool) -> float:
        try:
            return ssim(a, b, crop=crop, y_channel=y, rounded=rounded_luma).item()
        except ValueError:  # too small for its window
            return math.nan

    return Row(
        psnr_y=ratio(restored, hr, scale, True),
        ssim_y=similarity(restored, hr, scale, True),
        psnr_rgb=ratio(restored, hr, scale, False),
        ssim_rgb=similarity(restored, hr, scale, False),
        lr_psnr_y=ratio(small, reference, 0, True),
        lr_ssim_y=similarity(small, reference, 0, True),
        bytes=size,
        seconds=seconds,
    )


class Cache:
    """Rows on disk, by all they depend on, so that a second run measures only what is new.

    A file of JSON lines; one that was cut off or damaged costs the lines concerned. `path` None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, Row] = {}
        self._cut = False
        names = {field.name for field in fields(Row)}
        if path is None or not path.is_file():
            return
        text = path.read_text(encoding="utf-8", errors="replace")
        self._cut = bool(text) and not text.endswith("\n")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                if set(entry["row"]) == names:
                    self._rows[entry["key"]] = Row(**entry["row"])
            except (ValueError, KeyError, TypeError):
                continue

    @staticmethod
    def key(method: Method, photograph: Photograph, codec: Codec, rounded_luma: bool) -> str:
        """What identifies a row."""
        parts = (PROTOCOL, method.identity, method.scale, codec.name, photograph.digest, rounded_luma)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def get(self, key: str) -> Row | None:
        """A row measured earlier."""
        return self._rows.get(key)

    def put(self, key: str, row: Row) -> None:
        """Keep a row, at once: an interrupted run loses nothing that it has measured."""
        self._rows[key] = row
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("\n" * self._cut + json.dumps({"key": key, "row": asdict(row)}) + "\n")
            self._cut = False


def evaluate(
    folder: Path,
    methods: Sequence[Method],
    codecs: Sequence[Codec],
    *,
    cache: Cache,
    limit: int | None = None,
    rounded_luma: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    skipped: Callable[[IrnscaleError], None] = lambda _: None,
) -> list[Summary]:
    """Every method with every codec on the photographs of `folder`.

    A photograph that cannot be read is handed to `skipped` and left out of every mean. Raises InputError where
    none is left.
    """
    found: dict[tuple[int, int], dict[str, Row]] = {}
    for path in files_of(folder)[:limit]:
        for scale in sorted({method.scale for method in methods}):
            try:
                photograph = load(path, scale)
            except InputError as error:
                skipped(error)
                break
            for m, method in enumerate(methods):
                if method.scale != scale:
                    continue
                for c, codec in enumerate(codecs):
                    progress(f"{folder.name} {path.name} {method.name} {codec.name}")
                    key = cache.key(method, photograph, codec, rounded_luma)
                    row = cache.get(key)
                    if row is None:
                        row = measure(method, photograph, codec, rounded_luma=rounded_luma)
                        cache.put(key, row)
                    found.setdefault((m, c), {})[path.name] = row
    if not found:
        raise InputError(f"{folder}: no photograph of it can be read", "see the messages above")
    return [
        _summary(folder.name, methods[m], codecs[c], rows) for (m, c), rows in sorted(found.items(), key=lambda e: e[0])
    ]


def _summary(name: str, method: Method, codec: Codec, rows: dict[str, Row]) -> Summary:
    values = {field.name: [float(getattr(row, field.name)) for row in rows.values()] for field in fields(Row)}

    def each(reduce: Callable[[Iterable[float]], float]) -> dict[str, float]:
        return {key: reduce(column) for key, column in values.items()}

    return Summary(name, method.name, codec.name, method.scale, len(rows), each(fmean), each(min), each(max), rows)
