"""A small picture opens for ever: names bound to weights, weights found by digest, records of every schema."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import keep_pictures
import numpy as np
import pytest
import torch
from commandline import Run, picture, pixels, resave, runner, tiny_model
from keep_pictures import KEPT, RELEASED, release, released, rescaler_of, restored_from

import irnscale
from irnscale.errors import ModelError
from irnscale.images.provenance import read_provenance
from irnscale.images.record import SCHEMA, Provenance
from irnscale.zoo import ModelCard, base_of, find, models, newest, recorded, store
from irnscale.zoo.names import family, generation
from irnscale.zoo.store import Model, default_model

ROOT = Path(__file__).parents[1]
SMALL = sorted(path for path in KEPT.iterdir() if path.suffix in (".png", ".jpg") and ".restored" not in path.name)


@pytest.fixture(autouse=True)
def _own_models(monkeypatch, tmp_path):
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))


@pytest.fixture
def run(capfdbinary, monkeypatch) -> Run:
    """The command line."""
    return runner(capfdbinary, monkeypatch)


@pytest.fixture
def archive(monkeypatch) -> Path:
    """The archive of the repository, as if it were installed."""
    folder = ROOT / "archive" / "models"
    monkeypatch.setattr(store, "archive_folder", lambda: folder)
    return folder


@pytest.mark.usefixtures("archive")
def test_a_picture_of_every_released_model_is_kept():
    kept = {path.stem for path in SMALL}
    for model in models():
        assert model.card.name in kept, "python tests/keep_pictures.py"
    assert {"irn-x4+irn-x2", "irn-x4+irn-x4"} <= kept
    assert sum(path.stat().st_size for path in KEPT.iterdir()) < 300_000


@pytest.mark.parametrize("path", SMALL, ids=lambda path: path.name)
@pytest.mark.usefixtures("archive")
def test_kept_pictures_are_restored_to_the_pixel(run, tmp_path, path):
    """In float32. Processors add in another order, so that a value at the edge of two levels may fall on either side:
    with SSE, AVX2 and AVX-512 arithmetic one sample of the 12,045 of a picture does at most."""
    kept = KEPT / f"{path.stem if path.suffix == '.png' else path.name}.restored.png"
    record = read_provenance(path)
    if record is None:  # not made by `down`: a picture for an assistant
        restored = pixels(restored_from(rescaler_of([find(path.stem)]), path.read_bytes()))
    else:
        result = run("up", path, "-o", tmp_path / "a.png", "--precision", "float32", "--device", "cpu")
        assert (result.code, result.lines) == (0, [])
        restored = pixels(tmp_path / "a.png")
    difference = np.abs(restored.astype(int) - pixels(kept).astype(int))
    assert difference.max() <= 1
    assert (difference > 0).sum() <= 5


def test_what_ships_has_its_base():
    """Else it moves to the archive with the model that it was trained for."""
    shipped = [model.card for model in models() if model.shipped]
    assert {card.base_digest for card in shipped} - {""} <= {card.digest for card in shipped}


@pytest.mark.usefixtures("archive")
def test_names_are_bound_to_weights():
    for path in SMALL:
        if (record := read_provenance(path)) is not None:
            assert [m.card.name for m in recorded(record.model, record.digest, record.scale)] == record.model.split("+")


@pytest.mark.usefixtures("archive")
def test_released_names_have_the_weights_that_they_were_released_with():
    have = {model.card.name: model.card.sha256 for model in models() if model.shipped or model.archived}
    assert {name: have.get(name) for name in released()} == released(), "better weights are a new generation"
    dated = re.findall(r"^## \[([0-9.]+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert bool(dated) == bool(released()), "a release binds names: python tests/keep_pictures.py --release"
    assert not dated or dated[0] == irnscale.__version__


@pytest.mark.usefixtures("archive")
def test_a_release_binds_names_for_ever(monkeypatch, tmp_path):
    file = tmp_path / RELEASED.name
    monkeypatch.setattr(keep_pictures, "RELEASED", file)
    file.write_text(json.dumps({"gone": "1" * 64}))
    assert "irn-x4" in release()
    assert released() == {"gone": "1" * 64} | {m.card.name: m.card.sha256 for m in models()}
    assert release() == []
    file.write_text(json.dumps(released() | {"irn-x4": "0" * 64}))
    with pytest.raises(SystemExit, match=r"^irn-x4: released with other weights"):
        release()


@pytest.mark.parametrize("schema", range(1, SCHEMA + 1))
def test_records_of_every_schema_are_read(schema):
    """The file has the keys that the schema began with: those added since have defaults."""
    text = (KEPT / f"schema-{schema}.json").read_text()
    record = Provenance.from_json(text)
    for key, value in json.loads(text).items():
        if key != "schema":
            assert getattr(record, key) == (tuple(value) if isinstance(value, list) else value)
    assert Provenance.from_json(record.to_json()) == record


@pytest.mark.parametrize(
    ("name", "of", "number"),
    [
        ("irn-x4", "irn-x4", 1),
        ("irn-x4.2", "irn-x4", 2),
        ("irn-x4.10", "irn-x4", 10),
        ("irn-x4.1", "irn-x4.1", 1),
        ("irn-x4.02", "irn-x4.02", 1),
        ("own.2.3", "own.2", 3),
        (".2", ".2", 1),
    ],
)
def test_families_and_generations(name, of, number):
    assert (family(name), generation(name)) == (of, number)


def test_the_newest_of_each_family():
    names = ["irn-x4.10", "irn-x4.9", "irn-x4", "irn-x2", "irn-jpeg-x4", "irn-jpeg-x4.2"]
    every = [Model(ModelCard(name, 4, {}, "0" * 64), Path(name), True) for name in names]
    assert [m.card.name for m in newest(every)] == ["irn-x4.10", "irn-x2", "irn-jpeg-x4.2"]


@pytest.fixture
def shipped(monkeypatch, tmp_path) -> Path:
    """A folder that stands in for the shipped models: `tiny`, x2."""
    folder = tmp_path / "shipped"
    tiny_model(folder)
    monkeypatch.setattr(store, "shipped_folder", lambda: folder)
    return folder


def add(folder: Path, name: str, seed: int) -> Path:
    """Another x2 model of other weights; its weights file."""
    torch.manual_seed(seed)
    tiny_model(folder, name)
    return folder / f"{name}.safetensors"


def rename(weights: Path, folder: Path, name: str) -> None:
    """Move a model to another folder, and call it otherwise."""
    folder.mkdir(exist_ok=True)
    card = weights.with_suffix(".json")
    values = json.loads(card.read_text()) | {"name": name}
    (folder / f"{name}.json").write_text(json.dumps(values))
    card.unlink()
    weights.rename(folder / f"{name}.safetensors")


def test_the_newest_generation_is_taken_and_the_recorded_one_found(run, shipped, tmp_path):
    photo = picture(tmp_path / "a.png")
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    assert run("down", photo, "-s", "2", "-o", old).code == 0
    assert run("up", old, "-o", tmp_path / "before.png").code == 0
    for number in (2, 10, 9):
        add(shipped, f"tiny.{number}", number)
    assert default_model(2).card.name == "tiny.10"
    assert run("down", photo, "-s", "2", "-o", new).code == 0
    assert [read_provenance(path).model for path in (old, new)] == ["tiny", "tiny.10"]
    assert run("up", old, "-o", tmp_path / "after.png").code == 0
    assert run("up", new, "-o", tmp_path / "restored.png").code == 0
    assert (tmp_path / "after.png").read_bytes() == (tmp_path / "before.png").read_bytes()
    assert read_provenance(tmp_path / "restored.png").model == "tiny.10"
    assert "tiny.9" in run("models", "list").text


def test_weights_are_found_by_their_digest_whatever_their_name(run, shipped, tmp_path):
    photo, small = picture(tmp_path / "a.png"), tmp_path / "small.png"
    own = add(tmp_path / "models", "own", 1)
    assert run("down", photo, "-m", "own", "-o", small).code == 0
    rename(own, tmp_path / "models", "renamed")
    assert run("up", small, "-o", tmp_path / "a1.png").code == 0
    assert run("up", small, "-m", "renamed", "-o", tmp_path / "a2.png").code == 0
    assert read_provenance(tmp_path / "a1.png").model == "renamed"
    add(tmp_path / "models", "own", 2)  # other weights take the name
    assert run("up", small, "-o", tmp_path / "a3.png").code == 0
    assert run("up", small, "-m", "own", "-o", tmp_path / "a4.png").code == 0, "it is what the record says too"
    assert len({(tmp_path / f"a{n}.png").read_bytes() for n in (1, 2, 3, 4)}) == 1
    rename(tmp_path / "models" / "renamed.safetensors", tmp_path / "models", "tiny")
    assert find("tiny").shipped
    assert run("up", small, "-o", tmp_path / "a5.png").code == 0, "even where a shipped model has its name"
    assert np.array_equal(pixels(tmp_path / "a5.png"), pixels(tmp_path / "a1.png"))
    result = run("up", small, "-m", "tiny", "-o", tmp_path / "a6.png")
    assert (result.code, len(result.lines)) == (2, 1)


def test_several_models_in_a_row_are_found(run, shipped, tmp_path):
    photo, small = picture(tmp_path / "a.png"), tmp_path / "small.png"
    add(shipped, "tiny.2", 1)
    add(shipped, "tiny.3", 2)
    assert run("down", photo, "-m", "tiny.2+tiny.3", "-o", small).code == 0
    assert read_provenance(small).model == "tiny.2+tiny.3"
    assert run("up", small, "-o", tmp_path / "before.png").code == 0
    rename(shipped / "tiny.2.safetensors", tmp_path / "models", "second")
    rename(shipped / "tiny.3.safetensors", tmp_path / "models", "third")
    add(tmp_path / "models", "tiny.2", 3)  # which is tried first, and is another
    assert run("up", small, "-o", tmp_path / "after.png").code == 0
    assert read_provenance(tmp_path / "after.png").model == "second+third"
    assert np.array_equal(pixels(tmp_path / "before.png"), pixels(tmp_path / "after.png"))
    (tmp_path / "models" / "third.safetensors").unlink()
    (tmp_path / "models" / "third.json").unlink()
    result = run("up", small, "-o", tmp_path / "none.png")
    assert (result.code, len(result.lines)) == (3, 1)


def test_a_hostile_record_costs_no_time(shipped):
    for number in range(2, 12):
        add(shipped, f"tiny.{number}", number)
    started = time.perf_counter()
    with pytest.raises(ModelError, match="not installed"):
        recorded("+".join("abcdef"), "0" * 12, 64)
    assert time.perf_counter() - started < 5


def built(tree: Path, target: Path) -> Path:
    """The archive built as a wheel and unpacked into `target`, as pip would."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(tree)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = (tree / "dist").glob("irnscale_models_archive-*.whl")
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(target)
    return target


def test_the_archive_is_built_and_found(run, shipped, tmp_path, monkeypatch):
    photo, small = picture(tmp_path / "a.png"), tmp_path / "small.png"
    old = add(shipped, "tiny.2", 1)
    assert run("down", photo, "-m", "tiny.2", "-o", small).code == 0
    tree = tmp_path / "archive"
    shutil.copytree(ROOT / "archive", tree, ignore=shutil.ignore_patterns("build", "dist", "*.egg-info"))
    rename(old, tree / "models", "tiny.2")

    refused = run("up", small)
    assert (refused.code, len(refused.lines)) == (3, 1)
    assert "'tiny.2'" in refused.lines[0]
    assert "`pip install ./archive`" in refused.lines[0]
    monkeypatch.syspath_prepend(built(tree, tmp_path / "site"))
    assert run("up", small, "-o", tmp_path / "back.png").code == 0
    model = find("tiny.2")
    assert (model.archived, model.shipped) == (True, False)
    assert model.weights.is_relative_to(tmp_path / "site")
    assert default_model(2).card.name == "tiny", "which model a scale means does not depend on the archive"
    assert "archive" in run("models", "list").text
    assert run("models", "verify").code == 0
    result = run("models", "import", "x.pth", "--name", "tiny.2")
    assert "comes with irnscale" in result.lines[0]
    forged = resave(small, tmp_path / "forged.png", forge)
    assert "is installed and lacks it" in run("up", forged).lines[0]


def forge(image):
    values = json.loads(image.info["irnscale"]) | {"digest": "0" * 12, "model": "irn-x4"}
    image.info["irnscale"] = json.dumps(values)
    return image


def test_an_assistant_whose_model_is_gone():
    def helper(base: str) -> Model:
        return Model(ModelCard("helper", 4, {}, "1" * 64, base=base, base_digest="0" * 12), Path("helper"), True)

    for base, wrong in (
        ("irn-x4.0", r"irn-x4\.0 .0{12}., which is not"),
        ("irn-x4", "other weights of irn-x4 .* than"),
    ):
        with pytest.raises(ModelError, match=rf"^helper: was trained for {wrong} .*`pip install ./archive`"):
            base_of(helper(base))


def test_a_recorded_model_whose_card_is_broken(run, tmp_path):
    weights = add(tmp_path / "models", "own", 1)
    small = tmp_path / "small.png"
    assert run("down", picture(tmp_path / "a.png"), "-m", "own", "-o", small).code == 0
    values = json.loads(weights.with_suffix(".json").read_text()) | {"sha256": "1" * 64}
    weights.with_suffix(".json").write_text(json.dumps(values))
    assert "other weights of own" in run("up", small).lines[0]
    weights.with_suffix(".json").write_text("{")
    assert "own.json: the model card is not JSON" in run("up", small).lines[0]
