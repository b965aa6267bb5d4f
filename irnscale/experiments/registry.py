"""All experiments, in the order of the dissertation."""

from __future__ import annotations

from irnscale.errors import UsageError
from irnscale.experiments.base import Experiment
from irnscale.experiments.comparisons import EPOCHS, JPEG, KAIMING, L1_L2, LUMA, PROPOSAL_1, QUANTISED, TIGHT
from irnscale.experiments.flows import HCFLOW
from irnscale.experiments.measured import BICUBIC, CHEATING, GLOW, LIPSCHITZ, RESCALING, SHIPPED_SR
from irnscale.experiments.super_resolution import SR

EXPERIMENTS = (
    KAIMING,
    QUANTISED,
    GLOW,
    RESCALING,
    EPOCHS,
    TIGHT,
    LUMA,
    HCFLOW,
    CHEATING,
    L1_L2,
    JPEG,
    SHIPPED_SR,
    SR,
    BICUBIC,
    PROPOSAL_1,
    LIPSCHITZ,
)


def find_experiment(name: str) -> Experiment:
    """The experiment of a name. Raises UsageError that names all."""
    for experiment in EXPERIMENTS:
        if experiment.name == name:
            return experiment
    raise UsageError(f"no experiment is called {name!r}", f"there are {', '.join(e.name for e in EXPERIMENTS)}")
