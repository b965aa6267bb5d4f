"""Other programs as methods: a command that enlarges a picture file, and perhaps one that reduces it.

Their seconds include starting them and reading and writing files.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from irnscale.errors import IrnscaleError, UsageError
from irnscale.evaluation.methods import Made, Method, bicubic
from irnscale.evaluation.pictures import as_tensor
from irnscale.images.picture import Picture
from irnscale.images.read import read_picture
from irnscale.metrics import as_8bit

_FIELDS = re.compile(r"\{(in|out|scale|width|height)\}")
_HINT = "for example `NAME='program --scale {scale} {in} {out}'`"


@dataclass(frozen=True)
class Command:
    """A program from file to file: PNG in, PNG out. Run without a shell, in the folder of what it makes.

    words: with {in} and {out} for the files, {scale}, and {width} and {height} of what it must make.
    """

    name: str
    words: tuple[str, ...]

    @property
    def identity(self) -> str:
        """Changes with the command and with the size and time of the files that it names, its program included."""
        parts = [" ".join(self.words)]
        for word in self.words:
            path = shutil.which(word) if word == self.words[0] else word  # a script, a file of weights
            try:
                found = None if path is None else Path(path).stat()
            except (OSError, ValueError):
                found = None
            if found is not None:
                parts.append(f"{found.st_size} {found.st_mtime_ns}")
        return " ".join(parts)

    def run(self, given: Path, made: Path, scale: int, height: int, width: int) -> Picture:
        """Make `made`, width x height pixels, of the file `given`.

        Raises UsageError where it fails, or makes something else.
        """
        values = {"in": given, "out": made, "scale": scale, "width": width, "height": height}
        words = [_FIELDS.sub(lambda match: str(values[match[1]]), word) for word in self.words]
        options: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        try:
            ended = subprocess.run(words, cwd=made.parent, errors="replace", check=False, **options)
        except OSError as error:
            raise UsageError(f"{self.name}: {words[0]} cannot be run: {error.strerror}", "check the command") from error
        if ended.returncode:
            said = (ended.stderr.strip() or ended.stdout.strip() or "nothing").splitlines()[-1]
            raise UsageError(f"{self.name}: exit code {ended.returncode}: {said}", "check the command")
        try:
            picture = read_picture(made)
        except IrnscaleError as error:
            raise UsageError(f"{self.name}: {error.what}", "the command must write a picture to {out}") from error
        if (picture.height, picture.width) != (height, width):
            what = f"made {picture.width}x{picture.height} where {width}x{height} was wanted"
            raise UsageError(f"{self.name}: {what}", "use {scale}, or {width} and {height}, in the command")
        if picture.pixels.dtype != np.uint8:
            raise UsageError(f"{self.name}: wrote 16 bits a sample", "let it write 8")
        return picture


def parse(texts: tuple[str, ...], option: str) -> dict[str, Command]:
    """Commands by name, of NAME=COMMAND. Raises UsageError where one is not that, or lacks {in} or {out}."""
    found: dict[str, Command] = {}
    for text in texts:
        name, equals, line = text.partition("=")
        try:
            words = tuple(shlex.split(line))
        except ValueError as error:
            raise UsageError(f"{option} {text}: {str(error).lower()}", _HINT) from error
        if not equals or not name.strip() or not words:
            raise UsageError(f"{option} {text}: is not NAME=COMMAND", _HINT)
        missing = [field for field in ("{in}", "{out}") if field not in line]
        if missing:
            raise UsageError(f"{option} {text}: has no {missing[0]}", _HINT)
        if name.strip() in found:
            raise UsageError(f"{option}: {name.strip()} is given twice", "give each a name of its own")
        found[name.strip()] = Command(name.strip(), words)
    return found


def enlarging(up: Command, scale: int) -> Method:
    """Super-resolution by a command: the small picture is bicubic."""

    def restore(x: Tensor, draw: int) -> Tensor:
        with tempfile.TemporaryDirectory(prefix="irnscale-") as folder:
            given, made = Path(folder, "in.png"), Path(folder, "out.png")
            _write(x, given)
            return as_tensor(up.run(given, made, scale, x.shape[2] * scale, x.shape[3] * scale))

    identity = f"external 1 {up.identity}"
    return Method(f"{up.name} of bicubic", scale, identity, bicubic(scale)[0], restore, task="super-resolution")


def both_ways(down: Command, up: Command, scale: int) -> Method:
    """Rescaling by two commands; the second is given the very file that the first wrote, whatever is in it."""

    def go(x: Tensor) -> Made:
        height, width = x.shape[2:]
        with tempfile.TemporaryDirectory(prefix="irnscale-") as folder:
            original, small, made = (Path(folder, f"{name}.png") for name in ("in", "small", "out"))
            _write(x, original)
            started = time.perf_counter()
            reduced = down.run(original, small, scale, height // scale, width // scale)
            restored = up.run(small, made, scale, height, width)
            seconds = time.perf_counter() - started
            return Made(as_tensor(reduced), as_tensor(restored), small.stat().st_size, seconds)

    identity = f"external 1 {down.identity} {up.identity}"
    ways: dict[str, Any] = dict(zip(("shrink", "restore"), bicubic(scale), strict=True))
    return Method(up.name, scale, identity, **ways, travel=go, stored="its own png")


def _write(x: Tensor, path: Path) -> None:
    """(1, 3, H, W) in [0, 1], rounded to 8 bits, as PNG."""
    pixels = as_8bit(x)[0].permute(1, 2, 0).to(torch.uint8).cpu().numpy()
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, compress_level=1)
