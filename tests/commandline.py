"""Runs the command line inside the test's process, and looks at files from outside irnscale."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from conftest import synthetic_photo
from PIL import Image, PngImagePlugin

from irnscale.cli.main import main
from irnscale.zoo import combined_name, compose
from irnscale.zoo.store import shipped_folder

KEYWORD = "irnscale"


@dataclass
class Result:
    """What a run left: exit code, the bytes on stdout, the lines on stderr."""

    code: int
    stdout: bytes
    lines: list[str]

    @property
    def text(self) -> str:
        return self.stdout.decode()

    @property
    def warnings(self) -> list[str]:
        return [line for line in self.lines if line.startswith("irnscale: warning:")]


Run = Callable[..., Result]


def shipped_name(scale: int, *, jpeg_resistant: bool = False) -> str:
    """What `-s` takes: the newest generation of each family, whatever that is called."""
    return combined_name(compose(scale, jpeg_resistant=jpeg_resistant))


def runner(capfdbinary, monkeypatch) -> Run:
    """`run("down", path, ..., stdin=b"...")`."""

    def run(*arguments: object, stdin: bytes | None = None) -> Result:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capfdbinary.readouterr()
        code = main([str(a) for a in arguments])
        out, err = capfdbinary.readouterr()
        return Result(code, out, err.decode().splitlines())

    return run


def picture(path: Path, width: int = 21, height: int = 14, mode: str = "RGB", **options) -> Path:
    """Save a small photograph with Pillow; the extension gives the format."""
    image = Image.fromarray(synthetic_photo(height, width)).convert(mode)
    if mode.endswith("A"):
        ramp = np.linspace(0, 255, width * height).reshape(height, width).astype(np.uint8)
        image.putalpha(Image.fromarray(ramp))
    image.save(path, **options)
    return path


def astronaut() -> Image.Image:
    """128 x 96 of the photograph that comes with the package."""
    with Image.open(str(resources.files("irnscale") / "assets" / "astronaut.png")) as image:
        return image.convert("RGB").crop((200, 60, 328, 156))


def decibel(one: np.ndarray, other: np.ndarray) -> float:
    """PSNR of 8-bit arrays, over all channels."""
    error = ((one.astype(float) - other.astype(float)) ** 2).mean()
    return float(10 * np.log10(255**2 / error))


def pixels(source: Path | bytes) -> np.ndarray:
    """What Pillow reads."""
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        return np.asarray(image)


def resave(source: Path, target: Path, change: Callable[[Image.Image], Image.Image], record: bool = True) -> Path:
    """Change the picture in a PNG, as an editor does that keeps the record, or one that drops it."""
    with Image.open(source) as image:
        changed = change(image)
        info = PngImagePlugin.PngInfo()
        if record:
            info.add_itxt(KEYWORD, image.info[KEYWORD])
        changed.save(target, pnginfo=info)
    return target


def files(folder: Path) -> list[str]:
    """Every file and folder below `folder`."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def copied_model(folder: Path, name: str = "irn-x2") -> Path:
    """A copy of a shipped model, called "own", for tests to damage; its weights file."""
    folder.mkdir(exist_ok=True)
    for suffix in (".json", ".safetensors"):
        shutil.copy(shipped_folder() / f"{name}{suffix}", folder / f"own{suffix}")
    card = folder / "own.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"name": "own"}))
    return folder / "own.safetensors"


def tiny_model(folder: Path, name: str = "tiny", **card: Any) -> str:
    """An untrained x2 network of one narrow coupling, where results do not matter but time does; its name.

    `card`: fields of its card."""
    from irnscale.networks import IRN, IRNConfig
    from irnscale.zoo.save import save_model

    config = IRNConfig(scale=2, inv_per_ds=1, growth=4)
    save_model(folder, name, config, IRN(config).state_dict(), **card)
    return name
