"""Work beside other work on a second stream of a CUDA device: weight gradients beside data gradients.

Off unless `IRNSCALE_STREAMS=2`: a prototype gained by it on an H100, this form of it has not been timed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor


def second_stream(x: Tensor) -> torch.cuda.Stream | None:
    """The second stream of the device of `x`; None on a CPU, and where nobody asks for one."""
    return _stream_of(x.device) if x.is_cuda and os.environ.get("IRNSCALE_STREAMS") == "2" else None


@lru_cache(maxsize=16)
def _stream_of(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@contextmanager
def forked(stream: torch.cuda.Stream | None) -> Iterator[None]:
    """What is launched inside runs on `stream` after all that has been launched so far; None: where it is."""
    if stream is None:
        yield
        return
    stream.wait_stream(torch.cuda.current_stream(stream.device))
    with torch.cuda.stream(stream):
        yield


def join(stream: torch.cuda.Stream | None) -> None:
    """What is launched from here on runs after all that is on `stream`, and may free what that has used."""
    if stream is not None:
        torch.cuda.current_stream(stream.device).wait_stream(stream)
