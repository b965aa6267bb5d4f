"""Tiles side by side on a CPU: one thread for each, where otherwise all threads share every operation on one tile.

An operation that is shared ends when its last thread does, and what lies between two of them has one thread. Each
thread has half of a tile in its cache, and reads what the other one made. With a tile of its own none of this is so.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cache
from types import TracebackType
from typing import TypeVar

import torch

from irnscale.logs import logger

_log = logger(__name__)

Result = TypeVar("Result")


def take_one_thread() -> bool:
    """Have the calling thread run torch's operations alone from here on. False where it cannot be told to.

    `torch.set_num_threads` also sets the number that all threads begin with that are started later. OpenMP's number
    belongs to the thread that sets it.
    """
    torch.get_num_threads()  # a thread's own number is set when it is first asked for, which must not come afterwards
    set_number = getattr(ctypes.CDLL(None), "omp_set_num_threads", None) if os.name == "posix" else None
    if set_number is not None:
        set_number(1)
    return torch.get_num_threads() == 1


def threads_of(device: torch.device) -> int:
    """On how many threads tiles can be computed at the same time: on a CPU torch's own number, else 1."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return threads if threads > 1 and _can_be_told() else 1


@cache
def _can_be_told() -> bool:
    """Whether a thread can be told to run operations alone, here and with this torch."""
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(take_one_thread).result()
    if not told:
        _log.info("OpenMP's number of threads cannot be set: tiles are computed one after the other")
    return told


class Workers:
    """`count` threads that run torch's operations alone, each its own. A context: at its end they are gone."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="irnscale-tile", initializer=take_one_thread)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def each(self, calls: Sequence[Callable[[], Result]]) -> Iterator[tuple[int, Result | BaseException]]:
        """(index, result or error) of each call, as they are done, in inference mode."""
        futures = {self._pool.submit(_inferring, call): index for index, call in enumerate(calls)}
        for future in as_completed(futures):
            error = future.exception()
            if error is not None:
                error = error.with_traceback(None)  # whose frames hold the memory
            yield futures[future], future.result() if error is None else error


def _inferring(call: Callable[[], Result]) -> Result:
    with torch.inference_mode():  # which is a thread's own
        return call()
