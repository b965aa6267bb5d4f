"""What the commands `down` and `up` do alike: a task becomes jobs, a backend does them, and all are told."""

from __future__ import annotations

import time

from irnscale import batch
from irnscale.cli.options import Common
from irnscale.cli.progress import Watcher, guarded_stdout
from irnscale.jobs import backends
from irnscale.jobs.planning import plan
from irnscale.jobs.task import Task


def execute(common: Common, task: Task) -> int:
    """Read, rescale and write every input. Returns the exit code."""
    started = time.perf_counter()
    backends.check(common.backend, common.workers, common.scheduler)
    planned = plan(task, common.selection, common.tell, shard=common.shard)
    if common.report is not None:
        batch.check_report_path(common.report, (job.item.source for job in planned.jobs if job.item.source))
    to_stdout = planned.to_stdout and not task.settings.dry_run
    with guarded_stdout(image=to_stdout, events=common.json) as stdout:
        watcher = Watcher(common, planned.jobs, stdout, started)
        for folder in planned.empty:
            common.warn(f"{folder}: holds no pictures")
        if planned.passed_over:
            common.say(f"{planned.passed_over} files in folders that are no pictures are passed over")
        if not planned.jobs:
            common.warn("there is nothing to do")
        running = backends.Running(
            common.tell,
            fail_fast=common.fail_fast,
            stdout=stdout,
            tiles=watcher.tiles,
            workers=common.workers,
            scheduler=common.scheduler,
        )
        with watcher:
            backends.run_on(common.backend, planned, running, watcher.emit)
    return watcher.report.code
