"""Large pictures through the command line: time per megapixel and peak of anonymous memory, whole processes."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from irnscale.engine.memory import anonymous_memory
from irnscale.errors import DeviceError
from irnscale.sizes import format_memory

SMALL = 64
"""Side of the picture whose processes tell what Python and torch take by themselves."""


@dataclass(frozen=True)
class Process:
    """One command, from start to end. peak: the most anonymous memory (RssAnon) seen, in bytes."""

    direction: str
    seconds: float
    peak: int
    fixed: int

    @property
    def own(self) -> int:
        """The peak less what the same command takes for a picture of 64 x 64."""
        return self.peak - self.fixed


@dataclass(frozen=True)
class Large:
    """Both directions of one size, measured, and how well it came back."""

    width: int
    height: int
    scale: int
    max_memory: str | None
    processes: tuple[Process, ...]
    psnr: float

    def to_dict(self) -> dict[str, Any]:
        """The fields as an object for JSON: names to numbers and strings."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Lines for people: the size, then seconds and peak memory of each direction, then PSNR."""
        megapixels = self.width * self.height / 1e6
        limit = f", --max-memory {self.max_memory}" if self.max_memory else ""
        found = [f"x{self.scale}, {self.width}x{self.height} ({megapixels:.1f} megapixels){limit}"]
        for p in self.processes:
            found.append(
                f"  {p.direction:4} {p.seconds:7.1f} s  {p.seconds / megapixels:6.2f} s per megapixel  peak "
                f"{format_memory(p.peak)} of anonymous memory, {format_memory(p.own)} more than for {SMALL}x{SMALL}"
            )
        return [*found, f"  restored: {self.psnr:.2f} dB in RGB"]


def run_watched(command: Sequence[str]) -> tuple[float, int]:
    """Run a command; (seconds, peak of its anonymous memory). Raises DeviceError where it fails."""
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen(list(command), stderr=subprocess.PIPE)
    while process.poll() is None:
        peak = max(peak, anonymous_memory(process.pid) or 0)
        time.sleep(0.02)
    seconds = time.perf_counter() - started
    if process.returncode:
        said = process.stderr.read().decode(errors="replace") if process.stderr else ""
        raise DeviceError(f"{' '.join(command[1:5])} ended with {process.returncode}: {said.strip()}")
    return seconds, peak


def photograph(path: Path, width: int, height: int) -> None:
    """A PNG of any size: the shipped photograph, repeated, each row of copies shifted and each second one mirrored."""
    data = resources.files("irnscale").joinpath("assets", "astronaut.png").read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        tile = np.asarray(image.convert("RGB"))
    pair = np.concatenate((tile, tile[:, ::-1]), axis=1)
    picture = Image.new("RGB", (width, height))
    for y in range(0, height, tile.shape[0]):
        row = np.roll(pair, y // 3, axis=1)
        row = np.tile(row, (1, -(-width // row.shape[1]), 1))[: height - y, :width]
        picture.paste(Image.fromarray(row), (0, y))
    picture.save(path, compress_level=1)


def difference(a: Path, b: Path) -> float:
    """PSNR in RGB, in dB, a band of rows at a time."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(a) as one, Image.open(b) as other:
            if one.size != other.size:
                raise DeviceError(f"restored to {other.size[0]}x{other.size[1]}, not to {one.size[0]}x{one.size[1]}")
            total = 0.0
            for y in range(0, one.height, 256):
                box = (0, y, one.width, min(y + 256, one.height))
                delta = np.asarray(one.crop(box)).astype(np.float32) - np.asarray(other.crop(box))
                total += float(np.square(delta).sum(dtype=np.float64))
            mean = total / (3 * one.width * one.height)
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    return 10 * float(np.log10(255**2 / mean)) if mean else float("inf")


def measure(
    width: int, height: int, *, scale: int = 4, max_memory: str | None = None, options: Sequence[str] = ()
) -> Large:
    """`irnscale down` and `irnscale up` of a picture of this size, each a process of its own."""
    base = [sys.executable, "-m", "irnscale"]
    shared = ["--overwrite", "--quiet", "-j", "1", *options]
    limit = ["--max-memory", max_memory] if max_memory else []
    with tempfile.TemporaryDirectory(prefix="irnscale-bench-") as folder:
        large, small, restored = (str(Path(folder) / name) for name in ("large.png", "small.png", "restored.png"))
        pairs = {
            "down": [*base, "down", large, "-s", str(scale), "-o", small, *shared],
            "up": [*base, "up", small, "-o", restored, *shared],
        }
        peaks = {}
        photograph(Path(large), SMALL, SMALL)
        for direction, command in pairs.items():
            peaks[direction] = run_watched(command)[1]
        photograph(Path(large), width, height)
        bound = ["--max-pixels", str(max(width * height, 10**9))]
        processes = tuple(
            Process(direction, *run_watched([*command, *limit, *bound]), peaks[direction])
            for direction, command in pairs.items()
        )
        return Large(width, height, scale, max_memory, processes, difference(Path(large), Path(restored)))
