"""Users without a home folder, with one that is not theirs, and working folders that are gone."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys

import pytest
from commandline import Run, copied_model, files, picture, runner

from irnscale import userfolders
from irnscale.errors import OutputError
from irnscale.evaluation.cache import open_cache
from irnscale.evaluation.ruler import FIELDS
from irnscale.zoo import find, new_folder, user_folder
from irnscale.zoo.store import installed

VARIABLES = ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "IRNSCALE_MODELS")


@pytest.fixture
def homeless(monkeypatch) -> None:
    """No variable names a folder, and the password file does not know the user."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)

    def unknown(_number: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_without_a_home_folder(homeless, tmp_path):
    assert userfolders.data_folder() is None
    assert userfolders.cache_folder() is None
    assert user_folder() is None
    assert find("irn-x4").shipped
    with pytest.raises(OutputError, match="set IRNSCALE_MODELS"):
        new_folder()
    assert open_cache(None).get("key") is None


@pytest.mark.parametrize("command", ["models list", "doctor", "down a.png -s 2", "up b.png"])
def test_every_command_works_without_a_home_folder(homeless, capfdbinary, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    run: Run = runner(capfdbinary, monkeypatch)
    picture(tmp_path / "a.png")
    assert run("down", "a.png", "-s", 2, "-o", "b.png", "--detail", "none").code == 0
    result = run(*command.split())
    assert result.code == 0, result.lines
    assert not any("error" in line for line in result.lines)


def test_what_needs_a_home_folder_says_so(homeless, capfdbinary, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pth").write_bytes(b"no weights")
    result = runner(capfdbinary, monkeypatch)("models", "import", "x.pth", "--name", "mine")
    assert len(result.lines) == 1
    assert "internal" not in result.lines[0]


@pytest.mark.parametrize("value", ["", "relative/home"])
def test_a_home_that_is_no_absolute_path_is_none(homeless, monkeypatch, value):
    monkeypatch.setenv("HOME", value)
    monkeypatch.setenv("XDG_DATA_HOME", value)
    assert user_folder() is None


def test_folders_that_are_named(homeless, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_folder() in (
        tmp_path / ".local/share/irnscale/models",
        tmp_path / "Library/Application Support/irnscale/models",
        tmp_path / "AppData/Local/irnscale/models",
    )
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "mine"))
    copied_model(tmp_path / "mine")
    assert find("own").weights == tmp_path / "mine/own.safetensors"
    (tmp_path / "none").write_text("a file where a folder should be")
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "none"))
    assert all(model.shipped or model.archived for model in installed())


def test_a_cache_that_cannot_be_kept(homeless, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    row = dict.fromkeys(FIELDS, 1.0)
    cache = open_cache(None)
    cache.put("key", row)
    assert cache.get("key") is row, "the user's own is dispensable"
    with pytest.raises(OutputError, match="`no_cache`"):
        open_cache(tmp_path / "file").put("key", row)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize("home", [None, "closed"])
def test_as_a_user_that_nobody_knows(tmp_path, home):
    tmp_path.chmod(0o700)
    environment = {"PATH": os.defpath} | ({"HOME": str(tmp_path)} if home else {})

    def run(code: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, cwd="/", env=environment, user=12345, group=12345, extra_groups=[],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    try:
        if run("import irnscale, torch").returncode:
            pytest.skip("other users may not read this installation")
    except PermissionError:
        pytest.skip("other users may not run this interpreter")
    for command in (["models", "list"], ["doctor"]):
        done = run(f"from irnscale.cli.main import run; run({command})")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert "irn-x4" in done.stdout


@pytest.mark.parametrize("command", ["doctor", "down a.png", "info a.png", "models list", "demo", "train recipes"])
def test_a_working_folder_that_is_gone(tmp_path, command):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os; from irnscale.cli.main import run; os.rmdir({str(gone)!r}); run({command.split()!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=gone, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "irnscale: error: the working folder cannot be used: No such file or directory (cd to one that exists)"
    ]
    assert files(tmp_path) == []
