"""Many photographs as one file of bytes with an index: opened in no time, mapped into memory, never decoded again.

`NAME.pack` holds the pixels, photograph after photograph, each as (3, height, width) uint8 in C order;
`NAME.pack.json` says where each begins. The index is written last: a pack without one is unfinished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from irnscale.errors import InputError, ModelError, OutputError, UsageError
from irnscale.images.atomic import write_bytes_atomic
from irnscale.jsontext import parsed
from irnscale.train.photos import PACK_SUFFIX, decoded

VERSION = 1


@dataclass(frozen=True)
class Index:
    """Where each photograph begins and its size, all (N,); `skipped` were too small to be taken."""

    names: list[str]
    offset: NDArray[np.int64]
    height: NDArray[np.int64]
    width: NDArray[np.int64]
    skipped: int = 0

    @classmethod
    def of(cls, names: list[str], sizes: list[tuple[int, int]], skipped: int = 0) -> Index:
        """Of photographs of (height, width) that follow each other."""
        height, width = np.array(sizes, dtype=np.int64).reshape(-1, 2).T
        ends = np.cumsum(3 * height * width)
        return cls(names, ends - 3 * height * width, height, width, skipped)

    @property
    def bytes(self) -> int:
        """How long the file of pixels is."""
        return int((3 * self.height * self.width).sum())


def collect(sources: list[Path], unreadable: list[str], *, minimum: int, limit: int) -> tuple[Tensor, Index]:
    """All photographs of at least `minimum` pixels a side in one flat tensor; what cannot be read is listed.

    Raises UsageError where they take more than `limit` bytes.
    """
    pixels: list[Tensor] = []
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    used = skipped = 0
    for name, image in _readable(sources, unreadable):
        if min(image.shape[1:]) < minimum:
            skipped += 1
            continue
        if (used := used + image.numel()) > limit:
            raise UsageError(
                f"the photographs in {', '.join(map(str, sources))} take more than {limit >> 20} MiB, half the memory",
                "`irnscale train pack` them and give `data` the pack",
                parameters=("data",),
            )
        names.append(name)
        sizes.append((image.shape[1], image.shape[2]))
        pixels.append(image.flatten())
    return torch.cat(pixels) if pixels else torch.empty(0, dtype=torch.uint8), Index.of(names, sizes, skipped)


def write_pack(
    sources: list[Path], target: Path, *, minimum: int = 1, overwrite: bool = False
) -> tuple[Index, list[str]]:
    """Pack the photographs of folders and archives that have at least `minimum` pixels a side.

    Returns the index and a line for each unreadable one. Raises InputError where nothing is left,
    OutputError where the target exists or cannot be written; then nothing of it stays behind.
    """
    if target.suffix != PACK_SUFFIX:
        raise UsageError(f"{target}: a pack is named *{PACK_SUFFIX}")
    if target.exists() and not overwrite:
        hint = "choose another name or add `overwrite`"
        raise OutputError(f"{target}: exists already", hint, parameters=("overwrite",))
    unreadable: list[str] = []
    names: list[str] = []
    sizes: list[tuple[int, int]] = []
    skipped = 0
    partial = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            for name, image in _readable(sources, unreadable):
                if min(image.shape[1:]) < minimum:
                    skipped += 1
                    continue
                file.write(image.numpy().data)
                names.append(name)
                sizes.append((image.shape[1], image.shape[2]))
            file.flush()
            os.fsync(file.fileno())
        if not names:
            raise InputError(
                f"no photographs of at least {minimum} x {minimum} pixels in {', '.join(map(str, sources))}",
                f"{skipped} too small, {len(unreadable)} unreadable",
            )
        index = Index.of(names, sizes, skipped)
        index_file = _index_file(target)
        index_file.unlink(missing_ok=True)
        partial.replace(target)
        content: dict[str, Any] = {"version": VERSION, "bytes": index.bytes, "skipped": skipped, "photographs": []}
        content["photographs"] = [[name, *size] for name, size in zip(names, sizes, strict=True)]
        write_bytes_atomic(json.dumps(content).encode(), index_file, overwrite=True)
    except OSError as error:
        raise OutputError(f"{target}: could not be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return index, unreadable


def load_pack(path: Path) -> tuple[Tensor, Index]:
    """The pixels, mapped into memory, and the index.

    Raises InputError where it is missing, ModelError where it is damaged.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such pack", "make it with `irnscale train pack`")
    try:
        content = parsed(_index_file(path).read_text(encoding="utf-8"))
        if content["version"] != VERSION:
            raise ModelError(f"{path}: a pack of version {content['version']}, not {VERSION}", "pack again")
        names = [str(name) for name, _, _ in content["photographs"]]
        sizes = [(int(height), int(width)) for _, height, width in content["photographs"]]
        index = Index.of(names, sizes, int(content["skipped"]))
    except FileNotFoundError as error:
        raise ModelError(f"{path}: its index {_index_file(path).name} is missing", "pack again") from error
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise ModelError(f"{_index_file(path)}: unreadable: {error}", "pack again") from error
    if path.stat().st_size != index.bytes or content["bytes"] != index.bytes or not names:
        raise ModelError(f"{path}: does not fit its index", "pack again")
    return torch.from_file(str(path), shared=False, size=index.bytes, dtype=torch.uint8), index


def _index_file(path: Path) -> Path:
    return path.with_name(path.name + ".json")


def _readable(sources: list[Path], unreadable: list[str]) -> Iterator[tuple[str, Tensor]]:
    for name, image in decoded(sources):
        if isinstance(image, str):
            unreadable.append(image)
        else:
            yield name, image
