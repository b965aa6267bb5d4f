"""The keys of what JPEG does to small pictures in training."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from irnscale.errors import UsageError
from irnscale.train.jpeg import SUBSAMPLINGS
from irnscale.train.keys import Group
from irnscale.train.objective import Draws


@dataclass(frozen=True)
class JPEGKeys(Group):
    """Each picture's quality is drawn from `compression_quality` ("75", or a range such as "10-99"), its chroma
    subsampling is `compression_subsampling` ("420", "422", "444", or "random": one of them for each).
    """

    compression_quality: str = "10-99"
    compression_subsampling: str = "420"

    def __post_init__(self) -> None:
        """Raise UsageError for values that are none."""
        super().__post_init__()
        _ = self.qualities, self.chroma

    @property
    def qualities(self) -> tuple[int, int]:
        """Lowest and highest quality. Raises UsageError."""
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", self.compression_quality)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high <= 100:
            raise UsageError(f"compression_quality={self.compression_quality} is not a quality or range within 1-100")
        return low, high

    @property
    def chroma(self) -> str | None:
        """The chroma subsampling as `jpeg.jpeg` names it; None: random. Raises UsageError."""
        if self.compression_subsampling == "random":
            return None
        for name in SUBSAMPLINGS:
            hours, minutes, seconds = map(int, name.split(":"))
            # YAML takes an unquoted 4:2:0 for a number in base sixty
            if self.compression_subsampling in (
                name,
                name.replace(":", ""),
                str(hours * 3600 + minutes * 60 + seconds),
            ):
                return name
        known = ", ".join(name.replace(":", "") for name in SUBSAMPLINGS)
        raise UsageError(f"compression_subsampling={self.compression_subsampling} must be {known} or random")

    def jpeg_draws(self, count: int, generator: torch.Generator) -> Draws:
        """ "quality" and, where it is random, "subsampling" of each crop."""
        low, high = self.qualities
        device = generator.device
        draws = {"quality": torch.randint(low, high + 1, (count,), generator=generator, device=device)}
        if self.chroma is None:
            draws["subsampling"] = torch.randint(len(SUBSAMPLINGS), (count,), generator=generator, device=device)
        return draws
