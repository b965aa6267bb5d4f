"""FrEIA is imported without scipy.stats, and all of it still works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

MADE = """
import sys
import irnscale.engine.rescaler
assert "FrEIA.modules.all_in_one_block" in sys.modules
assert not [name for name in sys.modules if name.startswith("scipy")], "imported after all"
from FrEIA.modules import AllInOneBlock
import torch
block = AllInOneBlock([(6, 4, 4)], permute_soft=True, subnet_constructor=lambda i, o: torch.nn.Conv2d(i, o, 1))
assert "scipy.stats" in sys.modules
w = block.w_perm.squeeze()
assert abs(w @ w.T - torch.eye(6)).max() < 1e-5, "no rotation"
import scipy.stats
assert scipy.stats.norm.cdf(0) == 0.5
"""
MORE = """
import sys, types, importlib.abc, importlib.util
class Newer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    "A FrEIA that needs more of scipy.stats: the first import of it asks for another name."
    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_loader(name, self) if name == "FrEIA" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        sys.meta_path.remove(self)
        from scipy.stats import norm
sys.meta_path.insert(0, Newer())
import irnscale.freia
import scipy.stats
assert scipy.stats.norm.cdf(0) == 0.5
assert irnscale.freia.SequenceINN.__module__.startswith("FrEIA")
"""
LATE = """
import sys
import scipy.stats
import irnscale.freia
assert sys.modules["scipy.stats"] is scipy.stats
from FrEIA.modules.all_in_one_block import special_ortho_group
assert special_ortho_group is scipy.stats.special_ortho_group
"""


@pytest.mark.parametrize("program", [MADE, MORE, LATE], ids=["as it is", "a newer FrEIA", "scipy first"])
def test_import(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_first_import_without_bytecode_says_nothing(tmp_path):
    """As where `pip --no-compile` or uv installed it, and even where warnings are errors."""
    spec = find_spec("FrEIA")
    assert spec is not None
    assert spec.origin is not None
    shutil.copytree(Path(spec.origin).parent, tmp_path / "FrEIA", ignore=shutil.ignore_patterns("__pycache__"))
    program = "import irnscale.freia, FrEIA; print(FrEIA.__file__)"
    command = [sys.executable, "-B", "-W", "error:invalid escape", "-c", program]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", "")))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert str(tmp_path) in done.stdout
