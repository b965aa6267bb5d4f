"""The package: what a wheel holds, what it asks for, that importing it is cheap, and which part may import which."""

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
from source_tree import Import, all_imports, circles, imports_of, sources

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


EVERYWHERE = {"_version", "columns", "errors", "freia", "jsontext", "logs", "noise", "plugins", "sizes", "userfolders"}
"""Modules of the top that import nothing of ours, or `errors` alone."""
MAY_IMPORT = {
    "kernels": set(),
    "checkpoints": set(),
    "images": set(),
    "networks": {"kernels"},
    "metrics": {"images"},
    "detail": {"images"},
    "batch": {"images"},
    "zoo": {"networks", "images"},
    "engine": {"networks", "kernels", "images", "detail", "metrics", "zoo"},
    "jobs": {"engine", "batch", "images", "detail", "zoo"},
    "train": {"networks", "kernels", "images", "metrics", "zoo", "engine.precision", "engine.memory"},
    "evaluation": {"engine", "networks", "kernels", "images", "detail", "metrics", "zoo"},
    "bench": {"jobs", "engine", "batch", "networks", "kernels", "zoo", "train"},
    "experiments": {"evaluation", "train", "engine", "networks", "kernels", "images", "metrics", "zoo"},
    "cli": {"bench", "evaluation", "experiments", "train", "jobs", "engine", "batch", "networks", "kernels"}
    | {"images", "detail", "metrics", "zoo"},
    "__main__": {"cli"},
    "train.__main__": {"cli"},
}
"""What CONTRIBUTING says ("Imports run one way"), package by package."""
TYPES_OF = {"images": {"detail.pixels"}, "": {"engine", "errors", "jobs"}}
"""Beyond those, what is imported for its types alone: a picture has layers; `import irnscale` loads on use what it
names."""
LOOKUPS = {"irnscale.networks.families"}
"""Where one of many is looked up, what is found imports what is beside the lookup: a family its network, which has a
configuration of the family's file."""


def _within(place: str, allowed: set[str]) -> bool:
    return any(place == name or place.startswith(f"{name}.") for name in allowed)


def _forbidden(found: Import) -> bool:
    """Whether an import breaks the rules."""
    here, there = (name.partition("irnscale.")[2] for name in (found.module, found.target))
    package = here if here in MAY_IMPORT else here.partition(".")[0]
    if found.target.partition(".")[0] == "FrEIA":
        return here != "freia" and not _within(here, {"networks.glow"})
    if found.target.partition(".")[0] != "irnscale" or there.partition(".")[0] == package:
        return False
    if package in EVERYWHERE:
        return there != "errors"
    allowed = MAY_IMPORT.get(package, set()) | (set() if package == "kernels" else EVERYWHERE)
    return not _within(there, allowed | (TYPES_OF.get(package, set()) if found.when == "types" else set()))


def test_imports_run_one_way():
    found = all_imports()
    assert len(found) > 2000
    assert {name.split(".")[1] for name in sources() if name.count(".") > 1} <= MAY_IMPORT.keys(), "a new package"
    assert [f"{i.module} imports {i.target} ({i.when})" for i in found if _forbidden(i)] == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("irnscale.images.read", "from irnscale.zoo import find"),
        ("irnscale.images.read", "from irnscale.detail.pixels import found"),
        ("irnscale.kernels.haar", "def f():\n    from irnscale import errors"),
        ("irnscale.engine.plan", "if TYPE_CHECKING:\n    from irnscale.jobs.task import Task"),
        ("irnscale.train.loop", "import irnscale.engine.rescaler"),
        ("irnscale.jobs.down", "from irnscale import cli"),
        ("irnscale.errors", "import irnscale.sizes"),
        ("irnscale.zoo.store", "from FrEIA.framework import SequenceINN"),
    ],
)
def test_an_import_the_wrong_way_is_seen(module, source):
    (found,) = imports_of(module, source, sources())
    assert _forbidden(found)


def _arrows(found: list[Import]) -> dict[str, set[str]]:
    """Which module imports which, but for lookups."""
    arrows: dict[str, set[str]] = {name: set() for name in sources()}
    for one in found:
        if one.target != one.module and not (one.when != "start" and _within(one.module, LOOKUPS)):
            arrows[one.module].add(one.target)
    return arrows


def test_no_modules_import_each_other():
    """Neither as they are loaded nor in functions, nor for types."""
    found = all_imports()
    assert circles(_arrows(found)) == []
    back = Import("irnscale.errors", "irnscale.jobs.files", "call")
    (circle,) = circles(_arrows([*found, back]))
    assert {"irnscale.errors", "irnscale.jobs.files", "irnscale.sizes"} <= circle


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
        "train/recipes/glow-torch.yaml",
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
    shipped = [path.stem for path in (ROOT / "checkpoints").glob("*.safetensors")]
    assert (done.returncode, sorted(rest)) == (0, sorted(f"{name}: ok" for name in shipped)), done.stderr
