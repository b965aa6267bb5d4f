"""Workers that only pretend, and die. A module of its own, for each process that has one imports it: without torch."""

from __future__ import annotations

import os
import signal
from typing import Any

from irnscale.batch import Outcome, Status
from irnscale.jobs.backends.worker import Assignment


def dies_of_1(connection: Any, assignment: Assignment, fail_fast: bool) -> None:
    """Writes a letter for each picture, but for 1.png."""
    connection.send("ready")
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        if job.item.source.name == "1.png":
            os.kill(os.getpid(), signal.SIGKILL)
        target = job.path(2)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"x")
        connection.send(Outcome(job, Status.DONE, target=target, scale=2))


def stillborn(*_: object) -> None:
    """Ends before it begins."""
    os._exit(3)
