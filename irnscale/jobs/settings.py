"""What all pictures of a run have in common: how they are rescaled, and how their files are written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from irnscale.batch.outputs import Output
from irnscale.errors import check_choice


@dataclass(frozen=True)
class Settings:
    """What a worker has to know besides the task and the input. Picklable.

    model: names of models joined by "+", or a .safetensors file; None: those that ship for the scale. jpeg_resistant:
    None: by the format. device, precision, tile, max_memory: as `Rescaler` takes them. max_pixels, frames: as
    `read_picture` takes them. dry_run: say what would be done. threads: that decode ahead, and as many that encode.
    verbose: say how the network is run, too.
    """

    files: Output = field(default_factory=Output)
    model: str | None = None
    jpeg_resistant: bool | None = None
    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    max_memory: str | None = None
    max_pixels: int | None = None
    frames: str = "error"
    dry_run: bool = False
    threads: int = 1
    verbose: bool = False

    def __post_init__(self) -> None:
        check_choice("frames", self.frames, ("error", "first"))


@dataclass(frozen=True)
class Message:
    """What people should know of a run. say: what happened, for those who watch. note: what was chosen for them.

    warn: what they should know. once: the same text is shown once in a run, whichever worker says it.
    """

    level: Literal["say", "note", "warn"]
    text: str
    once: bool = False


Tell = Callable[[Message], None]
"""Shows a message, or passes it on to who shows it."""
