"""Memory: files mapped into it, what a failure to get some looks like, and how much there is in use."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from irnscale.errors import DeviceError
from irnscale.sizes import format_memory


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is what torch or Python raise where memory is short."""
    # torch has no class of its own for the CPU's allocator
    text = str(error)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and ("DefaultCPUAllocator" in text or "could not create a memory" in text)
    )


def mapped_file(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor of zeros in a temporary file that is mapped into memory, and gone once the tensor is.

    The file has no name from the start, so that nothing is left of it however the process ends. Raises
    DeviceError where the disk is full.
    """
    size = max(1, math.prod(shape)) * dtype.itemsize
    with tempfile.TemporaryFile(prefix="irnscale-") as file:
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a full disk shows here, not as a crash later
            else:
                file.truncate(size)
            mapping = mmap.mmap(file.fileno(), size)
        except OSError as error:
            folder = Path(tempfile.gettempdir())
            what = f"{folder}: no room for a file of {format_memory(size)}: {error.strerror}"
            raise DeviceError(
                what, "raise `max_memory`, or name another folder in TMPDIR", parameters=("max_memory",)
            ) from error
    return torch.frombuffer(mapping, dtype=dtype, count=math.prod(shape)).view(*shape)


KEPT = 64 << 20
LARGEST_KEPT = 16 << 20


def keep_freed_memory() -> bool:
    """Let the C library keep what a tile's temporaries are made of for the next tile. False where it cannot be told.

    glibc by default gives memory of some megabytes back to the system when it is freed, and each page that is
    asked for again is cleared and mapped anew: up to a sixth of the time of a small picture. This keeps up to
    64 MiB, in buffers of up to 16 MiB. It is a setting of the whole process, so it is for programs, not for the
    library, to make.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
    return bool(mallopt(trim_threshold, KEPT)) and bool(mallopt(mmap_threshold, LARGEST_KEPT))


def anonymous_memory(process: int | str = "self") -> int | None:
    """Bytes of a process's memory that no file backs (RssAnon), on Linux; None elsewhere, and once it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return None
    match = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    return int(match[1]) * 1024 if match else None
