"""Finding and decoding the photographs of folders and archives."""

from __future__ import annotations

import io
import struct
import tarfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from irnscale.errors import InputError
from irnscale.images.opening import quiet_libtiff

PACK_SUFFIX = ".pack"
SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"}
# What Pillow raises on damaged files.
UNREADABLE = (OSError, ValueError, SyntaxError, IndexError, struct.error, Image.DecompressionBombError)


def image_files(sources: list[Path]) -> Iterator[tuple[str, bytes | Path]]:
    """(name, file) of every image in folders (recursively), .tar archives and single files, sorted.

    Raises InputError for what does not exist or is no archive.
    """
    for source in sources:
        if source.suffix.lower() == ".tar" and source.is_file():
            try:
                with tarfile.open(source) as archive:
                    for member in sorted(archive.getmembers(), key=lambda m: m.name):
                        if member.isfile() and Path(member.name).suffix.lower() in SUFFIXES:
                            stream = archive.extractfile(member)
                            assert stream is not None
                            yield f"{source.name}/{member.name}", stream.read()
            except Exception as error:  # a damaged archive makes tarfile and what decompresses it raise anything
                raise InputError(f"{source}: cannot be read as a .tar archive: {error}", "pack it again") from error
        elif source.is_dir():
            for path in sorted(source.rglob("*")):
                if path.suffix.lower() == ".tar" and path.is_file():
                    yield from image_files([path])
                elif path.suffix.lower() in SUFFIXES and path.is_file():
                    yield str(path), path
        elif source.is_file():
            yield str(source), source
        else:
            raise InputError(f"{source}: no such file or folder", "give a folder or .tar of photographs")


def decode(item: tuple[str, bytes | Path]) -> Tensor | str:
    """(3, H, W) uint8, or one line that says why the image cannot be read."""
    name, file = item
    try:
        with quiet_libtiff(), Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            if image.mode.startswith(("I", "F")):  # Pillow would clip them at 255
                return f"{name}: more than 8 bits per channel"
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
    except UnidentifiedImageError:
        return f"{name}: not an image"
    except UNREADABLE as error:
        return f"{name}: {error}"


def decoded(sources: list[Path], workers: int = 4) -> Iterator[tuple[str, Tensor | str]]:
    """(name, `decode`'s result) of every image, in order, a few of them ahead of the caller."""
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[tuple[str, Future[Tensor | str]]] = deque()
        for item in image_files(sources):
            ahead.append((item[0], pool.submit(decode, item)))
            if len(ahead) > 2 * workers:
                name, future = ahead.popleft()
                yield name, future.result()
        for name, future in ahead:
            yield name, future.result()
