"""How good a flow is: likelihood of the test pictures, and how far its samples are from them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from irnscale.errors import InputError, UsageError
from irnscale.metrics.sets import frechet_distance
from irnscale.networks.flow import bits_per_dimension
from irnscale.networks.glow import Glow
from irnscale.train.glow.classifier import Classifier, accuracy, train_classifier
from irnscale.train.glow.digits import WHITE, Digits, add_noise, to_levels

NOISE_DRAWS = 8
SAMPLES = 1617  # as many as training pictures, whose own distance is then the floor


@torch.no_grad()
def log_likelihood(flow: Glow, pictures: Tensor) -> float:
    """Mean log p(x) in nats of the raw values, without noise: the dissertation's protocol (its section 4.1)."""
    device = next(flow.parameters()).device
    return float(flow(pictures.to(device)).double().mean())


@torch.no_grad()
def dequantized_log_likelihood(flow: Glow, pictures: Tensor, seed: int = 0) -> float:
    """Mean log p(x + u) in nats, u uniform on [-1/2, 1/2), over 8 draws of u: a lower bound of log P(x).

    Source: Theis et al. 2016, section 3.1.
    """
    generator = torch.Generator().manual_seed(seed)
    return sum(log_likelihood(flow, add_noise(pictures, generator)) for _ in range(NOISE_DRAWS)) / NOISE_DRAWS


def overflowing(samples: Tensor) -> int:
    """How many of the samples are not finite somewhere, or further from black than ten times white."""
    return int((~(samples.abs() <= 10 * WHITE)).flatten(1).any(1).sum())


@torch.no_grad()
def frechet(classifier: Classifier, one: Tensor, other: Tensor) -> float:
    """Frechet distance of two sets of pictures (N, 1, 8, 8) on the classifier's features."""
    first, second = (classifier.features(to_levels(x.cpu())) for x in (one, other))
    return frechet_distance(first, second)


def measure(flow: Glow, untrained: Glow, digits: Digits, seed: int) -> dict[str, float]:
    """The numbers of the dissertation's table 4.1 and what they are to be compared with."""
    classifier = train_classifier(digits, seed)
    trained, at_first = (of.sample(SAMPLES, 1.0, torch.Generator().manual_seed(seed)) for of in (flow, untrained))
    nats = dequantized_log_likelihood(flow, digits.test)
    return {
        "parameters": sum(p.numel() for p in flow.parameters() if p.requires_grad),
        "log_likelihood": log_likelihood(flow, digits.test),
        "log_likelihood_train": log_likelihood(flow, digits.train),
        "log_likelihood_untrained": log_likelihood(untrained, digits.test),
        "log_likelihood_dequantized": nats,
        "bits_per_dimension": bits_per_dimension(torch.tensor(nats), flow.config.size**2, spacing=1.0).item(),
        "frechet": frechet(classifier, digits.test, trained),
        "samples_overflowing": overflowing(trained),
        "frechet_untrained": frechet(classifier, digits.test, at_first),
        "frechet_of_training_pictures": frechet(classifier, digits.test, digits.train),
        "classifier_accuracy": accuracy(classifier, digits),
    }


def check_inception(weights: Path) -> None:
    """Raise UsageError where the packages are missing, InputError where the file is, or is not of weights."""
    if not weights.is_file():
        hint = "give torch-fidelity's Inception weights, or leave `inception` out"
        raise InputError(f"{weights}: no such file", hint, parameters=("inception",))
    try:
        import torch_fidelity  # noqa: F401 - torchmetrics asks for it only when it is too late for one clear line
        import torchmetrics  # noqa: F401
    except ImportError as error:
        hint = "pip install 'torchmetrics[image]', or leave it out"
        raise UsageError(f"`inception`: {error}", hint, parameters=("inception",)) from error
    try:
        # torch-fidelity unpickles the file without asking what it would execute; this does ask.
        state = torch.load(weights, weights_only=True, map_location="cpu")
        known = isinstance(state, dict) and "Conv2d_1a_3x3.conv.weight" in state
    except Exception:  # noqa: BLE001 - a damaged or foreign file makes torch raise anything
        known = False
    if not known:
        what, hint = f"{weights}: not torch-fidelity's Inception weights", "leave `inception` out"
        raise InputError(what, hint, parameters=("inception",))


def inception_frechet(weights: Path, one: Tensor, other: Tensor, feature: int = 64) -> float:
    """The dissertation's own measure: torchmetrics' FID on `feature` channels of Inception v3.

    `weights` is torch-fidelity's file (weights-inception-2015-12-05-6726825d.pth); nothing is downloaded. Raises what
    `check_inception` raises.
    """
    check_inception(weights)
    from torchmetrics.image.fid import FrechetInceptionDistance

    measure = FrechetInceptionDistance(feature=feature, feature_extractor_weights_path=str(weights))
    for pictures, real in ((one, True), (other, False)):
        gray = (to_levels(pictures.cpu()) * (255 / WHITE)).round().to(torch.uint8)
        for batch in torch.split(gray.expand(-1, 3, -1, -1), 64):
            measure.update(batch, real=real)
    return float(measure.compute())
