"""Experiments about flows that say what rescaling throws away."""

from __future__ import annotations

from irnscale.experiments.base import Experiment, Result, Setting, difference, judge
from irnscale.experiments.comparisons import IRN, QUALITY, Variants
from irnscale.experiments.training import differs, rows_of

SMALL = ("main_steps=2", "flow_steps=1", "flow_hidden=16", "rrdb_blocks=1", "rrdb_growth=8")
"""What makes of HCFlow one of the size of `training.SMALL`'s IRN, with a little for its conditional flows."""


def _hcflow(setting: Setting) -> Result:
    setting.needs(training=True)
    size = () if setting.full else SMALL
    variants: Variants = {"IRN": IRN, "HCFlow": ("hcflow", "hcflow-rescaling-x4", size)}
    rows, _ = rows_of(setting, variants, task="jpeg")
    irn, flow = rows
    judged = [
        judge(HCFLOW.claims[0], *difference(flow, irn, "psnr_y"), "HCFlow - IRN, PSNR-Y"),
        judge(HCFLOW.claims[1], *difference(irn, flow, "lr_psnr_y"), "IRN - HCFlow, LR PSNR-Y"),
        judge(HCFLOW.claims[2], *difference(irn, flow, "psnr_y_q90"), "IRN - HCFlow, PSNR-Y after JPEG 90"),
    ]
    columns = QUALITY | {"psnr_y_q90": "HR PSNR-Y, JPEG 90"}
    what = "HCFlow with 2 steps a level and small conditional flows, z = 0; JPEG 4:2:0"
    return Result("hcflow", columns, rows, judged, differs(setting, "" if setting.full else what))


HCFLOW = Experiment(
    "hcflow",
    "tables 4.3 and 4.6",
    "HCFlow's rescaling beside IRN's",
    (
        "HCFlow has a higher PSNR-Y than IRN (35.23 against 35.07)",
        "HCFlow's small pictures are farther from bicubic (36.19 against 44.38)",
        "After JPEG 90 HCFlow restores worse than IRN (27.19 against 28.40)",
    ),
    _hcflow,
    trains=True,
    published=lambda p: (
        p.set == "DIV2K" and p.scale == 4 and p.codec in ("png", "jpg q90 4:2:0") and p.method in ("IRN", "HCFlow")
    ),
)
