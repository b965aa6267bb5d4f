"""Experiments that train two or three variants equally long and compare them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from irnscale import networks
from irnscale.evaluation.lipschitz import measure
from irnscale.experiments.base import Experiment, Judged, Result, Scores, Setting, TableRow, difference, judge
from irnscale.experiments.training import differs, kept_scores, middles, network, rows_of, variant
from irnscale.train.compare import Curve, Group, curve_of
from irnscale.train.report import read_log, series

Variants = dict[str, tuple[str, str, Sequence[str]]]
IRN: tuple[str, str, Sequence[str]] = ("irn", "irn-x4", ())
QUALITY = {
    "psnr_y": "HR PSNR-Y",
    "psnr_rgb": "PSNR-RGB",
    "ssim_y": "SSIM-Y",
    "lr_psnr_y": "LR PSNR-Y",
    "lr_psnr_rgb": "LR PSNR-RGB",
}
UNSTEADY = {"unsteady": "deviation of log gradient norm", "bad_steps": "bad steps"}
CROP, CROPS = 48, 2
"""Side and number of the middles of photographs that Jacobians are measured at."""


def unsteadiness(out: Path) -> Scores:
    """Of a run's log without its first quarter: the standard deviation of the logarithm of the gradient's norm (before
    clipping), and the number of steps skipped for a loss or gradient that was not finite."""
    records = read_log(out)
    _, norms = series(records, "grad_norm")
    _, bad = series(records, "bad_steps")
    late = [n for n in norms[len(norms) // 4 :] if n > 0]
    return {
        "unsteady": float(np.std(np.log(late))) if len(late) > 1 else 0.0,
        "bad_steps": float(bad[-1] if bad else 0),
    }


def with_extras(rows: list[TableRow], folders: dict[str, list[Path]], extra: Callable[[Path], Scores]) -> None:
    """Add to every row further scores of its runs."""
    for row in rows:
        more = TableRow.of_seeds(row.method, [extra(out) for out in folders[row.method]])
        row.scores |= more.scores
        row.deviations |= more.deviations


def _kaiming(setting: Setting) -> Result:
    setting.needs(training=True)
    variants: Variants = {
        "Xavier, last convolutions zero": IRN,
        "Kaiming, last convolutions zero": ("irn-kaiming-zero", "irn-kaiming-x4", ("zero_last=true",)),
        "Kaiming, last convolutions not zero": ("irn-kaiming", "irn-kaiming-x4", ()),
    }
    rows, _ = rows_of(setting, variants)
    gap = difference(rows[0], rows[1], "psnr_y")
    judged = [judge(KAIMING.claims[0], *gap, "Xavier - Kaiming, PSNR-Y")]
    return Result("kaiming-xavier", QUALITY, rows, judged, differs(setting))


def _quantised(setting: Setting) -> Result:
    setting.needs(training=True)
    rows, folders = rows_of(setting, {"IRN": IRN, "quantised losses": ("irn-quantised", "irn-quantised-x4", ())})
    with_extras(rows, folders, unsteadiness)
    plain, quantised = rows
    judged = [
        judge(QUANTISED.claims[0], *difference(quantised, plain, "unsteady"), "deviation, quantised - plain", ""),
        judge(QUANTISED.claims[1], *difference(plain, quantised, "psnr_y"), "plain - quantised, PSNR-Y"),
    ]
    return Result("quantised-losses", QUALITY | UNSTEADY, rows, judged, differs(setting))


def _l1_l2(setting: Setting) -> Result:
    setting.needs(training=True)
    rows, folders = rows_of(setting, {"L2 guidance": IRN, "L1 guidance": ("irn-l1", "irn-x4", ("guide_norm=l1",))})
    with_extras(rows, folders, lambda out: _gaps(kept_scores(setting, out)))
    two, one = rows
    judged = [
        judge(L1_L2.claims[0], *difference(two, one, "psnr_y"), "L2 - L1, PSNR-Y"),
        judge(
            L1_L2.claims[1], *difference(two, one, "lr_gap"), "L2 - L1, by how much LR's PSNR-Y is above its PSNR-RGB"
        ),
    ]
    columns = QUALITY | {"gap": "HR Y - RGB", "lr_gap": "LR Y - RGB"}
    note = "both with the weight scale^2 on a sum over pixels, so that L1 guides more strongly"
    return Result("l1-l2-guidance", columns, rows, judged, differs(setting), [note])


def _gaps(found: Scores) -> Scores:
    """Luma less RGB of a run's scores."""
    return {"gap": found["psnr_y"] - found["psnr_rgb"], "lr_gap": found["lr_psnr_y"] - found["lr_psnr_rgb"]}


def stretch(setting: Setting, variants: Variants) -> Callable[[Path], Scores]:
    """Bounds (as powers of ten) and largest observed singular values, down and up, of a run's network."""
    recipes = {label: (recipe, changes) for label, recipe, changes in variants.values()}

    def of(out: Path) -> Scores:
        label, seed = out.name.rsplit("-seed", 1)
        name, changes = recipes[label]
        net = network(out, variant(setting, name, changes, seed=int(seed)))
        assert isinstance(net, networks.IRN)
        setting.say(f"{out}: Jacobians")
        found = measure(net, middles(setting, net.scale, CROP, CROPS), iterations=20)
        return {
            "bound_down": float(np.log10(found.forward)),
            "bound_up": float(np.log10(found.inverse)),
            "seen_down": max(found.forward_observed.values()),
            "seen_up": max(found.inverse_observed.values()),
        }

    return of


STRETCH = {
    "bound_down": "log10 bound down",
    "bound_up": "log10 bound up",
    "seen_down": "seen down",
    "seen_up": "seen up",
}


def _tight(setting: Setting) -> Result:
    setting.needs(training=True)
    variants: Variants = {"IRN": IRN, "IRN-2T": ("irn-2t", "irn-2t-x4", ())}
    rows, folders = rows_of(setting, variants)
    curves = {name: [curve_of(out, "psnr_y") for out in of] for name, of in folders.items()}
    goal = min(max(c.values) for of in curves.values() for c in of)
    epochs = {c.run: Group("", (c,)).reached(goal) for of in curves.values() for c in of}
    with_extras(rows, folders, lambda out: {"epochs": epochs[out]})
    with_extras(rows, folders, stretch(setting, variants))
    plain, tight = rows
    judged = [
        judge(TIGHT.claims[0], *difference(plain, tight, "epochs"), f"IRN - 2T, epochs to {goal:.2f} dB", "epochs"),
        judge(TIGHT.claims[1], *difference(tight, plain, "psnr_y"), "2T - IRN, PSNR-Y"),
        judge(TIGHT.claims[2], *difference(plain, tight, "lr_psnr_y"), "IRN - 2T, LR PSNR-Y"),
        judge(
            TIGHT.claims[3], *difference(plain, tight, "bound_up"), "IRN - 2T, log10 of the bound of the inverse", ""
        ),
        judge(
            TIGHT.claims[4], *difference(plain, tight, "seen_up"), "IRN - 2T, largest singular value seen, inverse", ""
        ),
    ]
    return Result("irn-2t", QUALITY | {"epochs": f"epochs to {goal:.2f} dB"} | STRETCH, rows, judged, differs(setting))


def _proposal_1(setting: Setting) -> Result:
    setting.needs(training=True)
    rows, folders = rows_of(setting, {"IRN": IRN, "Proposal 1": ("irn-proposal1", "irn-proposal1-x4", ())})
    with_extras(rows, folders, unsteadiness)
    plain, jumping = rows
    judged = [
        judge(PROPOSAL_1.claims[0], *difference(jumping, plain, "unsteady"), "deviation, Proposal 1 - IRN", ""),
        judge(PROPOSAL_1.claims[1], *difference(plain, jumping, "psnr_y"), "IRN - Proposal 1, PSNR-Y"),
    ]
    note = "its bound is infinite where s changes sign: the clamp jumps there (docs/lipschitz.md)"
    return Result("proposal-1", QUALITY | UNSTEADY, rows, judged, differs(setting), [note])


def _luma(setting: Setting) -> Result:
    setting.needs(training=True)
    rows, _ = rows_of(setting, {"IRN": IRN, "IRN-Y": ("irn-y", "irn-y-x4", ())})
    plain, luma = rows
    judged = [
        judge(LUMA.claims[0], *difference(luma, plain, "psnr_y"), "IRN-Y - IRN, PSNR-Y"),
        judge(LUMA.claims[1], *difference(plain, luma, "psnr_rgb"), "IRN - IRN-Y, PSNR-RGB"),
        judge(LUMA.claims[2], *difference(plain, luma, "lr_psnr_rgb"), "IRN - IRN-Y, LR PSNR-RGB"),
    ]
    return Result("irn-y", QUALITY, rows, judged, differs(setting))


def _jpeg(setting: Setting) -> Result:
    setting.needs(training=True)
    name = ("irn-c", "irn-c-x4", ("compression_quality=90",))
    rows, _ = rows_of(setting, {"IRN": IRN, "IRN-C": name}, task="jpeg")
    plain, resistant = rows
    judged = [
        judge(JPEG.claims[0], *difference(resistant, plain, "psnr_y_q90"), "IRN-C - IRN, PSNR-Y after JPEG 90"),
        judge(JPEG.claims[1], *difference(plain, resistant, "lr_psnr_y"), "IRN - IRN-C, LR PSNR-Y"),
    ]
    columns = {"psnr_y_q90": "HR PSNR-Y, JPEG 90", "psnr_y_q50": "JPEG 50"} | QUALITY
    return Result("irn-c", columns, rows, judged, differs(setting, "JPEG 4:2:0"))


def _epochs(setting: Setting) -> Result:
    setting.needs(training=True)
    rows, folders = rows_of(setting, {"IRN": IRN})
    fits = {out: straight(curve_of(out, "psnr_y")) for out in folders["IRN"]}
    with_extras(rows, folders, lambda out: dict(zip(("slope", "r2"), fits[out], strict=True)))
    worst = min(r2 for _, r2 in fits.values())
    slope = statistics.fmean(s for s, _ in fits.values())
    because = f"{slope:.2f} dB for ten times the epochs, R^2 of a straight line {worst:.3f} at least"
    judged = [Judged(EPOCHS.claims[0], "confirmed" if worst > 0.95 and slope > 0 else "not confirmed", because)]
    columns = QUALITY | {"slope": "dB for ten times the epochs", "r2": "R^2"}
    return Result("irn-epochs", columns, rows, judged, differs(setting, "the rate falls along a cosine"))


def straight(curve: Curve) -> tuple[float, float]:
    """Slope by the decimal logarithm of epochs, and R^2, of a straight line through a curve."""
    x, y = np.log10(curve.epochs), np.array(curve.values)
    slope, offset = np.polyfit(x, y, 1)
    rest = ((y - slope * x - offset) ** 2).sum()
    total = ((y - y.mean()) ** 2).sum()
    return float(slope), float(1 - rest / total) if total else 0.0


KAIMING = Experiment(
    "kaiming-xavier",
    "section 3.3.2",
    "Kaiming's initialisation against Xavier's",
    ("Kaiming's initialisation has a slight negative effect on training",),
    _kaiming,
    trains=True,
)
QUANTISED = Experiment(
    "quantised-losses",
    "sections 3.3.2 and 5.2",
    "Losses of the pictures in 8 bits against losses of what the network computed",
    (
        "Training with quantised losses is much less stable",
        "Losses lose information by quantisation: the scores are lower",
    ),
    _quantised,
    trains=True,
)
L1_L2 = Experiment(
    "l1-l2-guidance",
    "section 4.2.3",
    "L1 against L2 guidance",
    (
        "L2 guidance gives a higher PSNR-Y than L1 (Xiao et al., quoted)",
        "L2 guidance makes a greater bias towards the Y channel than L1",
    ),
    _l1_l2,
    trains=True,
)
TIGHT = Experiment(
    "irn-2t",
    "table 4.3, figure 4.5, section 3.4.1",
    "A clamp twice as tight",
    (
        "IRN-2T reaches the same PSNR-Y after fewer epochs (7,900 against 10,000)",
        "IRN-2T's PSNR-Y is slightly higher in the end (35.04 to 35.09)",
        "IRN-2T's small pictures are farther from bicubic (44.06 to 42.64)",
        "The tighter clamp reduces the Lipschitz bound of the inverse",
        "The tighter clamp reduces what the inverse stretches at photographs",
    ),
    _tight,
    trains=True,
    published=lambda p: p.set == "DIV2K" and p.scale == 4 and p.method in ("IRN, dissertation", "IRN-2T, dissertation"),
)
PROPOSAL_1 = Experiment(
    "proposal-1",
    "appendices D.1 and D.2",
    "The clamp that jumps",
    ("The jump of Proposal 1 makes training less stable", "Proposal 1 scores lower"),
    _proposal_1,
    trains=True,
)
LUMA = Experiment(
    "irn-y",
    "tables 4.3 and 4.4, section 3.4.4",
    "Luma in the loss",
    (
        "IRN-Y has a higher PSNR-Y than IRN (35.25 against 35.04)",
        "IRN-Y has a lower PSNR-RGB (32.59 against 32.96)",
        "IRN-Y's small pictures have a lower PSNR-RGB (34.62 against 37.60)",
    ),
    _luma,
    trains=True,
    published=lambda p: p.set == "DIV2K" and p.scale == 4 and p.method in ("IRN, dissertation", "IRN-Y, dissertation"),
)
JPEG = Experiment(
    "irn-c",
    "table 4.6, figure 4.8",
    "Small pictures that go through JPEG",
    (
        "IRN-C restores better after JPEG 90 than IRN (29.36 against 28.40)",
        "IRN-C's small pictures are worse (29.24 against 44.38)",
    ),
    _jpeg,
    trains=True,
    published=lambda p: (
        p.set == "DIV2K" and p.scale == 4 and p.codec == "jpg q90 4:2:0" and p.method in ("IRN", "IRN-C, dissertation")
    ),
)
EPOCHS = Experiment(
    "irn-epochs",
    "figure 4.4",
    "PSNR over epochs",
    ("PSNR-Y rises in a straight line over the logarithm of epochs",),
    _epochs,
    trains=True,
)
