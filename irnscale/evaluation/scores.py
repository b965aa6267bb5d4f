"""From summaries to the scores on a model's card, and from cards to the README's tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from irnscale.engine.precision import EXACT
from irnscale.errors import InputError, OutputError, UsageError
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.loop import Summary
from irnscale.evaluation.trip import Storage
from irnscale.images.atomic import write_bytes_atomic
from irnscale.metrics.scores import Score
from irnscale.zoo import Model, ModelCard, read_card

JPEG_QUALITIES = (30, 50, 70, 80, 90)
"""Those of the published tables of rescaling through JPEG."""
_OF_ENLARGED = {"lr_psnr": "LR-PSNR", "niqe_house": "NIQE (house)"}
"""What a card may have besides that says something of super-resolution: true to the small picture, and natural."""
_KEPT = ("psnr_y", "ssim_y", "lr_psnr_y", "lr_ssim_y")


def score_key(name: str, codec: Codec, *, bicubic_lr: bool = False) -> str:
    """Under which name a card keeps a set's scores: "Set5", "Set5, JPEG 90 4:2:0" or "Set5, bicubic LR"."""
    stored = "" if codec.quality is None else f", JPEG {codec.quality} {codec.subsampling}"
    return name + stored + (", bicubic LR" if bicubic_lr else "")


def detail_key(name: str, bits: int) -> str:
    """Under which name a card keeps a set's scores with detail in the last bits of lossless pixels."""
    return f"{name}, {Storage(bits=bits).name} of detail"


def scores_of(summaries: Iterable[Summary], digest: str, more: Sequence[Score] = ()) -> dict[str, dict[str, float]]:
    """The scores of the model with this digest, in the form of `ModelCard.scores`: luma's, and `more`.

    Detail in the last bits has rows of its own; what is attached to files, of a size that was asked for, has none.
    """
    found = {}
    for summary in summaries:
        method = summary.method
        if method.weights != digest or method.draws > 1 or method.compared:
            continue
        if method.travel:
            if method.bits:
                names = ("detail_psnr_y", "detail_ssim_y", *_KEPT[2:])
                found[detail_key(summary.set, method.bits)] = _finite(summary, names)
            continue
        key = score_key(summary.set, summary.codec, bicubic_lr=method.task == "super-resolution")
        found[key] = _finite(summary, (*_KEPT, *(score.key for score in more)))
    return found


def _finite(summary: Summary, names: Sequence[str]) -> dict[str, float]:
    """A set's means of these names, as a card has them, which holds no NaN and no infinity."""
    return {name: round(value, 4) for name in names if math.isfinite(value := summary.mean[name])}


def costs_of(summaries: Iterable[Summary], digest: str) -> dict[str, dict[str, float]]:
    """By number format and set: what it loses against float32, in dB of luma PSNR, in the form of the card's costs."""
    measured: dict[tuple[str, str], float] = {}
    for summary in summaries:
        if summary.method.weights == digest and summary.method.compared:
            measured[summary.method.compared, summary.set] = summary.mean["psnr_y"]
    found: dict[str, dict[str, float]] = {}
    for (precision, name), psnr in measured.items():
        if precision != EXACT and math.isfinite(cost := measured.get((EXACT, name), math.nan) - psnr):
            found.setdefault(precision, {})[name] = round(cost, 4)
    return found


def update_card(model: Model, summaries: Iterable[Summary], digest: str, more: Sequence[Score] = ()) -> ModelCard:
    """Write the scores of `summaries` on the model's card, beside those of other sets that stand there.

    Where they have methods in several number formats, also what these cost, and whether `auto` may choose them.
    `digest` is that of the rescaler that was measured: an assistant's is not its card's.

    Raises OutputError where the card cannot be written, UsageError where there is no score of this model.
    """
    summaries = list(summaries)
    scores = scores_of(summaries, digest, more)
    if not scores:
        what = f"{model.card.name}: nothing was measured for its card"
        raise UsageError(what, "name the model with `model`", parameters=("model",))
    path = model.weights.with_suffix(".json")
    card = read_card(path)
    if card.sha256 != model.card.sha256:
        raise OutputError(f"{path}: is no longer the card that was measured", "run again")
    costs = {name: card.precision_costs.get(name, {}) | row for name, row in costs_of(summaries, digest).items()}
    card = replace(
        card,
        scores=card.scores | {key: card.scores.get(key, {}) | row for key, row in scores.items()},
        precisions=tuple(dict.fromkeys((EXACT, *card.precisions, *costs))),
        precision_costs=card.precision_costs | costs,
    )
    write_bytes_atomic(card.to_json().encode(), path, overwrite=True)
    return card


def model_tables(cards: Sequence[ModelCard], sets: Sequence[str] = ("Set5", "Set14", "Kodak24")) -> str:
    """The README's tables in Markdown, of what was measured.

    HR and LR of the network alone, the same with detail, then through JPEG, then super-resolution.
    """
    columns = [f"{name} {side}" for side in ("HR", "LR") for name in sets]
    lines = [f"| model | {' | '.join(columns)} |", "|---" * (1 + 2 * len(sets)) + "|"]
    for card in cards:
        if any(name in card.scores for name in sets):
            cells = [_pair(card, name) for name in sets] + [_one(card, name, "lr_psnr_y", 1) for name in sets]
            lines.append(f"| `{card.name}` | {' | '.join(cells)} |")
    detailed = [
        (f"`{card.name}`, {Storage(bits=bits).name}", card, [detail_key(name, bits) for name in sets])
        for card in cards
        for bits in (1, 2, 3)
    ]
    detailed = [row for row in detailed if any(key in row[1].scores for key in row[2])]
    if detailed:
        lines += ["", f"| with detail in the last bits | {' | '.join(columns)} |", lines[1]]
    for title, card, keys in detailed:
        cells = [_pair(card, key, "detail_") for key in keys] + [_one(card, key, "lr_psnr_y", 1) for key in keys]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    for card in cards:
        rows = [(name, [score_key(name, Codec(q)) for q in JPEG_QUALITIES]) for name in sets]
        rows = [(name, keys) for name, keys in rows if any(key in card.scores for key in keys)]
        if rows:
            titles = " | ".join(f"JPEG {q}" for q in JPEG_QUALITIES)
            lines += ["", f"| `{card.name}`, small picture as 4:2:0 | {titles} |", "|---" * 6 + "|"]
            lines += [f"| {name} | {' | '.join(_pair(card, key) for key in keys)} |" for name, keys in rows]
    keys = [score_key(name, Codec(), bicubic_lr=True) for name in sets]
    given = [card for card in cards if any(key in card.scores for key in keys)]
    if given:
        further = [key for key in _OF_ENLARGED if any(key in card.scores.get(keys[-1], {}) for card in given)]
        heads = [*sets, *(f"{sets[-1]}: {_OF_ENLARGED[key]}" for key in further)]
        lines += ["", f"| from bicubic small pictures | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
        for card in given:
            enlarged = [_pair(card, key) for key in keys] + [_one(card, keys[-1], key, 2) for key in further]
            lines.append(f"| `{card.name}` | {' | '.join(enlarged)} |")
    return "\n".join(lines) + "\n"


def _one(card: ModelCard, key: str, value: str, digits: int) -> str:
    row = card.scores.get(key, {})
    return f"{row[value]:.{digits}f}" if value in row else "-"


def _pair(card: ModelCard, key: str, kind: str = "") -> str:
    if key not in card.scores:
        return "-"
    return f"{_one(card, key, f'{kind}psnr_y', 2)}/{_one(card, key, f'{kind}ssim_y', 4)}"


def with_block(text: str, block: str, name: str) -> str:
    """`text` with what stands between the lines `<!-- name: begin -->` and `<!-- name: end -->` replaced.

    Raises UsageError where they are not there.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = text.partition(begin + "\n")
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise UsageError(f"there are no lines {begin} and {end}", "add them where the tables shall stand")
    return f"{before}{found}\n{block}\n{closed}{after}"


def page_with_block(path: Path, name: str) -> str:
    """A Markdown file that has that block. Raises InputError or UsageError naming it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}", "give a Markdown file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text", "give a Markdown file") from error
    try:
        with_block(text, "", name)
    except UsageError as error:
        raise UsageError(f"{path}: {error.what}", error.hint, parameters=error.parameters) from error
    return text


def replace_block(path: Path, block: str, name: str) -> None:
    """`with_block` on a Markdown file. Raises InputError, UsageError or OutputError naming it."""
    write_bytes_atomic(with_block(page_with_block(path, name), block, name).encode(), path, overwrite=True)
