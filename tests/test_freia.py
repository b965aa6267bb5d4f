"""The first import of FrEIA, whose source has an invalid escape sequence that Python warns of when it compiles it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path


def test_the_first_import_warns_of_nothing(tmp_path):
    """Where its bytecode was not compiled at installation, and cannot be stored: uv, `pip --no-compile`."""
    installed = find_spec("FrEIA")
    assert installed is not None
    assert installed.origin is not None
    shutil.copytree(Path(installed.origin).parent, tmp_path / "FrEIA", ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    # from Python 3.12 on it is a SyntaxWarning, which is shown to everybody, before that a DeprecationWarning
    strict = [sys.executable, "-W", "error:invalid escape sequence", "-W", "error::SyntaxWarning", "-c"]

    def imported(program: str) -> subprocess.CompletedProcess[str]:
        options = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True, "check": False}
        return subprocess.run([*strict, program], **options)

    ours = imported("import irnscale.freia, irnscale.networks.glow, FrEIA; print(FrEIA.__file__)")
    assert (ours.returncode, ours.stderr) == (0, "")
    assert ours.stdout.strip() == str(tmp_path / "FrEIA" / "__init__.py"), "another FrEIA was imported"
    theirs = imported("import FrEIA.modules")
    assert "invalid escape sequence" in theirs.stderr, "FrEIA has mended it: irnscale.freia need not silence it"
