"""Errors name the parameter to users of the Python API, and the option on the command line."""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
import struct
import zlib
from importlib import import_module
from pathlib import Path

import click
import numpy as np
import pytest
from commandline import picture, runner
from PIL import Image
from source_tree import sources
from test_images_write import picture as made

import irnscale
from irnscale.cli.evaluate import COMMANDS as EVALUATE
from irnscale.cli.main import group
from irnscale.errors import IrnscaleError, Remark, UsageError, on_command_line
from irnscale.images.read import read_picture
from irnscale.images.segments import attached
from irnscale.images.write import check_format_limits, check_options, check_transparency, write_bytes_atomic
from irnscale.train.checkpoints import find_run
from irnscale.train.glow.metrics import check_inception
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
    (lambda: super_resolution("irn-x4"), "leave `sr` out, or `model`)", "leave --sr out, or -m)"),
    (lambda: irnscale.load("irn-sr-x4"), "with `sr` and model=irn-sr-x4)", "with --sr and -m irn-sr-x4)"),
    (lambda: irnscale.load(5), "and named with `model`)", "and named with -m)"),
    (
        lambda: recorded("irn-x9", "0" * 16, 4),
        ".safetensors with `model`; `ig",
        ".safetensors with -m; --ignore-p",
    ),
    (lambda: attached(b"", b"", "gif"), "leave `attach` out", "leave --attach out"),
    (lambda: find_run("0123", Path("runs/mine")), "resume=0123: no checkpoint", "--resume 0123: no checkpoint"),
    (lambda: find_run("a=1", Path("runs/mine")), "KEY=VALUE before `resume`", "KEY=VALUE before --resume"),
    (lambda: check_inception(Path("nowhere")), "leave `inception` out", "leave --inception out"),
]


@pytest.mark.parametrize(("call", "said", "printed"), OF_IMAGES)
def test_of_files(call, said, printed):
    with pytest.raises(IrnscaleError) as caught:
        call()
    assert said in str(caught.value)
    assert printed in caught.value.line


def test_16_bits_without_imagecodecs(monkeypatch):
    monkeypatch.setattr("irnscale.images.optional_decoders.has_io", lambda: False)
    with pytest.raises(UsageError) as caught:
        check_options("png", None, None, 16)
    assert str(caught.value).startswith("depth=16 as png needs")
    assert str(caught.value).endswith("or choose format=tiff)")
    assert caught.value.line.startswith("--depth 16 as png needs")
    assert caught.value.line.endswith("or choose --format tiff)")


SPEAK_IT = {"errors", "bench.kernels", "bench.large", "experiments.page"}
"""Modules that translate, that run commands, or that show which command was run."""


def test_no_option_is_named_by_what_the_api_calls():
    """Strings but docstrings, and but advice to run a command."""
    modules = {name.removeprefix("irnscale."): path for name, path in sources().items()}
    modules = {name: path for name, path in modules.items() if not name.startswith("cli.") and name not in SPEAK_IT}
    assert {"engine.rescaler", "kernels.coupling", "train.loop"} <= modules.keys()
    assert len(modules) > 280
    for name, path in modules.items():
        for text in texts_of(path.read_text()):
            assert not names_an_option(text), f"{name}: {text}"


def test_an_option_in_a_text_is_seen():
    (text,) = texts_of('def f(x):\n    """Not -x."""\n    raise UsageError(f"{x}: leave --sr out")')
    assert names_an_option(text)
    assert names_an_option("leave `scale` out, or -s, or `model`")
    assert not names_an_option("find . -print0, or `irnscale up --sr small.png`, or irn-sr-x4 or a - b")


def texts_of(source: str) -> list[str]:
    """All strings of a source but docstrings; an f-string in one piece."""
    tree = ast.parse(source)
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    whole = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    bare |= {id(value) for node in whole for value in node.values}
    texts = ["".join(v.value if isinstance(v, ast.Constant) else "x" for v in node.values) for node in whole]
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            texts.append(node.value)
    return texts


def names_an_option(text: str) -> bool:
    """Outside of commands, which are in backticks and have blanks."""
    said = re.sub(r"`[^`]*`", lambda match: "" if " " in match[0] else match[0], text)
    return re.search(r"(?<![\w-])(?:--[a-z]|-[a-zA-Z0](?![\w-]))", said) is not None


def test_only_what_is_named_is_translated():
    error = UsageError("tile=4.png: device=x and `tile`", "tile=2", parameters=("tile",))
    assert error.line == "--tile 4.png: device=x and --tile (--tile 2)"
    assert UsageError("tile=4.png", "`tile`").line == "tile=4.png (`tile`)"


def test_options_as_they_are_best_known():
    named = ("scale", "jpeg_resistant", "max_pixels")
    text = "scale=3 or downscale=3, jpeg_resistant=False, jpeg_resistant=True, `max_pixels`, max_pixels=9"
    shown = "-s 3 or downscale=3, --no-jpeg-resistant, --jpeg-resistant, --max-pixels, --max-pixels 9"
    assert UsageError(text, parameters=named).line == shown
    assert on_command_line(Remark(text, *named)) == shown
    assert on_command_line(text) == text


def test_a_remark_is_told_from_another_process_too():
    remark = pickle.loads(pickle.dumps(Remark("`scale`", "scale")))
    assert (remark, on_command_line(remark)) == ("`scale`", "-s")


def test_remarks_name_the_parameter_to_the_api_and_the_option_on_the_command_line(capfdbinary, monkeypatch, tmp_path):
    Image.new("L", (32, 32), 99).save(tmp_path / "gray.png")
    written = irnscale.down_file(tmp_path / "gray.png", tmp_path / "small.png", scale=2)
    assert any("gray=color" in text for text in written.warnings)
    assert not any("--" in text for text in written.warnings)
    monkeypatch.chdir(tmp_path)
    result = runner(capfdbinary, monkeypatch)("down", "gray.png", "-s", 2, "--json")
    assert any("the three of --gray color" in line for line in result.lines), result.lines
    assert "--gray color" in json.loads(result.text.splitlines()[0])["warnings"][0]


def test_every_parameter_that_is_named_is_an_option():
    known = options_of(group).union(*(options_of(import_module(name).evaluate) for name in EVALUATE.values()))
    assert {"--scale", "--max-memory", "-0"} <= known
    for path in sources().values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "parameters" and isinstance(node.value, ast.Tuple):
                names = [name.value for name in node.value.elts if isinstance(name, ast.Constant)]
                for name in names:
                    assert UsageError(f"`{name}`", parameters=(name,)).line in known, f"{path.name}: {name}"


def options_of(command: click.Command) -> set[str]:
    """Those of a command and of all commands in it."""
    found = {text for option in command.params for text in (*option.opts, *option.secondary_opts)}
    if isinstance(command, click.Group):
        context = click.Context(command)
        found = found.union(
            *(options_of(command.get_command(context, name)) for name in command.list_commands(context))
        )
    return found
