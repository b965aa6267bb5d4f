"""Experiments that measure what there is: shipped models, bicubic, scores; and Glow, by its own comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from irnscale.errors import UsageError
from irnscale.evaluation import cheating
from irnscale.evaluation.cache import open_cache
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.lipschitz import measure
from irnscale.evaluation.loop import Summary, evaluate
from irnscale.evaluation.methods import Method, baselines, published_bicubic, super_resolution
from irnscale.evaluation.published import published
from irnscale.evaluation.ruler import Ruler
from irnscale.experiments.base import CONFIRMED, NOT_CONFIRMED, Experiment, Judged, Result, Setting, TableRow
from irnscale.experiments.training import middles
from irnscale.kernels import LogScale
from irnscale.networks import IRN
from irnscale.networks.lipschitz import scale_bounds
from irnscale.zoo import base_of, find, load_network

HR = {"psnr_y": "HR PSNR-Y", "ssim_y": "SSIM-Y"}
LR = {"lr_psnr_y": "LR PSNR-Y", "lr_ssim_y": "SSIM-Y"}
SHIPPED = ("irn-x2", "irn-x4")
FAR = 1.0
"""dB."""
TOLERANCE = 0.01
"""dB: half of the last printed digit of two tables, twice."""


def _verdict(claim: str, good: bool, because: str) -> Judged:
    return Judged(claim, CONFIRMED if good else NOT_CONFIRMED, because)


def _summaries(
    setting: Setting, methods: Sequence[Method], *, rounded: bool = False, codec: Codec | None = None
) -> list[Summary]:
    found: list[Summary] = []
    for folder in setting.val:
        if not folder.is_dir():
            raise UsageError(f"{folder}: not a folder", "give `val` folders of photographs", parameters=("val",))
        setting.say(f"{folder.name}: {', '.join(m.name for m in methods)}")
        options = {"cache": open_cache(None, kept=False), "ruler": Ruler(rounded), "limit": setting.limit}
        found += evaluate(folder, methods, [codec or Codec()], **options)
    return found


def _row(summary: Summary) -> TableRow:
    return TableRow(f"{summary.set} x{summary.scale}: {summary.method.name}", dict(summary.mean))


def _rescaling(setting: Setting) -> Result:
    rows, better, near = [], [], []
    for name in SHIPPED:
        card = find(name).card
        for data, scores in card.scores.items():
            theirs = {p.method: p.scores for p in published() if (p.set, p.scale, p.codec) == (data, card.scale, "png")}
            rows.append(TableRow(f"{data} x{card.scale}: {name}", dict(scores)))
            if "CAR & EDSR" in theirs:
                better.append(scores["psnr_y"] - theirs["CAR & EDSR"]["psnr_y"])
                near.append(theirs["IRN"]["psnr_y"] - scores["psnr_y"])
    judged = [
        _verdict(
            RESCALING.claims[0],
            max(near) <= 3,
            f"{len(near)} pairs of set and scale, at most {max(near):.2f} dB below Xiao et al.; without DIV2K",
        ),
        _verdict(
            RESCALING.claims[1],
            min(better) > FAR,
            f"{min(better):+.2f} to {max(better):+.2f} dB over CAR & EDSR, where far is taken for {FAR:g} dB",
        ),
    ]
    what = "the shipped models: hours of two cores instead of days of a GPU; Set5 and Set14, from their cards"
    return Result("rescaling", HR | LR, rows, judged, what)


def _bicubic(setting: Setting) -> Result:
    setting.needs(training=False)
    whole = replace(setting, limit=1000)
    rounded = _summaries(whole, [published_bicubic(2), published_bicubic(4)], rounded=True)
    plain = _summaries(whole, [baselines(2)[0], baselines(4)[0]])
    rows = [TableRow(f"{s.set} x{s.scale}: luma rounded", dict(s.mean)) for s in rounded]
    rows += [TableRow(f"{s.set} x{s.scale}: luma not rounded", dict(s.mean)) for s in plain]
    known = {(p.set, p.scale): p.scores for p in published() if p.method == "bicubic" and p.codec == "png"}
    off = {
        (s.set, s.scale): (s.mean["psnr_y"] - known[s.set, s.scale]["psnr_y"])
        for s in rounded
        if (s.set, s.scale) in known
    }
    if not off:
        raise UsageError(
            "no published row of bicubic for these folders", "give val=Set5 val=Set14", parameters=("val",)
        )
    words = ", ".join(f"{name} x{scale} {d:+.3f} dB" for (name, scale), d in off.items())
    good = all(abs(d) <= TOLERANCE for d in off.values())
    judged = [_verdict(BICUBIC.claims[0], good, f"luma rounded as MATLAB does: {words}; without DIV2K")]
    return Result("bicubic", HR, rows, judged, "the sets given, without DIV2K")


def _cheating(setting: Setting) -> Result:
    setting.needs(training=False)
    scale = 2
    photographs = cheating.of_one_size(setting.val[0], setting.limit, scale, setting.say)
    luma, small = cheating.luma_cheats(photographs), cheating.small_cheats(photographs, scale)
    rows = [TableRow(c.name, dict(c.scores)) for c in luma] + [
        TableRow(f"LR x{scale}: {c.name}", dict(c.scores)) for c in small
    ]
    colours, by_name = luma[0].scores, {c.name: c.scores for c in small}
    true, other = by_name["bicubic"], by_name["another photograph"]
    judged = [
        _verdict(
            CHEATING.claims[0],
            colours["psnr_y"] >= 99 and colours["psnr_rgb"] < 25,
            f"PSNR-Y at least {colours['psnr_y']:.0f} dB, SSIM-Y {colours['ssim_y']:.4f}, PSNR-RGB "
            f"{colours['psnr_rgb']:.2f} dB",
        ),
        _verdict(
            CHEATING.claims[1],
            other["niqe_house"] <= true["niqe_house"],
            f"NIQE (house) {other['niqe_house']:.2f} where bicubic reads {true['niqe_house']:.2f}, PIQE "
            f"{other['piqe']:.1f} and {true['piqe']:.1f} (less is better), at {other['lr_psnr_y']:.1f} dB of PSNR-Y",
        ),
    ]
    columns = cheating.LUMA_TITLES | cheating.SMALL_TITLES
    what = f"{len(photographs)} photographs of {setting.val[0].name}; NIQE by numbers of our own"
    return Result("cheating-metrics", columns, rows, judged, what)


def _lipschitz(setting: Setting) -> Result:
    setting.needs(training=False)
    net = load_network(find("irn-x2"))
    assert isinstance(net, IRN)
    crops = middles(setting, net.scale, 32, 2)
    found = measure(net, crops, name="irn-x2", iterations=15, say=setting.say)
    rows = [
        TableRow(
            f"coupling {c.place}",
            {"down": c.forward, "seen": c.forward_observed, "up": c.inverse, "up_seen": c.inverse_observed},
        )
        for c in found.couplings
    ]
    down, up = max(found.forward_observed.values()), max(found.inverse_observed.values())
    rows.append(TableRow("irn-x2", {"down": found.forward, "seen": down, "up": found.inverse, "up_seen": up}))
    below = all(row.scores["seen"] <= row.scores["down"] and row.scores["up_seen"] <= row.scores["up"] for row in rows)
    judged = [
        _verdict(
            LIPSCHITZ.claims[0], below, f"seen {down:.3g} and {up:.3g} of {found.forward:.3g} and {found.inverse:.3g}"
        ),
        _printed(LIPSCHITZ.claims[1]),
    ]
    columns = {"down": "bound down", "seen": "seen", "up": "bound up", "up_seen": "seen"}
    what = f"the shipped irn-x2, {found.size} x {found.size} pixels of {len(crops)} photographs"
    return Result("lipschitz", columns, rows, judged, what)


def _printed(claim: str) -> Judged:
    """D.10 as printed at a coupling of one number each: t = 0, s of slope 3 within [-0.1, 0.1], y2 = 1."""
    slope, scale = 3.0, scale_bounds(LogScale(), -0.1, 0.1)
    printed = max(1.0, scale.down) + scale.down_slope * slope * 0.0  # max|y2| c_(1/g)' Lip(s) c_t, and c_t is 0
    column = math.hypot(1.0, 0.5 * slope)  # of the Jacobian at s = 0: 1/e falls by half of s there
    because = (
        f"where t is 0 it is {printed:.2f}, and a column of the Jacobian has the norm {column:.2f} (docs/lipschitz.md)"
    )
    return _verdict(claim, column <= printed, because)


def _super_resolution(setting: Setting) -> Result:
    setting.needs(training=False)
    from irnscale.engine.rescaler import Rescaler

    assistant = find("irn-sr-x4")
    own = Rescaler([find("irn-x4")], device="cpu")
    helped = Rescaler([base_of(assistant)], assistant=assistant, device="cpu")
    methods = [baselines(4)[0], super_resolution(own), super_resolution(helped)]
    summaries = _summaries(setting, methods)
    rows = [_row(s) for s in summaries]
    judged = []
    sets = list(dict.fromkeys(s.set for s in summaries))
    scores = {(s.set, s.method.name): s.mean["psnr_rgb"] for s in summaries}
    names = [m.name for m in methods]
    worse = {s: scores[s, names[0]] - scores[s, names[1]] for s in sets}
    gain = {s: scores[s, names[2]] - scores[s, names[0]] for s in sets}
    for claim, values, what in (
        (SHIPPED_SR.claims[0], worse, "bicubic - IRN, PSNR-RGB"),
        (SHIPPED_SR.claims[1], gain, "IRN-SR - bicubic, PSNR-RGB"),
    ):
        words = ", ".join(f"{name} {value:+.2f} dB" for name, value in values.items())
        judged.append(_verdict(claim, min(values.values()) > 0, f"{what}: {words}"))
    columns = {"psnr_rgb": "PSNR-RGB", "ssim_rgb": "SSIM-RGB", "psnr_y": "PSNR-Y"}
    return Result(
        "irn-sr-shipped",
        columns,
        rows,
        judged,
        f"the shipped models; at most {setting.limit} photographs of {', '.join(sets)}, not DIV2K",
    )


def _glow(setting: Setting) -> Result:
    from irnscale.train.config import load_recipe
    from irnscale.train.glow.compare import compare

    changes = [f"budget={setting.budget}"] if setting.budget else []
    recipes = [load_recipe(name, changes) for name in ("glow-freia", "glow-torch")]
    found = compare(recipes, seeds=setting.seeds, out=setting.out / "runs" / "glow", progress=False, say=setting.say)
    columns = {
        "log_likelihood": "log-likelihood",
        "frechet": "Frechet",
        "frechet_untrained": "untrained",
        "sample_ms": "ms a sample",
        "train_ms": "ms in training",
    }
    rows = [
        TableRow.of_seeds(name, [{k: float(r[k]) for k in columns} for r in results])
        for name, results in found.results.items()
    ]
    freia, torch = rows
    learnt = all(r.scores["frechet"] < r.scores["frechet_untrained"] for r in rows)
    ratio = freia.scores["train_ms"] / torch.scores["train_ms"]
    better = freia.scores["frechet"] < torch.scores["frechet"]
    judged = [
        _verdict(
            GLOW.claims[0],
            learnt,
            ", ".join(
                f"{r.method} {r.scores['frechet']:.1f} of {r.scores['frechet_untrained']:.1f} untrained" for r in rows
            ),
        ),
        _verdict(
            GLOW.claims[1], abs(ratio - 1) <= 0.1, f"a training step takes FrEIA {ratio:.2f} times as long a picture"
        ),
        _verdict(
            GLOW.claims[2], better, f"Frechet {freia.scores['frechet']:.1f} against {torch.scores['frechet']:.1f}"
        ),
    ]
    seeds = f"budget {recipes[0].run.budget} of each of {setting.seeds} seeds instead of 5 epochs of 5"
    return Result(
        "glow",
        columns,
        rows,
        judged,
        f"{seeds}; a classifier of ours instead of Inception; `irnscale evaluate glow` has more",
    )


RESCALING = Experiment(
    "rescaling",
    "tables 4.2 and 4.3, figure 4.3",
    "IRN beside other ways down and up",
    (
        "An IRN in FrEIA is within 3 dB of Xiao et al.'s",
        "IRN far exceeds ways that do not model down and up together (CAR & EDSR)",
    ),
    _rescaling,
    trains=False,
    measures=False,
    published=lambda p: (
        p.set in ("Set5", "Set14") and p.codec == "png" and p.method in ("bicubic", "CAR & EDSR", "IRN")
    ),
)
BICUBIC = Experiment(
    "bicubic",
    "appendix B.1, table B.1",
    "Bicubic measured anew",
    ("Bicubic measured anew equals what Xiao et al. print, but for DIV2K",),
    _bicubic,
    trains=False,
    published=lambda p: p.method == "bicubic" and p.codec == "png",
)
CHEATING = Experiment(
    "cheating-metrics",
    "sections 4.2.2 and 4.2.3, tables 4.4 and 4.5",
    "Scores can be cheated",
    (
        "Two pictures may be identical in the Y channel and far apart in RGB",
        "NIQE and PIQE of small pictures are cheated by any good picture that is another",
    ),
    _cheating,
    trains=False,
)
LIPSCHITZ = Experiment(
    "lipschitz",
    "appendix D.2, section 5.3",
    "Lipschitz bounds of the couplings",
    (
        "Couplings and networks stay below the bounds D.7 to D.10 (D.10 corrected, for IRN's scale)",
        "D.10 as printed bounds the inverse",
    ),
    _lipschitz,
    trains=False,
)
SHIPPED_SR = Experiment(
    "irn-sr-shipped",
    "table 4.7",
    "Super-resolution by IRN and by IRN-SR",
    (
        "IRN on bicubic small pictures is worse than bicubic (25.88 against 26.70 dB)",
        "IRN-SR exceeds bicubic (28.67 against 26.70 dB)",
    ),
    _super_resolution,
    trains=False,
    published=lambda p: p.codec == "bicubic LR",
)
GLOW = Experiment(
    "glow",
    "table 4.1, figures 4.1 and 4.2",
    "Glow in FrEIA and in PyTorch",
    (
        "Both learn the digits: their Frechet distance is far below the untrained flows'",
        "FrEIA's overhead is negligible",
        "FrEIA's samples are slightly better (0.76 against 0.81)",
    ),
    _glow,
    trains=False,
    measures=False,
)
