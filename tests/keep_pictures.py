"""Small pictures of every model, and what they are restored to, kept for ever.

    python tests/keep_pictures.py [--again | --release] [NAME...]

makes those that `tests/kept` lacks: for each installed model of irnscale, or those named, `NAME.png` as `down` writes
it (`NAME.jpg` too where the model survives that), or a bicubic picture where the model is for those, and
`NAME.restored.png`, in float32. Pictures of a released model are never made again: `--again` is for weights that were
not released yet, and refuses the others. `--release` writes into `tests/kept/released.json` which weights the names of
all models are bound to from now on; what stands there is never changed.
"""

from __future__ import annotations

import argparse
import json
from importlib import resources
from pathlib import Path

import torch
from PIL import Image

from irnscale.engine.pictures import restore, shrink
from irnscale.engine.rescaler import Rescaler
from irnscale.images.bicubic import bicubic_down
from irnscale.images.picture import Picture
from irnscale.images.read import read_picture
from irnscale.images.write import encode_picture
from irnscale.zoo import Model, base_of, compose, models

KEPT = Path(__file__).parent / "kept"
RELEASED = KEPT / "released.json"
"""The sha256 of the weights of every model that a release had, by its name."""
BOX = (216, 92, 289, 147)
"""Of the astronaut: her eye and its surroundings, 73 x 55, sizes that no scale divides."""
COMPOSED = (8, 16)
"""Scales that two models in a row make."""


def rescaler_of(chosen: list[Model]) -> Rescaler:
    """In float32 on the CPU: what "to the pixel" is said of."""
    options = {"device": "cpu", "precision": "float32"}
    if chosen[0].task == "assistance":
        return Rescaler([base_of(chosen[0])], assistant=chosen[0], **options)
    return Rescaler(chosen, **options)


def original() -> Picture:
    """The part of the photograph that is shrunk."""
    data = (resources.files("irnscale") / "assets" / "astronaut.png").read_bytes()
    whole = read_picture(data, "astronaut.png").stripped("all")
    left, top, right, bottom = BOX
    return whole.with_pixels(whole.pixels[top:bottom, left:right])


def bicubic(scale: int) -> bytes:
    """A small PNG that no model made."""
    pixels = original().pixels
    high, wide = (side // scale * scale for side in pixels.shape[:2])
    tensor = torch.from_numpy(pixels[:high, :wide].copy()).permute(2, 0, 1)[None].float() / 255
    small = (bicubic_down(tensor, scale)[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return encode_picture(Picture(small, None, False, False, 8, None, None, None, "png", "0" * 64), "png")


def keep(chosen: list[Model], *, again: bool) -> list[Path]:
    """Write the pictures of one model, or of several in a row. Returns their files."""
    rescaler = rescaler_of(chosen)
    mode = "wb" if again else "xb"
    written = []
    for extension in ("png", "jpg") if rescaler.jpeg_resistant and len(chosen) == 1 else ("png",):
        path = KEPT / f"{rescaler.name}.{extension}"
        restored = KEPT / (f"{rescaler.name}.restored.png" if extension == "png" else f"{path.name}.restored.png")
        if rescaler.assistant is not None or not rescaler.shrinks:
            data = bicubic(rescaler.scale)
        else:
            small, record = shrink(rescaler, original(), settings="kept")
            data = encode_picture(small, extension, quality=90 if extension == "jpg" else None, record=record)
        for file, content in ((path, data), (restored, restored_from(rescaler, data))):
            with file.open(mode) as stream:
                stream.write(content)
            written.append(file)
    return written


def restored_from(rescaler: Rescaler, data: bytes) -> bytes:
    """A PNG of what `up` makes of a small picture, without metadata."""
    small = read_picture(data, "small")
    size = None if small.record is None else (small.record.width, small.record.height)
    return encode_picture(restore(rescaler, small, size=size, settings="kept")[0].stripped("all"), "png")


def released() -> dict[str, str]:
    """What `RELEASED` says."""
    found: dict[str, str] = json.loads(RELEASED.read_text())
    return found


def release() -> list[str]:
    """Bind the names of all models that are not yet. Returns them; raises SystemExit where one has other weights."""
    bound, found = released(), {model.card.name: model.card.sha256 for (model, *more) in wanted([]) if not more}
    if changed := [name for name in found if bound.get(name, found[name]) != found[name]]:
        raise SystemExit(f"{', '.join(changed)}: released with other weights; better ones are a new generation")
    RELEASED.write_text(json.dumps(bound | found, indent=2, sort_keys=True) + "\n")
    return sorted(found.keys() - bound.keys())


def wanted(names: list[str]) -> list[list[Model]]:
    """The models to keep pictures of: each by itself, and the pairs that scales 8 and 16 take."""
    single = [[model] for model in models() if model.shipped or model.archived]
    pairs = [compose(scale, jpeg_resistant=jpeg) for scale in COMPOSED for jpeg in (False, True)]
    return [chosen for chosen in single + pairs if not names or "+".join(m.card.name for m in chosen) in names]


def main() -> None:
    """The script."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--again", action="store_true", help="replace what is there")
    parser.add_argument("--release", action="store_true", help="bind the names of all models to their weights")
    given = parser.parse_args()
    if given.release:
        print(f"bound: {', '.join(release()) or 'none'}")  # noqa: T201
        return
    for chosen in wanted(given.names):
        if given.again and all(released().get(m.card.name) == m.card.sha256 for m in chosen):
            print(f"{'+'.join(m.card.name for m in chosen)}: released, and kept as it is")  # noqa: T201
            continue
        if not given.again and (KEPT / f"{'+'.join(m.card.name for m in chosen)}.png").exists():
            continue
        for path in keep(chosen, again=given.again):
            with Image.open(path) as image:
                print(f"{path}: {image.width}x{image.height}, {path.stat().st_size} bytes")  # noqa: T201


if __name__ == "__main__":
    main()
