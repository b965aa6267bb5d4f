"""What `--debug` shows beside tracebacks: the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from irnscale.errors import one_line


class _OneLine(logging.Formatter):
    """Each message on a line of its own, whatever the names of files hold."""

    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


@contextmanager
def log_on_stderr() -> Iterator[None]:
    """Inside, all that the logger `irnscale` is told is written to stderr: the module, and what it says."""
    log, handler = logging.getLogger("irnscale"), logging.StreamHandler()
    handler.setFormatter(_OneLine("%(name)s: %(message)s"))
    before = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
