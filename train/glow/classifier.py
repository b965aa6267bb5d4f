"""The small classifier whose features the Frechet distance is measured on."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from irnscale.train.glow.digits import WHITE, Digits

FEATURES = 64
EPOCHS = 12
BATCH = 64


class Classifier(nn.Module):
    """Pictures (N, 1, 8, 8) in 0..16 -> (N, 10) scores; `features` are the 64 numbers before the last layer.

    As many as the layer of Inception that the dissertation took (torchmetrics' `feature=64`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
            nn.Flatten(),
        )
        self.hidden = nn.Linear(32 * 16, FEATURES)
        self.scores = nn.Linear(FEATURES, 10)

    def features(self, x: Tensor) -> Tensor:
        """(N, 64), before the ReLU, where they are closer to a Gaussian."""
        return cast(Tensor, self.hidden(self.convolutions(x / WHITE)))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 8, 8) in 0..16 -> scores of the ten digits, (N, 10)."""
        return cast(Tensor, self.scores(F.relu(self.features(x))))


def train_classifier(digits: Digits, seed: int, epochs: int = EPOCHS) -> Classifier:
    """Trained on the training pictures; a function of them and `seed`, so that all flows of a seed share it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        classifier = Classifier()
        optimizer = torch.optim.Adam(classifier.parameters(), 2e-3)
        for _ in range(epochs):
            for index in torch.split(torch.randperm(len(digits.train)), BATCH):
                loss = F.cross_entropy(classifier(digits.train[index]), digits.train_labels[index])
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
    return classifier.eval()


@torch.no_grad()
def accuracy(classifier: Classifier, digits: Digits) -> float:
    """Share of the test pictures that it names rightly."""
    return float((classifier(digits.test).argmax(1) == digits.test_labels).double().mean())
