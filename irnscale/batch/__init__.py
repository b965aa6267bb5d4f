"""Many files: what is read, what is written where, in which order, and what happens when one of them fails.

One file is a batch of one. Nothing here knows the network, and importing it does not import torch.
"""

from __future__ import annotations

from irnscale.batch.inputs import Item, Selection, collect, parse_shard, read_source
from irnscale.batch.jobs import Inputs, Job, Naming, Targets, plan, samples_of
from irnscale.batch.lists import STREAM
from irnscale.batch.outputs import Output, check_apart, check_outputs, place_of, write_target
from irnscale.batch.pipeline import Feed, PixelBudget, Stages, run
from irnscale.batch.report import Outcome, Report, Status, check_report_path, exit_code
from irnscale.batch.twins import tell_apart

__all__ = [
    "STREAM",
    "Feed",
    "Inputs",
    "Item",
    "Job",
    "Naming",
    "Outcome",
    "Output",
    "PixelBudget",
    "Report",
    "Selection",
    "Stages",
    "Status",
    "Targets",
    "check_apart",
    "check_outputs",
    "check_report_path",
    "collect",
    "exit_code",
    "parse_shard",
    "place_of",
    "plan",
    "read_source",
    "run",
    "samples_of",
    "tell_apart",
    "write_target",
]
