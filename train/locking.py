"""One training in a folder at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from irnscale.errors import UsageError

fcntl: Any = None  # Windows has none: there nobody is kept out
with contextlib.suppress(ImportError):
    fcntl = import_module("fcntl")

LOCK = ".lock"


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Inside, the folder `out`, made where it is missing, is this process's to train in, by the file `LOCK` there.

    The system unlocks it however the process ends. Afterwards the file stays beside what was written, and goes with
    the folder where nothing was. Raises UsageError where another process has it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = (out / LOCK).open("ab")
    except OSError:  # what is written first says so
        yield
        return
    with file:
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            hint = "wait for its end, or choose another `out`"
            raise UsageError(f"{out}: another training is writing there", hint, parameters=("out",)) from error
        except OSError:  # some network file systems lock nothing
            pass
        try:
            yield
        finally:
            if [path.name for path in out.glob("*")] == [LOCK]:
                (out / LOCK).unlink()
                out.rmdir()
