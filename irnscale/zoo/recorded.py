"""The models that a file's record means: those with the weights that its digest names, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from irnscale.errors import ModelError
from irnscale.zoo.store import Model, archive_hint, combined_digest, installed

MOST_TRIED = 100_000
"""Combinations of models that are hashed for one record; a hostile one may ask for millions."""


def recorded(names: str, digest: str, scale: int) -> list[Model]:
    """The installed models with the weights of `digest`, in the order of downscaling, for a picture of `scale`.

    names: what the record calls them, joined by "+". It says how many there are, and which to prefer where two have
    the same weights; the digest decides. Raises ModelError naming what is missing, and what to do.
    """
    wanted = names.split("+")
    broken: dict[Path, ModelError] = {}
    everything = [model for model in installed(broken) if model.task == "rescaling"]
    for tried, models in enumerate(_combinations(everything, wanted, scale)):
        if combined_digest(models) == digest:
            return models
        if tried == MOST_TRIED:
            break
    for path, error in broken.items():
        if path.stem in wanted:
            raise error
    what = f"was made with the model {names!r} ({digest}), which is not installed"
    if all(any(model.card.name == name for model in everything) for name in wanted):
        what = f"was made with other weights of {names} ({digest}) than the installed ones"
    raise ModelError(
        what,
        f"{archive_hint()}; else give its .safetensors with `model`; "
        "`ignore_provenance` tries other weights, at a loss",
        parameters=("model", "ignore_provenance"),
    )


def _combinations(models: Sequence[Model], wanted: Sequence[str], scale: int) -> Iterator[list[Model]]:
    """As many models as there are names, whose scales multiply to `scale`; those of these names come first."""
    if not wanted:
        if scale == 1:
            yield []
        return
    for model in sorted(models, key=lambda model: model.card.name != wanted[0]):
        rest = scale // max(model.card.scale, 1)
        # every further model halves at least
        if rest * model.card.scale == scale and rest >= 2 ** (len(wanted) - 1):
            for others in _combinations(models, wanted[1:], rest):
                yield [model, *others]
