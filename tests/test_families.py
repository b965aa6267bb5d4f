"""Families of networks are found by name, and one of another distribution goes all the way without an edit."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from commandline import runner
from conftest import synthetic_photo
from PIL import Image

from irnscale.errors import ModelError, UsageError
from irnscale.networks.family import find_family, own_families
from irnscale.train.config import Recipe, load_recipe
from irnscale.zoo import find, load_network, models


@pytest.fixture
def run(capfdbinary, monkeypatch):
    return runner(capfdbinary, monkeypatch)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A distribution that names `toy_family` among its entry points."""
    home = tmp_path / "site" / "toy-1.dist-info"
    home.mkdir(parents=True)
    (home / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (home / "entry_points.txt").write_text("[irnscale.families]\ntoy = toy_family:FAMILY\nlame = toy_family:NONE\n")
    monkeypatch.syspath_prepend(home.parent)


def read(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_own_families_are_called_as_their_files():
    families = own_families()
    assert {"irn", "assistant", "sr"} <= {family.kind for family in families}
    for family in families:
        assert find_family(family.kind) is family
        assert sys.modules[family.config.__module__].__name__ == f"irnscale.networks.families.{family.kind}"


def test_every_shipped_model_has_a_family():
    for model in models():
        assert model.task is not None
        net = load_network(model, model.task)
        assert net.config.to_dict() | model.card.architecture == net.config.to_dict()


@pytest.mark.parametrize("kind", ["toy", "", "os", "..irn", "irn.x"])
def test_unknown_families(kind):
    with pytest.raises(LookupError, match="is not installed"):
        find_family(kind)


def test_a_family_that_cannot_be_imported(toy):
    with pytest.raises(LookupError, match="cannot be imported from toy_family:NONE"):
        find_family("lame")


def test_a_family_that_a_recipe_does_not_know(toy):
    with pytest.raises(UsageError, match=r"family=nowhere: is not installed \(irnscale has .*irn"):
        Recipe.of(family="nowhere")
    with pytest.raises(UsageError, match="family=toy and blocks name two families"):
        Recipe.of(family="toy", scale=2, blocks=6)
    with pytest.raises(UsageError, match=r"network.depth: a network of the family toy has no such key.*scale, width"):
        Recipe.of(family="toy", scale=2, network={"depth": 3})
    with pytest.raises(UsageError, match="scale of a toy must be 2, got 4"):
        Recipe.of(family="toy", scale=4)


def test_recipes_from_before_families_keep_theirs():
    found = {load_recipe(name, []).family.kind for name in ("irn-x4", "irn-sr-x4", "sr-x4")}
    assert found == {"irn", "assistant", "sr"}


def test_a_toy_is_trained_exported_and_used(run, toy, tmp_path, monkeypatch):
    """Two steps by `irnscale train`, a model of the run, and pictures through it there and back."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(2):
        Image.fromarray(synthetic_photo(40, 32, seed=seed)).save(photos / f"{seed}.png")
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "name: mine\nfamily: toy\nnetwork: {width: 6}\nscale: 2\nbatch_size: 2\nimg_size: 16\nbudget: '2'\n"
    )
    out = tmp_path / "run"
    result = run("train", recipe, "network.width=5", "--data", photos, "--out", out, "--device", "cpu", "--no-progress")
    assert result.code == 0, result.lines
    again = run("train", recipe, "--data", photos, "--out", out, "--device", "cpu", "--no-progress", "--resume")
    assert again.code == 2
    assert "was trained with width=5, the recipe says 6" in again.lines[-1]

    result = run("models", "export", out, "--name", "tiny-toy")
    assert result.code == 0, result.lines
    assert result.lines[-1].endswith("use it with -m tiny-toy")
    card = find("tiny-toy").card
    assert (card.kind, card.scale, card.architecture) == ("toy", 2, {"scale": 2, "width": 5})
    assert card.description == "toy x2, trained with the recipe mine"
    assert "tiny-toy" in run("models").text

    photo, small, large = tmp_path / "photo.png", tmp_path / "small.png", tmp_path / "large.png"
    pixels = synthetic_photo(33, 45, seed=7)
    Image.fromarray(pixels).save(photo)
    assert run("down", photo, "-m", "tiny-toy", "-o", small).code == 0
    assert read(small).shape == (17, 23, 3)
    result = run("up", small, "-o", large, "--tile", "16")
    assert (result.code, result.warnings) == (0, [])
    difference = read(large).astype(float) - pixels
    assert 10 * np.log10(255**2 / np.square(difference).mean()) > 20  # dB


def test_a_model_of_a_family_that_is_gone(run, tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("IRNSCALE_MODELS", str(folder))
    card = {"name": "old", "scale": 2, "architecture": {}, "sha256": "0" * 64, "kind": "bygone"}
    (folder / "old.json").write_text(json.dumps(card))
    (folder / "old.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="old: its family, bygone, is not installed"):
        load_network(find("old"))
    assert run("models").code == 0
    photo = tmp_path / "photo.png"
    Image.fromarray(synthetic_photo(16, 16)).save(photo)
    assert run("down", photo, "-s", "2", "-o", tmp_path / "small.png").code == 0
    result = run("down", photo, "-m", "old", "-o", tmp_path / "other.png")
    assert result.code == 3
    assert "its family, bygone, is not installed" in result.lines[-1]
