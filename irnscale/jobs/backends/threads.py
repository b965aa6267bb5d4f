"""All in this process: threads decode ahead and encode behind, the network runs between them."""

from __future__ import annotations

from collections.abc import Callable

from irnscale import batch as batches
from irnscale.batch import Outcome
from irnscale.jobs.backends import Running
from irnscale.jobs.planning import Batch, targets
from irnscale.jobs.stages import RescalingStages


def run(batch: Batch, running: Running, emit: Callable[[Outcome], None]) -> None:
    """Do all jobs by threads of this process. See `Backend`."""
    guard = targets(batch.task, batch.inputs)
    stages = RescalingStages(batch.task, guard, running.tell, stdout=running.stdout, tiles=running.tiles)
    threads = batch.task.settings.threads
    batches.run(batch.jobs, stages, emit, workers=threads, fail_fast=running.fail_fast)
