"""The package: what a wheel holds, what it asks for, and that importing it is cheap."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import irnscale

ROOT = Path(__file__).parents[1]
TOP = ("irnscale", "kernels", "train", "checkpoints", "setup.py", "pyproject.toml", "LICENSE", "README.md")


def test_the_top_level_is_that_of_the_card():
    for name in (*TOP, "tests", "CHANGELOG.md", "CONTRIBUTING.md", ".ci/run"):
        assert (ROOT / name).exists(), name


def test_importing_is_cheap_and_typed():
    code = "import sys, irnscale; print({'torch', 'numpy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "set()\n"
    assert (Path(irnscale.__file__).parent / "py.typed").exists()


def test_requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = " ".join(project["dependencies"])
    for name in ("torch>=2.9", "FrEIA>=0.2", "pillow>=12.3", "numpy>=", "safetensors>=", "click>=", "tqdm>="):
        assert name in requirements
    assert any(r.startswith("triton") and "Linux" in r for r in project["dependencies"])
    assert "==" not in requirements.replace("platform_system ==", "")
    assert "<" not in requirements, "open ranges"
    assert {"test", "train"} <= project["optional-dependencies"].keys()


def test_the_photograph_says_where_it_is_from():
    notes = (ROOT / "irnscale/assets/astronaut.txt").read_text()
    assert "public domain" in notes.lower()


def test_every_checkpoint_has_a_card():
    weights = sorted((ROOT / "checkpoints").glob("*.safetensors"))
    cards = sorted((ROOT / "checkpoints").glob("*.json"))
    assert [p.stem for p in weights] == [p.stem for p in cards]
    assert {"irn-x2", "irn-x4"} <= {p.stem for p in weights}
    for path in cards:
        assert json.loads(path.read_text())["name"] == path.stem
    size = sum(path.stat().st_size for path in weights)
    assert size < 60 * 10**6, "move the oldest to archive/models: see CONTRIBUTING.md"


def test_the_archive_is_of_this_version():
    project = tomllib.loads((ROOT / "archive/pyproject.toml").read_text())["project"]
    assert (project["name"], project["version"]) == ("irnscale-models-archive", irnscale.__version__)
    archived = {p.stem for p in (ROOT / "archive/models").glob("*.safetensors")}
    assert archived == {p.stem for p in (ROOT / "archive/models").glob("*.json")}
    assert not archived & {p.stem for p in (ROOT / "checkpoints").glob("*.safetensors")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy of the tree, so that no build folder appears in it."""
    tree = tmp_path_factory.mktemp("tree")
    for name in TOP:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, tree / name)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(tree)],
        check=True,
        capture_output=True,
        timeout=300,
    )
    (path,) = (tree / "dist").glob("*.whl")
    return path


@pytest.mark.slow
def test_the_wheel_holds_everything(wheel):
    assert wheel.name == f"irnscale-{irnscale.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith("METADATA"))
        fields = Parser().parsestr(archive.read(metadata).decode())
        (entry,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "irnscale = irnscale.cli.main:run" in archive.read(entry).decode()
    folders = {"irnscale": "irnscale", "irnscale/kernels": "kernels", "irnscale/train": "train"}
    folders["irnscale/checkpoints"] = "checkpoints"
    expected = set()
    for place, folder in folders.items():
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                expected.add(f"{place}/{path.relative_to(ROOT / folder).as_posix()}")
    assert names == expected
    for name in (
        "py.typed",
        "assets/astronaut.png",
        "checkpoints/irn-x4.safetensors",
        "train/recipes/irn-x4.yaml",
        "train/glow/recipes/glow-torch.yaml",
    ):
        assert f"irnscale/{name}" in names
    assert fields["License-Expression"] == "Apache-2.0"
    assert fields["Requires-Python"] == "<3.14,>=3.11"


@pytest.mark.slow
def test_the_wheel_works_by_itself(wheel, tmp_path, monkeypatch):
    """Unpacked where no checkout is in sight, it finds its subpackages, models and photograph."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import irnscale, irnscale.kernels as k;"
        "from irnscale.cli.main import main; print(irnscale.__file__, k.__file__); sys.exit(main(sys.argv[1:]))"
    )
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    done = subprocess.run(
        [sys.executable, "-c", code, "models", "verify"], capture_output=True, text=True, timeout=300, cwd=tmp_path
    )
    first, *rest = done.stdout.splitlines()
    assert all(Path(part).is_relative_to(tmp_path / "site") for part in first.split())
    shipped = ["irn-jpeg-x2", "irn-jpeg-x4", "irn-sr-x4", "irn-x2", "irn-x4", "sr-x2", "sr-x4"]
    assert (done.returncode, rest) == (0, [f"{name}: ok" for name in shipped]), done.stderr
