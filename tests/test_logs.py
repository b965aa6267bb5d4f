"""The logger `irnscale`: what it tells, that it costs nothing unless somebody listens, and that `--debug` shows it."""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from commandline import picture, runner

import irnscale
from irnscale.engine.plan import Plan

LOG = logging.getLogger("irnscale")


def test_it_tells_models_device_precision_kernels_and_tiles(caplog):
    caplog.set_level(logging.DEBUG, "irnscale")
    rescaler = irnscale.load(2, device="cpu", precision="float32")
    rescaler.down(np.zeros((40, 48, 3), np.uint8))
    text = "\n".join(f"{record.levelname} {record.name}: {record.getMessage()}" for record in caplog.records)
    model = rescaler.models[0]
    made = f"irn-x2, {model.card.digest}, on cpu in torch.float32: {model.weights}"
    assert f"INFO irnscale.engine.rescaler: {made}" in text
    assert f"DEBUG irnscale.zoo.store: irn-x2, of the family irn, is read from {model.weights}" in text
    assert "kernels in plain torch" in text or "kernels in Triton" in text
    assert "plan: irn-x2 down 48x40 on cpu in float32: tiles of" in text


def test_it_tells_what_a_number_format_costs(caplog):
    caplog.set_level(logging.INFO, "irnscale")
    model = irnscale.load(2, device="cpu").models[0]
    card = replace(model.card, precision_costs={"bfloat16": {"Set5": 0.02, "Kodak24": 0.0412}})
    caplog.clear()
    irnscale.Rescaler([replace(model, card=card)], device="cpu", precision="bfloat16")
    assert "in torch.bfloat16, which costs it 0.041 dB: " in caplog.text


def test_it_tells_of_fallbacks(caplog):
    caplog.set_level(logging.INFO, "irnscale")
    heard: list[str] = []
    rescaler = irnscale.load(2, device="cpu")
    rescaler = type(rescaler)(rescaler.models, device="cpu", warn=heard.append)
    rescaler._warn("out of memory")
    assert heard == ["out of memory"]
    assert ("irnscale.engine.rescaler", logging.INFO, "out of memory") in caplog.record_tuples


def test_nothing_is_formatted_unless_somebody_listens(monkeypatch):
    def described(plan: Plan) -> str:
        raise AssertionError("a message was formatted for nobody")

    monkeypatch.setattr(Plan, "describe", described)
    assert LOG.getEffectiveLevel() > logging.DEBUG
    irnscale.load(2, device="cpu").down(np.zeros((8, 8, 3), np.uint8))


def test_messages_are_formatted_late():
    """No f-string and no % in the call: what is not shown is not made."""
    seen = 0
    for path in Path(irnscale.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="_log"), attr="debug" | "info"), args=[text, *_]):
                    assert isinstance(text, ast.Constant), f"{path.name}, line {node.lineno}"
                    seen += 1
    assert seen > 8


def test_the_library_configures_nothing():
    code = (
        "import logging, numpy, irnscale; irnscale.load(2, device='cpu').down(numpy.zeros((8, 8, 3), 'uint8'));"
        "log = logging.getLogger('irnscale');"
        "print(log.level, [type(h).__name__ for h in log.handlers], log.propagate, logging.getLogger().handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert (done.stdout, done.stderr) == ("0 ['NullHandler'] True []\n", "")


@pytest.mark.parametrize("debug", [False, True])
def test_debug_shows_it(capfdbinary, monkeypatch, tmp_path, debug):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png", 24, 16)
    before = LOG.level, list(LOG.handlers)
    result = runner(capfdbinary, monkeypatch)("down", "a.png", "-s", 2, *(["--debug"] if debug else []))
    assert result.code == 0
    told = [line for line in result.lines if line.startswith("irnscale.")]
    assert any(line.startswith("irnscale.engine.rescaler: irn-x2, ") for line in told) == debug
    assert any(line.startswith("irnscale.jobs.stages: a.png: down by irn-x2, as chosen") for line in told) == debug
    assert (LOG.level, list(LOG.handlers)) == before


@pytest.mark.parametrize("command", ["down", "info", "check", "strip"])
def test_debug_shows_where_an_error_is_from(capfdbinary, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    Path("text.png").write_text("no picture")
    run = runner(capfdbinary, monkeypatch)
    out = () if command in ("info", "check") else ("-o", "out.png")
    plain = run(command, "text.png", *out)
    assert (plain.code, len(plain.lines)) == (1, 1)
    told = run(command, "text.png", *out, "--debug")
    assert (told.code, told.lines[-1]) == (1, plain.lines[0])
    assert sum(line.startswith("irnscale.errors.InputError: text.png") for line in told.lines) == 1
