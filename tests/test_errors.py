"""Errors name the parameter to users of the Python API, and the option on the command line."""

from __future__ import annotations

import ast
import io
import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from commandline import picture, runner
from PIL import Image
from test_images_write import picture as made

import irnscale
from irnscale.errors import IrnscaleError, UsageError
from irnscale.images.read import read_picture
from irnscale.images.segments import attached
from irnscale.images.write import check_format_limits, check_options, check_transparency, write_bytes_atomic
from irnscale.zoo import recorded, super_resolution


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


PNG = saved(Image.new("RGB", (9, 9)), "PNG")
_HEADER = b"IHDR" + struct.pack(">II", 20000, 20000) + PNG[24:29]
BOMB = PNG[:12] + _HEADER + struct.pack(">I", zlib.crc32(_HEADER)) + PNG[33:]
FRAMES = saved(
    Image.new("L", (9, 9)), "GIF", save_all=True, append_images=[Image.fromarray(np.full((9, 9), 200, np.uint8))]
)
CLEAR = made(alpha=True)

WRONG = [
    ({"max_memory": "foo"}, "max_memory=foo: not a size", "--max-memory foo: not a size"),
    ({"max_memory": "0"}, "max_memory=0: not a size", "--max-memory 0: not a size"),
    ({"device": "gpu"}, "device=gpu: not a device", "--device gpu: not a device"),
    ({"device": "meta"}, "device=meta: not supported", "--device meta: not supported"),
    ({"device": "cuda:99"}, "device=cuda:99: this machine has", "--device cuda:99: this machine has"),
]


@pytest.mark.parametrize(("options", "said", "printed"), WRONG)
def test_the_name_is_that_of_who_asks(capfdbinary, monkeypatch, tmp_path, options, said, printed):
    with pytest.raises(IrnscaleError) as caught:
        irnscale.load(2, **options)
    assert str(caught.value).startswith(said)
    assert "--" not in str(caught.value)
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    run = runner(capfdbinary, monkeypatch)
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    for command in (("down", "a.png", "-s", 2), ("doctor", "--plan", "9x9", "-s", 2)):
        result = run(*command, *arguments)
        assert result.code == caught.value.exit_code
        assert any(printed in line for line in result.lines), result.lines
        assert not any(said in line for line in result.lines)


def test_what_does_not_fit(capfdbinary, monkeypatch, tmp_path):
    rescaler = irnscale.load(2, device="cpu", precision="float32", max_memory="1M", tile=64)
    with pytest.raises(IrnscaleError, match=r"into max_memory=1\.00 MiB .* at tile=64\)"):
        rescaler.plans("down", 4000, 3000)
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png", 640, 480)
    run = runner(capfdbinary, monkeypatch)
    result = run("down", "a.png", "-s", 2, "--max-memory", "1M", "--tile", 64, "--json")
    assert result.code == 4
    assert any("into --max-memory 1.00 MiB" in line and "at --tile 64" in line for line in result.lines), result.lines
    event = json.loads(result.text.splitlines()[0])
    assert "into --max-memory 1.00 MiB" in event["error"]
    assert event["remedy"].endswith("at --tile 64")


OF_IMAGES = [
    (lambda: read_picture(PNG, max_pixels=9), "raise it with `max_pixels` if", "raise it with --max-pixels if"),
    (lambda: read_picture(BOMB), "give max_pixels=400000000 if", "give --max-pixels 400000000 if"),
    (lambda: read_picture(FRAMES), "add frames=first to", "add --frames first to"),
    (lambda: check_options("png", 90, None), "`quality` has no meaning for png", "--quality has no meaning for png"),
    (lambda: check_options("png", None, "4:2:0"), "`subsampling` has no", "--subsampling has no"),
    (lambda: check_options("jpg", None, None, 16), "depth=16 has no meaning", "--depth 16 has no meaning"),
    (lambda: check_format_limits("webp", 20000, 1), "png or tiff with `format`", "png or tiff with --format"),
    (lambda: check_transparency(CLEAR, "jpg"), "or webp with `format`", "or webp with --format"),
    (lambda: write_bytes_atomic(b"", Path(__file__), overwrite=False), "add `overwrite` to", "add --overwrite to"),
    (lambda: super_resolution("irn-x4"), "leave `sr` out, or `model`)", "leave --sr out, or --model)"),
    (lambda: irnscale.load("irn-sr-x4"), "with `sr` and model=irn-sr-x4)", "with --sr and --model irn-sr-x4)"),
    (lambda: irnscale.load(5), "and named with `model`)", "and named with --model)"),
    (
        lambda: recorded("irn-x9", "0" * 16, 4),
        ".safetensors with `model`; `ig",
        ".safetensors with --model; --ignore-p",
    ),
    (lambda: attached(b"", b"", "gif"), "leave `attach` out", "leave --attach out"),
]


@pytest.mark.parametrize(("call", "said", "printed"), OF_IMAGES)
def test_of_files(call, said, printed):
    with pytest.raises(IrnscaleError) as caught:
        call()
    assert said in str(caught.value)
    assert printed in caught.value.line


def test_16_bits_without_imagecodecs(monkeypatch):
    monkeypatch.setattr("irnscale.images.extras.has_io", lambda: False)
    with pytest.raises(UsageError) as caught:
        check_options("png", None, None, 16)
    assert str(caught.value).startswith("depth=16 as png needs")
    assert str(caught.value).endswith("or choose format=tiff)")
    assert caught.value.line.startswith("--depth 16 as png needs")
    assert caught.value.line.endswith("or choose --format tiff)")


@pytest.mark.parametrize("folder", ["images", "engine", "detail", "zoo"])
def test_no_option_is_named_by_what_the_api_calls(folder):
    """Strings but docstrings, and but advice to run a command."""
    for path in (Path(irnscale.__file__).parent / folder).glob("*.py"):
        tree = ast.parse(path.read_text())
        bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        whole = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
        bare |= {id(value) for node in whole for value in node.values}
        texts = ["".join(v.value if isinstance(v, ast.Constant) else "x" for v in node.values) for node in whole]
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
                texts.append(node.value)
        for text in texts:
            said = re.sub(r"`irnscale [^`]*`", "", text)
            named = re.search(r"(?<![\w-])(?:--[a-z]|-[a-zA-Z0](?![\w-]))", said)
            assert not named, f"{path.name}: {text}"


def test_only_what_is_named_is_translated():
    error = UsageError("tile=4.png: device=x and `tile`", "tile=2", parameters=("tile",))
    assert error.line == "--tile 4.png: device=x and --tile (--tile 2)"
    assert UsageError("tile=4.png", "`tile`").line == "tile=4.png (`tile`)"
