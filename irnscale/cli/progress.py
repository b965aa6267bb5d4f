"""What a run says while it runs: lines, bars, events, the report."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

from irnscale.batch import Job, Outcome, Report, Status
from irnscale.cli.console import fail
from irnscale.cli.options import Common
from irnscale.errors import OutputError, UsageError, on_command_line, one_line

if TYPE_CHECKING:
    from irnscale.engine.executor import Progress


class Watcher:
    """Tells people on stderr, and programs on stdout or in a file, what became of each input."""

    def __init__(self, common: Common, jobs: Sequence[Job], stdout: int, started: float) -> None:
        self._common, self._stdout, self._started = common, stdout, started
        self._several = len(jobs) > 1
        self.report = Report(len(jobs))
        self._bar: Any = None
        self._megapixels = 0.0
        self._deaf = False

    def __enter__(self) -> Watcher:
        if self._common.progress and self._several:
            from tqdm import tqdm

            self._bar = tqdm(total=self.report.jobs, unit="img", dynamic_ncols=True, file=sys.stderr)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        interrupted = kind is not None
        seconds = time.perf_counter() - self._started
        if self._several and (self.report.code or interrupted):
            self._common.warn(self.report.summary)
        elif self._several:
            self._common.say(self.report.summary)
        try:
            if self._common.json:
                self._event(self.report.summary_event(seconds, interrupted=interrupted))
        finally:
            if self._common.report is not None:
                self.report.write(self._common.report, seconds, interrupted=interrupted)

    def emit(self, outcome: Outcome) -> None:
        """Tell of a job that has ended: its notes, its line or error, its object of --json, and the bar."""
        common = self._common
        self.report.add(outcome)
        with self._beside_the_bar():
            for note in dict.fromkeys(outcome.notes):
                common.warn(f"{outcome.job.label}: {on_command_line(note)}")
            if outcome.error is not None:
                text, label = outcome.error.line, one_line(outcome.job.label)
                if common.debug:
                    traceback.print_exception(outcome.error)
                fail(text if label in text else f"{label}: {text}")
            elif outcome.status is Status.PLANNED and not common.json:
                click.echo(one_line(outcome.line))  # to stdout: the plan is what was asked for
            else:
                common.say(outcome.line)
        if common.json:
            self._event(outcome.event())
        if self._bar is not None:
            width, height = outcome.size or (0, 0)
            self._megapixels += width * height / 1e6 if outcome.status is Status.DONE else 0
            rate = self._megapixels / max(time.perf_counter() - self._started, 1e-3)
            self._bar.set_postfix_str(f"{rate:.2f} MP/s", refresh=False)
            self._bar.update()

    def tiles(self, label: str) -> Progress | None:
        """A bar on stderr for the tiles of a single picture, where stderr is a terminal."""
        if not self._common.progress or self._several:
            return None
        from tqdm import tqdm

        bar = tqdm(desc=label, leave=False, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}")

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.n = done
            bar.refresh()
            if done == total:
                bar.close()

        return update

    def _event(self, event: dict[str, Any]) -> None:
        if self._deaf:
            return
        data = (json.dumps(event) + "\n").encode()
        try:
            while data:
                data = data[os.write(self._stdout, data) :]
        except OSError as error:
            self._deaf = True  # whatever ends the run now has nothing more to tell there
            raise OutputError(f"stdout: could not write: {error.strerror}", "use --report FILE") from error

    def _beside_the_bar(self) -> Any:
        if self._bar is None:
            return nullcontext()
        from tqdm import tqdm

        return tqdm.external_write_mode(file=sys.stderr)


@contextmanager
def guarded_stdout(*, image: bool, events: bool) -> Iterator[int]:
    """The file descriptor for image bytes or events, with all else that writes to stdout sent to stderr.

    Raises UsageError where both would go there, or image bytes to a terminal.
    """
    if not image and not events:
        yield 1
        return
    if image and events:
        raise UsageError("--json writes to stdout, and so does -o -", "give a file or folder with -o")
    if image and os.isatty(1):
        raise UsageError("stdout is a terminal", "name a file with -o, or pipe the output on")
    _flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        yield real
    finally:
        _flush()
        os.dup2(real, 1)
        os.close(real)


def _flush() -> None:
    if sys.stdout is not None:  # Python has none where the caller closed it
        sys.stdout.flush()
