"""Scores of whole sets in the test loop: what they are given, what is kept, and where they are shown."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import picture

from irnscale.evaluation import report, tables
from irnscale.evaluation.cache import Cache
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.loop import Summary, Watch, evaluate
from irnscale.evaluation.methods import Method, baselines
from irnscale.evaluation.pictures import load
from irnscale.evaluation.ruler import Ruler, make
from irnscale.evaluation.scores import scores_of
from irnscale.metrics import as_8bit
from irnscale.metrics.scores import Chosen, OfSet, Score
from irnscale.metrics.sets import Estimate


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "set"
    folder.mkdir()
    for k, name in enumerate("abc"):
        picture(folder / f"{name}.png", 40 + 2 * k, 33)
    return folder


def spread(restored: torch.Tensor, originals: torch.Tensor) -> Estimate:
    return Estimate(float((restored.mean(0) - originals.mean(0)).abs().sum()), float(restored.std()))


def rows_of(x: torch.Tensor) -> torch.Tensor:
    """A picture's rows of pixels, by their mean colour."""
    return x[0].double().mean(dim=2).T


SCORE = Score("apart", "apart", "a test's", False, 5, "apart 1", by="rows 1", of_set=OfSet(rows_of, spread))
RULER = Ruler(scores=(SCORE,))
PNG = Codec()


def counted(photos: Path, cache: Cache, codecs=(PNG,), draws: int = 1, **options) -> tuple[list[Summary], list]:
    calls: list[int] = []
    bicubic = baselines(2)[0]

    def restore(x, draw):
        calls.append(draw)
        return bicubic.restore(x, draw) + 0.01 * draw

    method = Method("counted", 2, "counted 1", bicubic.shrink, restore, draws=draws)
    options = {"ruler": RULER} | options
    return evaluate(photos, [method], list(codecs), cache=cache, **options), calls


def by_hand(photos: Path, codec: Codec = PNG) -> Estimate:
    photographs = [load(path, 2) for path in sorted(photos.glob("*.png"))]
    made = [make(baselines(2)[0], photograph, codec).restored for photograph in photographs]
    restored = torch.cat([rows_of(as_8bit(x).float() / 255) for x in made])
    return spread(restored, torch.cat([rows_of(photograph.pixels) for photograph in photographs]))


def test_a_score_of_a_set_is_of_all_its_pictures(photos, tmp_path):
    (png, jpeg), _ = counted(photos, Cache(None), (PNG, Codec(40)))
    for summary, codec in ((png, PNG), (jpeg, Codec(40))):
        wanted = by_hand(photos, codec)
        assert summary.mean["apart"] == pytest.approx(wanted.value, rel=1e-4)
        assert summary.deviation["apart"] == pytest.approx(wanted.deviation, rel=1e-4)
        assert all("apart" not in row for row in summary.rows.values())
        assert summary.spread == {}
    assert png.mean["apart"] < jpeg.mean["apart"]
    assert png.halves == jpeg.halves, "of the photographs alone"
    assert png.halves["apart"].value > 0


def test_a_score_of_a_set_is_kept_by_itself(photos, tmp_path):
    path = tmp_path / "rows"
    counted(photos, Cache(path), ruler=Ruler())
    (first,), calls = counted(photos, Cache(path))
    assert len(calls) == 3, "every photograph once more, for this score"
    (again,), calls = counted(photos, Cache(path))
    assert calls == []
    assert (again.mean, again.deviation, again.halves) == (first.mean, first.deviation, first.halves)
    (other,), calls = counted(photos, Cache(path), limit=2)
    assert len(calls) == 2, "another set"
    assert other.mean["apart"] != first.mean["apart"]
    picture(photos / "d.png", 50, 30)
    _, calls = counted(photos, Cache(path))
    assert len(calls) == 4
    renamed = replace(SCORE, identity="apart 2")
    assert len(counted(photos, Cache(path), ruler=Ruler(scores=(renamed,)))[1]) == 4
    plain, calls = counted(photos, Cache(path), ruler=Ruler())
    assert calls == []
    assert "apart" not in plain[0].mean


def test_an_unreadable_photograph_is_left_out_of_the_set(photos, tmp_path):
    whole = by_hand(photos)
    (photos / "e.png").write_bytes(b"no picture")
    skipped = []
    for _ in range(2):
        (summary,), calls = counted(photos, Cache(tmp_path / "rows"), watch=Watch(skipped=skipped.append))
        assert summary.mean["apart"] == pytest.approx(whole.value, rel=1e-4)
    assert calls == []
    assert len(skipped) == 2


def test_every_draw_has_a_score(photos, tmp_path):
    for _ in range(2):
        (summary,), calls = counted(photos, Cache(tmp_path / "rows"), draws=3)
        singles = [by_hand(photos).value]
        assert summary.mean["apart"] > singles[0], "the mean over draws, the first of which is the nearest"
        assert summary.spread["apart"] > 0.005
    assert calls == []


def test_where_a_score_of_a_set_is_shown(photos):
    chosen = Chosen(more=(SCORE,))
    results, _ = counted(photos, Cache(None))
    shown = f"{results[0].mean['apart']:.5f} ± {results[0].deviation['apart']:.5f}"
    text = tables.table(results, chosen)
    assert shown in text
    assert "apart by rows 1" in text, "what it looks with, and its digest"
    assert f"other half: apart {results[0].halves['apart'].value:.5f}" in text
    record = json.loads(json.dumps(tables.record(results[0], RULER)))
    assert record["apart"] == results[0].mean["apart"]
    assert record["deviation"] == results[0].deviation
    assert record["by"] == {"apart": "rows 1"}
    assert "apart" not in record["min"]
    head, *lines = csv.reader(tables.rows_as_csv(results).decode().splitlines())
    assert "apart" not in head
    assert len(lines) == 3
    page = report.report(results, [], RULER, chosen).decode()
    assert page.count("<th>apart</th>") == 1, "among the means"
    assert shown in page
    assert "rows 1" in page
    kept = scores_of([replace(results[0], method=replace(results[0].method, weights="w"))], "w", (SCORE,))
    assert kept["set"]["apart"] == pytest.approx(results[0].mean["apart"], abs=1e-4)


def test_what_has_no_value_is_none_in_json(photos):
    empty = OfSet(rows_of, lambda one, other: Estimate(math.nan))
    ruler = Ruler(scores=(replace(SCORE, of_set=empty, identity="empty"),))
    results, _ = counted(photos, Cache(None), ruler=ruler)
    record = tables.record(results[0], ruler)
    assert record["apart"] is None
    assert record["halves"] == {"apart": None}
    assert " - " in tables.table(results, Chosen(more=ruler.scores))
    assert np.isfinite(results[0].mean["psnr_y"])
