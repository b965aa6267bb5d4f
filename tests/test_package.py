"""What a wheel built from the tree holds."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_wheel_holds_models_recipes_and_all_packages(tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(
        ROOT, tree, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "runs", "local", "__pycache__", "tests")
    )
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path), str(tree)],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {"irnscale/py.typed", "irnscale/assets/astronaut.png", "irnscale/assets/astronaut.txt"}
    expected |= {f"irnscale/checkpoints/{p.name}" for p in (ROOT / "checkpoints").glob("irn-*")}
    expected |= {f"irnscale/train/recipes/{p.name}" for p in (ROOT / "train" / "recipes").glob("*.yaml")}
    for folder in ("kernels", "train"):
        expected |= {f"irnscale/{folder}/{p.name}" for p in (ROOT / folder).glob("*.py")}
    for path in (ROOT / "irnscale").rglob("*.py"):
        expected.add(path.relative_to(ROOT).as_posix())
    assert "irnscale/checkpoints/irn-x4.safetensors" in expected
    assert not expected - names
    assert all(name.startswith("irnscale") for name in names)
