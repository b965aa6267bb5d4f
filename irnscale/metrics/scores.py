"""The scores that `--metrics` names, beyond PSNR and SSIM by the field's protocol.

To add one: a function of `Seen` in a file of its own, and an entry in `_MAKERS`; or, in another distribution, an entry
point in the group `irnscale.scores` that names a function of `Files`. Columns, JSON, CSV, reports and the cache of
results follow from the `Score`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from irnscale import plugins
from irnscale.errors import UsageError
from irnscale.images.bicubic import bicubic_down
from irnscale.images.padding import pad_to_multiple
from irnscale.metrics import brisque, house, lpips, niqe
from irnscale.metrics.fidelity import as_8bit, psnr
from irnscale.metrics.piqe import piqe
from irnscale.metrics.sets import Estimate, frechet_distance, kernel_distance

LARGEST_PSNR = 100.0
"""What equal pictures read, in dB, as in the field's tables: a mean cannot hold infinity."""
ENTRY_POINTS = "irnscale.scores"
"""The group in which other distributions name scores of theirs."""
PROTOCOL = ("psnr", "ssim")
"""What is always measured, and shown unless `--metrics` leaves it out."""


@dataclass(frozen=True)
class Seen:
    """What a score looks at: (1, 3, H, W) each in [0, 1], as stored in 8 bits; nothing is cut off their borders.

    The small picture is of the others padded to a multiple of the scale.
    """

    original: Tensor
    small: Tensor
    restored: Tensor
    scale: int


@dataclass(frozen=True)
class OfSet:
    """How sets of pictures are compared: what is kept of each, and what is made of all that was kept.

    look: (N, D) features of a picture (1, 3, H, W) in [0, 1], of N parts of it. compare: of all features of what was
    restored, and of all of the originals.
    """

    look: Callable[[Tensor], Tensor]
    compare: Callable[[Tensor, Tensor], Estimate]


@dataclass(frozen=True)
class Score:
    """A number about a picture, or about a set of them.

    name: as `--metrics` has it. title: as tables have it. what: in one line. higher: whether more is better.
    identity: changes with everything but the pictures that the number depends on. no_reference: whether it looks at one
    picture alone, so that the original has one, too. by: what was taught or fitted that it looks with, with its digest;
    is shown beside the numbers. Of these one is given: `of` a picture; `of_draws` of all draws of a random method,
    (1, 3, H, W) each; `of_set`, which has no value for a photograph.
    """

    name: str
    title: str
    what: str
    higher: bool
    digits: int
    identity: str
    no_reference: bool = False
    by: str = ""
    of: Callable[[Seen], float] | None = field(default=None, compare=False)
    of_draws: Callable[[Sequence[Tensor]], float] | None = field(default=None, compare=False)
    of_set: OfSet | None = field(default=None, compare=False)

    @property
    def key(self) -> str:
        """As JSON has it: the name with underscores."""
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class Files:
    """Where numbers lie that are not ours to ship: NIQE's (.mat, .npz or .json) and AlexNet's (.pth, .safetensors)."""

    niqe: Path | None = None
    lpips: Path | None = None


@dataclass(frozen=True)
class Chosen:
    """What is shown: parts of the protocol, and further scores."""

    protocol: tuple[str, ...] = PROTOCOL
    more: tuple[Score, ...] = ()

    def shows(self, key: str) -> bool:
        """Whether a field of the protocol is shown, as psnr_y or detail_ssim_y; those of neither part are."""
        return not any(name in key for name in PROTOCOL if name not in self.protocol)

    @property
    def of_photographs(self) -> tuple[Score, ...]:
        """The further scores that a photograph has."""
        return tuple(score for score in self.more if score.of_set is None)

    @property
    def by(self) -> str:
        """What these scores look with, in one line; empty where with nothing."""
        titles: dict[str, list[str]] = {}
        for score in self.more:
            titles.setdefault(score.by, []).append(score.title)
        return "; ".join(f"{', '.join(several)} by {by}" for by, several in titles.items() if by)


def chosen(names: Sequence[str], files: Files | None = None) -> Chosen:
    """By the names of `--metrics`. Raises UsageError for an unknown one, or where a score lacks its numbers."""
    if not names:
        raise UsageError("no score is named", f"choose of {', '.join(NAMES)}")
    makers = [_maker(name) for name in dict.fromkeys(names) if name not in PROTOCOL]
    more = tuple(make(files or Files()) for make in makers)
    return Chosen(tuple(name for name in PROTOCOL if name in names), more)


def _maker(name: str) -> Callable[[Files], Score]:
    if name in _MAKERS:
        return _MAKERS[name]
    try:
        found: Callable[[Files], Score] = plugins.find(name, group=ENTRY_POINTS)
    except LookupError as error:
        raise UsageError(f"no score is called {name!r}: it {error}", f"choose of {', '.join(NAMES)}") from error
    return found


def _levels(x: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(H, W, 3) in 0..255."""
    return np.asarray(as_8bit(x)[0].permute(1, 2, 0).cpu().numpy())


def _lr_psnr(seen: Seen) -> float:
    padded, _ = pad_to_multiple(_levels(seen.restored), seen.scale)
    again = bicubic_down(torch.from_numpy(padded).permute(2, 0, 1)[None] / 255, seen.scale)
    return min(float(psnr(again, seen.small, y_channel=False)), LARGEST_PSNR)


def diversity(draws: Sequence[Tensor]) -> float:
    """The mean over pixels and channels of the standard deviation over draws, in grey levels (Lugmayr et al. 2020)."""
    if len(draws) < 2:
        return float("nan")
    return float(torch.stack([as_8bit(x) for x in draws]).std(dim=0).mean())


def _lr_psnr_score(files: Files) -> Score:
    what = "the small picture against bicubic of the restored one, RGB: whether they belong together"
    return Score("lr-psnr", "LR-PSNR", what, True, 2, "lr-psnr 1", of=_lr_psnr)


def _diversity_score(files: Files) -> Score:
    what = "deviation over the draws of a temperature, in grey levels"
    return Score("diversity", "diversity", what, True, 2, "diversity 1", of_draws=diversity)


def _lpips_score(files: Files) -> Score:
    if files.lpips is None:
        raise UsageError("LPIPS needs AlexNet's weights", "name their file with `lpips`", parameters=("lpips",))
    backbone = lpips.read_backbone(files.lpips)

    def of(seen: Seen) -> float:
        return lpips.distance(backbone, seen.restored.float(), seen.original.float())

    words, by = "distance in AlexNet's features", f"AlexNet {backbone.digest}"
    return Score("lpips", "LPIPS", words, False, 4, f"lpips 1 {backbone.digest}", by=by, of=of)


def _house_lpips_score(files: Files) -> Score:
    features = house.house()

    def of(seen: Seen) -> float:
        return house.distance(features, seen.restored.float(), seen.original.float())

    identity, by = f"house-lpips 1 {features.digest}", f"house features {features.digest}"
    what = "distance in our own features, which compares with itself alone"
    return Score("house-lpips", "LPIPS (house)", what, False, 4, identity, by=by, of=of)


def _house_set(
    name: str, title: str, what: str, digits: int, compare: Callable[[Tensor, Tensor], Estimate]
) -> dict[str, Callable[[Files], Score]]:
    """By the outputs of the house features of patches."""

    def make(files: Files) -> Score:
        identity, by = f"{name} 1 {house.house().digest}", f"house features {house.house().digest}"
        return Score(name, title, what, False, digits, identity, by=by, of_set=OfSet(_house_outputs, compare))

    return {name: make}


def _house_outputs(x: Tensor) -> Tensor:
    return house.outputs(house.house(), x.float())


def _frechet(restored: Tensor, originals: Tensor) -> Estimate:
    return Estimate(frechet_distance(restored, originals))


@dataclass(frozen=True)
class _Alone:
    """A function of one picture, (H, W, 3) in 0..255, with `Score.identity` and `Score.by`."""

    function: Callable[[np.ndarray[Any, np.dtype[np.float64]]], float]
    identity: str
    by: str = ""


def _piqe(files: Files) -> _Alone:
    return _Alone(piqe, "piqe 1")


def _brisque(files: Files) -> _Alone:
    return _Alone(brisque.installed().score, "brisque 1")


def _niqe(files: Files) -> _Alone:
    if files.niqe is None:
        hint = "name them with niqe=FILE, or choose niqe-house, which does not compare with papers"
        raise UsageError("NIQE needs its authors' numbers", hint, parameters=("niqe",))
    return _of_niqe(niqe.from_file(files.niqe))


def _niqe_house(files: Files) -> _Alone:
    return _of_niqe(niqe.house())


def _of_niqe(model: niqe.Naturalness) -> _Alone:
    return _Alone(model.distance, f"niqe 1 {model.digest}", f"its numbers {model.digest}")


def _no_reference(
    name: str, title: str, what: str, digits: int, make: Callable[[Files], _Alone]
) -> dict[str, Callable[[Files], Score]]:
    """Of the restored picture, and as lr-NAME of the small one."""

    def restored(files: Files) -> Score:
        alone = make(files)

        def of(seen: Seen) -> float:
            return alone.function(_levels(seen.restored))

        return Score(name, title, what, False, digits, alone.identity, True, alone.by, of)

    def small(files: Files) -> Score:
        alone = make(files)

        def of(seen: Seen) -> float:
            return alone.function(_levels(seen.small))

        words = f"lr-{name}", f"LR {title}", f"{what}, of the small picture"
        return Score(*words, False, digits, f"lr {alone.identity}", True, alone.by, of)

    return {name: restored, f"lr-{name}": small}


_MAKERS: dict[str, Callable[[Files], Score]] = {
    "lr-psnr": _lr_psnr_score,
    "diversity": _diversity_score,
    "lpips": _lpips_score,
    "house-lpips": _house_lpips_score,
    **_house_set("frechet-house", "Frechet (house)", "between sets' patches, by mean and covariance", 3, _frechet),
    **_house_set("kid-house", "KID (house)", "between sets' patches, by a cubic kernel", 4, kernel_distance),
    **_no_reference("niqe", "NIQE", "statistics of patches against the authors' good photographs", 3, _niqe),
    **_no_reference("niqe-house", "NIQE (house)", "the same against our training photographs", 3, _niqe_house),
    **_no_reference("piqe", "PIQE", "share of busy blocks that look blocky or noisy, 0 to 100", 2, _piqe),
    **_no_reference("brisque", "BRISQUE", "what people would say, about 0 to 100", 2, _brisque),
}
NAMES = (*PROTOCOL, *_MAKERS)
"""All that `--metrics` knows."""
