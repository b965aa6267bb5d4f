"""The models: cards, weights, where they are. Importing this does not import torch."""

from __future__ import annotations

from irnscale.zoo.cards import ModelCard, read_card
from irnscale.zoo.recorded import recorded
from irnscale.zoo.store import (
    Model,
    base_of,
    combined_digest,
    combined_name,
    combined_scale,
    compose,
    default_model,
    find,
    find_all,
    load_network,
    models,
    new_folder,
    newest,
    super_resolution,
    user_folder,
    verify,
)

__all__ = [
    "Model",
    "ModelCard",
    "base_of",
    "combined_digest",
    "combined_name",
    "combined_scale",
    "compose",
    "default_model",
    "find",
    "find_all",
    "load_network",
    "models",
    "new_folder",
    "newest",
    "read_card",
    "recorded",
    "super_resolution",
    "user_folder",
    "verify",
]
