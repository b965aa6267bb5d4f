"""Signals that end a run are collected, so that the step in progress ends and a checkpoint is written."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE = 1.0
"""Seconds in which further signals are taken for the same one: a terminal and a launcher may both send it."""


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collect SIGTERM, SIGINT and SIGHUP in a list instead of dying of them; one more than `PATIENCE` after the first
    raises KeyboardInterrupt. A SIGHUP that is ignored, as nohup does, stays so.

    Outside the main thread none arrive.
    """
    received: list[int] = []
    first = 0.0

    def on_signal(number: int, _: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if not received:
            first = now
        received.append(number)
        if now - first > PATIENCE:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = [signal.SIGTERM, signal.SIGINT]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
