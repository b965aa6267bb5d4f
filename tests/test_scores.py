"""Scores on cards, and the README's tables from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commandline import Run, copied_model, picture, runner

from irnscale.errors import UsageError
from irnscale.evaluation.scores import model_tables, with_block
from irnscale.zoo import ModelCard, models, read_card

BEGIN, END = "<!-- models: begin -->", "<!-- models: end -->"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line in an empty folder, with a cache and models of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    return runner(capfdbinary, monkeypatch)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A set of two photographs."""
    (tmp_path / "Tiny").mkdir()
    for name in ("a", "b"):
        picture(tmp_path / "Tiny" / f"{name}.png", 40, 32)
    return tmp_path / "Tiny"


def test_the_readme_shows_what_the_cards_say():
    text = (ROOT / "README.md").read_text()
    cards = [model.card for model in models({}) if model.shipped]
    assert with_block(text, model_tables(cards), "models") == text, "run `irnscale evaluate --readme README.md`"
    assert all(f"| `{card.name}` |" in text for card in cards if "Set5" in card.scores)


def test_scores_on_a_card(run, folder, tmp_path):
    weights = copied_model(tmp_path / "models")
    path = weights.with_suffix(".json")
    before = read_card(path)
    command = ["evaluate", "--data", folder, "-m", "own"]
    result = run(*command, "--update-card", "--json")
    assert result.code == 0, result.lines
    (record,) = map(json.loads, result.text.splitlines())
    card = read_card(path)
    assert card.scores == before.scores | {
        "Tiny": {key: round(record[key], 4) for key in ("psnr_y", "ssim_y", "lr_psnr_y", "lr_ssim_y")}
    }
    result = run(*command, "--update-card", "--jpeg", 30, "--sr", "--overwrite")
    assert result.code == 0, result.lines
    added = card.scores.keys() ^ read_card(path).scores.keys()
    assert added == {"Tiny, JPEG 30 4:2:0", "Tiny, bicubic LR", "Tiny, JPEG 30 4:2:0, bicubic LR"}


def test_models_for_jpeg_are_measured_through_it(run, folder, tmp_path):
    weights = copied_model(tmp_path / "models")
    path = weights.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"jpeg_resistant": True, "scores": {}}))
    assert run("evaluate", "--data", folder, "-m", weights, "--update-card").code == 0
    card = read_card(path)
    assert list(card.scores) == ["Tiny", *(f"Tiny, JPEG {q} 4:2:0" for q in (30, 50, 70, 80, 90))]
    text = model_tables([card], ["Tiny"])
    row = card.scores["Tiny, JPEG 90 4:2:0"]
    assert f"{row['psnr_y']:.2f}/{row['ssim_y']:.4f} |\n" in text
    assert "| JPEG 30 | JPEG 50 | JPEG 70 | JPEG 80 | JPEG 90 |" in text


@pytest.mark.parametrize(
    "extra", [[], ["-m", "own", "--limit", 1], ["-m", "own", "--luma", "rounded"], ["-m", "own+own"]]
)
def test_a_card_keeps_only_scores_of_whole_sets(run, folder, tmp_path, extra):
    path = copied_model(tmp_path / "models").with_suffix(".json")
    before = path.read_text()
    result = run("evaluate", "--data", folder, "--update-card", *extra)
    assert (result.code, len(result.lines)) == (2, 1)
    assert path.read_text() == before


def test_readme(run, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"one\n\n{BEGIN}\nold\n{END}\n\ntwo\n")
    assert run("evaluate", "--readme", readme).code == 0
    text = readme.read_text()
    assert text.startswith(f"one\n\n{BEGIN}\n\n| model |")
    assert text.endswith(f"|\n\n{END}\n\ntwo\n")
    assert "old" not in text
    assert run("evaluate", "--readme", readme).code == 0
    assert readme.read_text() == text
    readme.write_text("no place")
    result = run("evaluate", "--readme", readme)
    assert (result.code, len(result.lines)) == (2, 1)
    assert run("evaluate").code == 2
    assert run("evaluate", "--readme", tmp_path / "none.md").code == 1


def test_cards_without_scores_have_no_row():
    card = ModelCard("new", 4, {}, "0" * 64)
    assert "new" not in model_tables([card])
    card = ModelCard("sr", 4, {}, "0" * 64, scores={"Set5, bicubic LR": {"psnr_y": 31.234, "ssim_y": 0.87654}})
    assert "| `sr` | 31.23/0.8765 | - | - |" in model_tables([card])
    with pytest.raises(UsageError):
        with_block(f"{BEGIN}\n", "", "models")
