"""Scores on cards, and the README's tables from them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from commandline import Run, copied_model, picture, runner

from irnscale.errors import UsageError
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.loop import Summary
from irnscale.evaluation.methods import Method
from irnscale.evaluation.scores import costs_of, model_tables, scores_of, with_block
from irnscale.zoo import ModelCard, models, newest, read_card

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
    cards = [model.card for model in newest(model for model in models({}) if model.shipped)]
    assert with_block(text, model_tables(cards), "models") == text, "run `irnscale evaluate --readme README.md`"
    assert all(f"| `{card.name}` |" in text for card in cards if "Set5" in card.scores)


def test_every_model_says_what_bfloat16_costs():
    """So that `--precision auto` is decided by measurement: see "Scores" in CONTRIBUTING.md for the command."""
    cards = [model.card for model in models({}) if model.shipped]
    assert [card.name for card in cards if "Set5" not in card.precision_costs.get("bfloat16", {})] == []


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


def test_scores_with_detail_are_apart(run, folder, tmp_path):
    """Beside those of the network alone, which stay as they are; of attached detail nothing is kept."""
    path = copied_model(tmp_path / "models").with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scores": {}}))
    options = ("--detail", "1,2,exact", "--attach", "2K", "--update-card", "--json")
    result = run("evaluate", "--data", folder, "-m", "own", *options)
    assert result.code == 0, result.lines
    rows = {row["codec"]: row for row in map(json.loads, result.text.splitlines())}
    card = read_card(path)
    keys = ("detail_psnr_y", "detail_ssim_y", "lr_psnr_y", "lr_ssim_y")
    assert set(card.scores) == {"Tiny", "Tiny, 1 bit of detail", "Tiny, 2 bits of detail"}
    assert card.scores["Tiny, 2 bits of detail"] == {key: round(rows["png, 2 bits"][key], 4) for key in keys}
    assert card.scores["Tiny"]["psnr_y"] == round(rows["png"]["psnr_y"], 4)
    row = card.scores["Tiny, 1 bit of detail"]
    told = f"{row['detail_psnr_y']:.2f}/{row['detail_ssim_y']:.4f} | {row['lr_psnr_y']:.1f}"
    assert f"| `own`, 1 bit | {told} |\n" in model_tables([card], ["Tiny"])


def test_what_a_number_format_costs(run, folder, tmp_path):
    """The card keeps the difference of the means, and no score of the methods that are compared."""
    weights = copied_model(tmp_path / "models")
    path = weights.with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precisions": ["float32"], "precision_costs": {}}))
    before = read_card(path)
    command = ["evaluate", "--data", folder, "-m", "own", "--precision-costs", "--json"]
    result = run(*command, "--precision", "float32", "--jpeg", "90")
    assert read_card(path) == before
    rows = {(row["method"], row["codec"]): row["psnr_y"] for row in map(json.loads, result.text.splitlines())}
    assert set(rows) == {
        *((name, codec) for name in ("bicubic", "lanczos", "own") for codec in ("png", "jpg q90 4:2:0")),
        ("own in float32", "png"),
        ("own in bfloat16", "png"),
    }
    assert rows["own", "png"] == rows["own in float32", "png"] != rows["own in bfloat16", "png"]
    cost = round(rows["own in float32", "png"] - rows["own in bfloat16", "png"], 4)
    assert cost != 0
    result = run(*command, "--update-card", "--precision", "float32")
    assert result.code == 0, result.lines
    card = read_card(path)
    assert card.scores.keys() - before.scores.keys() == {"Tiny"}
    assert card.precision_costs == {"bfloat16": {"Tiny": cost}}
    assert card.precisions == ("float32", "bfloat16")
    assert ("bfloat16" in card.automatic) == (cost <= 0.03)
    assert run("evaluate", "--data", folder, "-m", "own", "--update-card").code == 0
    assert read_card(path).precision_costs == card.precision_costs, "what is not measured stays"


def test_costs_of_several_sets():
    rows = [
        summary("A", "float32", 40.0),
        summary("A", "bfloat16", 39.96),
        summary("B", "float32", 30.0),
        summary("B", "bfloat16", 30.001),
        summary("C", "bfloat16", 20.0),
        summary("A", "bfloat16", 10.0, "e" * 12),
        summary("A", "", 35.0),
        summary("D", "float32", math.inf),
        summary("D", "bfloat16", math.inf),
    ]
    assert costs_of(rows, "d" * 12) == {"bfloat16": {"A": 0.04, "B": -0.001}}
    card = ModelCard("m", 2, {}, "d" * 64, precisions=("float32", "bfloat16"))
    assert card.automatic == {"float32", "bfloat16"}
    assert replace(card, precision_costs=costs_of(rows, "d" * 12)).automatic == {"float32"}


def summary(name, precision, value, digest="d" * 12):
    method = Method("m", 2, "", _none, _none, weights=digest, compared=precision)
    mean = {"psnr_y": value, "ssim_y": math.nan, "lr_psnr_y": math.inf, "lr_ssim_y": 1.0}
    return Summary(name, method, Codec(), 1, mean, {}, {}, {}, {})


def test_a_card_has_no_score_that_is_no_number():
    """Of pictures smaller than SSIM's window, or without any error."""
    assert scores_of([summary("A", "", 35.0)], "d" * 12) == {"A": {"psnr_y": 35.0, "lr_ssim_y": 1.0}}


def _none(*arguments):
    raise AssertionError("is not run")


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
