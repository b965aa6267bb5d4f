"""The standard streams as a command-line tool needs them: closed ones harmless, stdout never silently cut."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from irnscale.errors import OutputError


class _Stdout(io.FileIO):
    """Says which stream it was that could not be written, and lets what is left in buffers go nowhere.

    Click would take a closed pipe for a silent exit code 1, and the interpreter would fail once more on its way out.
    """

    def write(self, data: Any, /) -> int:
        """Raises OutputError."""
        try:
            return super().write(data)
        except OSError as error:
            remedy = "free some space, or write elsewhere"
            if isinstance(error, BrokenPipeError):
                remedy = "the program that reads it ended first"
            _to_nowhere(self.fileno())
            raise OutputError(f"stdout: could not write: {error.strerror}", remedy) from error


class _Stderr(io.FileIO):
    """Messages that cannot be written are lost; that must not end the work."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def guarded(descriptor: int) -> io.TextIOWrapper:
    """A text stream to `descriptor` whose failures to write are OutputError."""
    old: Any = sys.stdout
    return io.TextIOWrapper(
        io.BufferedWriter(_Stdout(descriptor, "w", closefd=False)),
        encoding=getattr(old, "encoding", None) or "utf-8",
        errors=getattr(old, "errors", None) or "strict",
        line_buffering=os.isatty(descriptor),
    )


def open_standard_streams() -> None:
    """Take the numbers 0 to 2 of streams that the caller closed, lest a picture be opened under one of them.

    What is closed stays so: reading gives nothing, writing to stdout fails, messages are lost.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # gets the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stdout is not None:
        sys.stdout.flush()
    sys.stdout = guarded(1)
    sys.stderr = io.TextIOWrapper(
        io.BufferedWriter(_Stderr(2, "w", closefd=False)),
        encoding=getattr(sys.stderr, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=True,
    )


def _to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
