"""What became of each input: lines for people, objects for programs, and the exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from irnscale.batch.jobs import Job
from irnscale.batch.lists import STREAM
from irnscale.errors import ExitCode, IrnscaleError, OutputError, UsageError, on_command_line
from irnscale.images.atomic import check_writable, write_bytes_atomic
from irnscale.jsontext import parsed


class Status(StrEnum):
    """What became of an input, as `--json` says it."""

    DONE = "done"
    SKIPPED = "skipped"
    PLANNED = "planned"  # would be done, in a dry run
    FAILED = "failed"
    NOT_STARTED = "not started"  # an earlier failure, or an interruption, ended the run


@dataclass
class Outcome:
    """What became of a job. Sizes are (width, height); `seconds` is the time in the network and around it.

    facts: further keys of `event`. notes: what is said of the input. notes_once: the like, of which one input in a run
    is enough; `Report` moves them.
    """

    job: Job
    status: Status = Status.NOT_STARTED
    target: Path | None = None
    error: IrnscaleError | None = None
    reason: str | None = None
    fatal: bool = False
    notes: list[str] = field(default_factory=list)
    notes_once: list[str] = field(default_factory=list)
    size: tuple[int, int] | None = None
    new_size: tuple[int, int] | None = None
    scale: int | None = None
    model: str | None = None
    seconds: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """One line for people: "a.png -> b.png  640x480 -> 160x120  0.31 s", or why it was skipped."""
        if self.status is Status.SKIPPED:
            return f"{self.job.label}: skipped, {self.reason}"
        arrow = "would become" if self.status is Status.PLANNED else "->"
        sizes = " -> ".join(f"{w}x{h}" for w, h in (self.size, self.new_size) if w and h) if self.size else ""  # type: ignore[misc]
        time = "" if self.seconds is None else f"  {self.seconds:.2f} s"
        return f"{self.job.label} {arrow} {self.target or 'stdout'}  {sizes}{time}"

    def event(self) -> dict[str, Any]:
        """The object of `--json`; keys without a value are left out."""
        found = {
            "input": self.job.label,
            "status": self.status.value,
            "output": None if self.target is None else str(self.target),
            "reason": self.reason,
            "error": None if self.error is None else self.error.on_command_line[0],
            "remedy": self.error.on_command_line[1] or None if self.error else None,
            "code": None if self.error is None else int(self.error.exit_code),
            "width": self.size and self.size[0],
            "height": self.size and self.size[1],
            "output_width": self.new_size and self.new_size[0],
            "output_height": self.new_size and self.new_size[1],
            "scale": self.scale,
            "model": self.model,
            **self.facts,
            "seconds": None if self.seconds is None else round(self.seconds, 3),
            "warnings": list(dict.fromkeys(map(on_command_line, self.notes))) or None,
        }
        return {key: value for key, value in found.items() if value is not None}


def exit_code(outcomes: Iterable[Outcome]) -> int:
    """0, or the class of the failures where all are of one class, else 1."""
    classes = {outcome.error.exit_code for outcome in outcomes if outcome.error}
    if not classes:
        return ExitCode.OK
    return classes.pop() if len(classes) == 1 else ExitCode.INPUT


class Report:
    """Collects outcomes; `lines` are the objects of `--json` and `--report`, the summary last."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.outcomes: list[Outcome] = []
        self._noted: set[str] = set()
        self._input: tuple[str, set[str]] = ("", set())

    def add(self, outcome: Outcome) -> None:
        """A job has ended. Of its `notes_once` those that are new in this run become notes; what was said of the same
        input for another sample just before is not said again.
        """
        outcome.notes[:0] = [note for note in outcome.notes_once if note not in self._noted]
        self._noted.update(outcome.notes_once)
        if outcome.job.sample == 1 or outcome.job.label != self._input[0]:
            self._input = (outcome.job.label, set())
        outcome.notes = [note for note in outcome.notes if note not in self._input[1]]
        self._input[1].update(outcome.notes)
        self.outcomes.append(outcome)

    def count(self, status: Status) -> int:
        """How many inputs have this status so far."""
        return sum(outcome.status is status for outcome in self.outcomes)

    @property
    def code(self) -> int:
        """The exit code of what has ended so far."""
        return exit_code(self.outcomes)

    @property
    def summary(self) -> str:
        """One line: how many of how many are done, and what happened to the rest."""
        done = f"{self.count(Status.DONE)} of {self.jobs} done"
        if planned := self.count(Status.PLANNED):
            done = f"{planned} of {self.jobs} would be done"
        rest = [f"{n} {s.value}" for s in (Status.SKIPPED, Status.FAILED, Status.NOT_STARTED) if (n := self._total(s))]
        return ", ".join([done, *rest])

    def summary_event(self, seconds: float, *, interrupted: bool = False) -> dict[str, Any]:
        """The last object of `--json`."""
        counts = {status.value.replace(" ", "_"): self._total(status) for status in Status}
        code = ExitCode.INTERRUPTED if interrupted else self.code
        return {"summary": True, "inputs": self.jobs, **counts, "code": int(code), "seconds": round(seconds, 3)}

    def _total(self, status: Status) -> int:
        missing = self.jobs - len(self.outcomes) if status is Status.NOT_STARTED else 0
        return self.count(status) + missing

    def write(self, path: Path, seconds: float, *, interrupted: bool = False) -> None:
        """The same objects as `--json` to a file. Raises OutputError."""
        events = [*(o.event() for o in self.outcomes), self.summary_event(seconds, interrupted=interrupted)]
        data = "".join(json.dumps(event) + "\n" for event in events).encode()
        write_bytes_atomic(data, path, overwrite=True)


def check_report_path(path: Path, inputs: Iterable[Path]) -> None:
    """Raise OutputError unless a report may go there: to a new file, or over an earlier report.

    Raises UsageError for stdout.
    """
    if str(path) == STREAM:
        raise UsageError("report=- is no file", "name one, or use `json` for stdout", parameters=("report", "json"))
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder", "create it first")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder", "give a file name with `report`", parameters=("report",))
    if not path.exists():
        check_writable(path)
        return
    if not path.is_file():
        raise OutputError(f"{path}: is a device or a pipe", "give a file name with `report`", parameters=("report",))
    try:
        with path.open("rb") as file:
            first = parsed(file.readline(1 << 20) or b"{}")
        known = isinstance(first, dict) and (not first or "status" in first or "summary" in first)
    except (OSError, ValueError):
        known = False
    if not known or any(os.path.realpath(path) == os.path.realpath(source) for source in inputs):
        what = f"{path}: exists and is no report of irnscale"
        raise OutputError(what, "choose another name with `report`", parameters=("report",))
    check_writable(path, overwrite=True)
