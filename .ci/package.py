"""Builds the sdist, the wheel from it, and installs and tries the wheel where the checkout is not in sight.

    python .ci/package.py [FOLDER]

Both files are left in FOLDER, if one is named. The interpreter has to have the tool's dependencies and `build`; pip's
package index has to have setuptools. Takes under a minute.

What is checked: the sdist has every tracked file and no other; the wheel has what `setup.py` maps and no other; in a
new environment of the wheel and those distributions alone that its metadata require (linked from this interpreter's
environment, because torch takes minutes to install), `irnscale --version`, `doctor`, `models verify`, `down` and `up`
work, every module can be imported, and all that were came from there.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
NAME = "irnscale"
MAPPED = {"irnscale": "irnscale", "kernels": "irnscale/kernels", "train": "irnscale/train"}
MAPPED["checkpoints"] = "irnscale/checkpoints"
"""Top-level folder: its place in the wheel, as in `setup.py`."""

GENERATED = ("PKG-INFO", "setup.cfg", "irnscale.egg-info/")
"""What setuptools adds to an sdist."""

LARGEST = 100 * 10**6  # bytes of a file that PyPI accepts

RECORDER = '''
"""Writes at the end of every process which files its modules of irnscale came from, and what the path was."""
import atexit, json, os, sys, uuid

@atexit.register
def write() -> None:
    modules = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    ours = {name: file for name, file in modules.items() if name.partition(".")[0] == "irnscale"}
    with open(os.path.join(os.environ["RECORDED"], uuid.uuid4().hex), "w") as file:
        json.dump({"argv": sys.argv, "modules": ours, "path": sys.path}, file)
'''

IMPORTS = """
import importlib, pkgutil, irnscale
for module in pkgutil.walk_packages(irnscale.__path__, "irnscale."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""

PICTURE = """
import numpy as np
from PIL import Image
y, x = np.mgrid[0:120, 0:150] / 12.0
waves = [np.sin(x + phase) * np.cos(y - phase) for phase in (0.0, 0.7, 1.9)]
Image.fromarray(np.uint8(127.5 + 120 * np.stack(waves, axis=2))).save("photo.png")
"""

COMPARISON = """
import sys
import numpy as np
from PIL import Image
one, other = (np.asarray(Image.open(name).convert("RGB"), float) for name in ("photo.png", "restored.png"))
assert one.shape == other.shape, (one.shape, other.shape)
print(f"{10 * np.log10(255**2 / np.mean((one - other) ** 2)):.2f}")
"""


def main(keep: Path | None) -> None:
    """Build, check and try; copy both files to `keep`."""
    with tempfile.TemporaryDirectory(prefix="irnscale-package.") as name:
        work = Path(name).resolve()
        tree = work / "tree"
        tracked = export(tree)
        sdist, wheel = build(tree, work / "dist")
        check_sdist(sdist, tracked)
        check_wheel(wheel, tracked)
        try_wheel(wheel, work)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for path in (sdist, wheel):
                shutil.copy(path, keep)
    for path in (sdist, wheel):
        say(path.name if keep is None else str(keep / path.name))


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def export(tree: Path) -> set[str]:
    """A copy of the working tree without what git ignores; the names of its files.

    Built there, nothing stale is taken along: setuptools puts into an sdist what an older `SOURCES.txt` lists, and into
    a wheel what lies in `build/`.
    """
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    if (ROOT / ".git").exists():
        listed = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.split("\0")
        names = {name for name in listed if name and (ROOT / name).is_file()}
    else:  # an unpacked sdist, or a copy
        ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
        kept = [path for path in paths if not any(fnmatch(part, rule) for part in path.parts for rule in ignored)]
        names = {path.as_posix() for path in kept} - set(GENERATED)
    for name in names:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    return names


def build(tree: Path, folder: Path) -> tuple[Path, Path]:
    """The sdist of `tree`, and the wheel that is built from the sdist, each in an environment of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(folder), str(tree)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"build failed:\n{done.stdout[-5000:]}")
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    for path in (sdist, wheel):
        size = path.stat().st_size
        say(f"{path.name}: {size / 1e6:.1f} MB")
        require(size < LARGEST, f"{path.name}: larger than PyPI takes; move the oldest models to archive/models")
    return sdist, wheel


def require(condition: bool, failure: str) -> None:
    if not condition:
        raise SystemExit(f"error: {failure}")


def same(what: str, found: set[str], expected: set[str]) -> None:
    """End with the differences, if there are any."""
    lacks, has = sorted(expected - found), sorted(found - expected)
    require(not lacks and not has, f"{what} lacks {lacks[:20]} and has {has[:20]} that it should not")


def check_sdist(sdist: Path, tracked: set[str]) -> None:
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    same("the sdist", {name for name in names if not name.startswith(GENERATED)}, tracked)


def check_wheel(wheel: Path, tracked: set[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    parts = [name.partition("/") for name in tracked]
    same("the wheel", names, {f"{MAPPED[top]}/{rest}" for top, _, rest in parts if top in MAPPED})


def required(requirements: list[str], extras: set[str], seen: set[tuple[str, str]]) -> Iterator[metadata.Distribution]:
    """The installed distributions that the requirements name, and what those require, each once.

    Of what belongs to an extra, only that of `extras`: CUDA's libraries are extras of a distribution that torch needs.
    """
    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            continue
        keys = {(canonicalize_name(requirement.name), extra) for extra in requirement.extras | {""}}
        if keys <= seen:
            continue
        seen |= keys
        distribution = metadata.distribution(requirement.name)
        yield distribution
        yield from required(distribution.requires or [], requirement.extras, seen)


def link(distribution: metadata.Distribution, site: Path) -> None:
    """Link the distribution's top-level files and folders into the folder `site`."""
    for file in distribution.files or []:
        top = file.parts[0]
        if top not in ("..", "__pycache__") and not (site / top).exists():
            (site / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())


def try_wheel(wheel: Path, work: Path) -> None:
    """Install the wheel into a new environment and run the tool there, in an empty folder."""
    clean, home, recorded = (work / name for name in ("clean", "home", "recorded"))
    venv.create(clean, symlinks=True)
    (site,) = clean.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        fields = metadata.PathDistribution(zipfile.Path(archive, member.removesuffix("METADATA"))).metadata
    for distribution in required(fields.get_all("Requires-Dist") or [], set(), set()):
        link(distribution, site)
    # No --no-deps and no index: what the metadata require has to be there, in a version that they allow.
    pip = [sys.executable, "-m", "pip", "--python", str(clean / "bin" / "python")]
    subprocess.run([*pip, "install", "-q", "--no-index", str(wheel)], check=True)
    (site / "sitecustomize.py").write_text(RECORDER)
    home.mkdir()
    recorded.mkdir()

    environment = {"PATH": os.defpath, "HOME": str(home), "RECORDED": str(recorded), "LANG": "C.UTF-8"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"  # the linked folders belong to another environment
    python, tool = str(clean / "bin" / "python"), str(clean / "bin" / NAME)

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=300)
        require(done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    version = wheel.name.split("-")[1]
    said = run(tool, "--version")
    require(version in said.split(), f"--version says {said!r} and not {version}")
    say(run(tool, "doctor").rstrip())
    run(tool, "models", "verify")
    run(python, "-c", IMPORTS)
    run(python, "-c", PICTURE)
    run(tool, "down", "-s", "4", "photo.png", "-o", "small.png")
    run(tool, "up", "small.png", "-o", "restored.png")
    psnr = float(run(python, "-c", COMPARISON))
    say(f"there and back: {psnr} dB")
    require(psnr > 35, "the round trip lost the picture")
    prove(recorded, site)


def prove(recorded: Path, site: Path) -> None:
    """Every command's modules came from `site`, and nothing of the checkout was on its path."""
    commands = 0
    for path in recorded.iterdir():
        run = json.loads(path.read_text())
        strangers = {name: file for name, file in run["modules"].items() if not Path(file).is_relative_to(site)}
        require(not strangers, f"{run['argv']}: imported from elsewhere: {strangers}")
        seen = [entry for entry in run["path"] if entry and Path(entry).resolve().is_relative_to(ROOT)]
        require(not seen, f"{run['argv']}: the checkout is on the path: {seen}")
        commands += Path(run["argv"][0]).name == NAME and bool(run["modules"])
    require(commands == 5, f"{commands} commands recorded their modules")
    say(f"every module of {commands} commands came from the wheel")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
