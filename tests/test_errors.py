"""Errors name the parameter to users of the Python API, and the option on the command line."""

from __future__ import annotations

import json

import pytest
from commandline import picture, runner

import irnscale
from irnscale.errors import IrnscaleError, UsageError

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


def test_only_what_is_named_is_translated():
    error = UsageError("tile=4.png: device=x and `tile`", "tile=2", parameters=("tile",))
    assert error.line == "--tile 4.png: device=x and --tile (--tile 2)"
    assert UsageError("tile=4.png", "`tile`").line == "tile=4.png (`tile`)"
