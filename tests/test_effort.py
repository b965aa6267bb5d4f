"""`down --effort`: small pictures that are optimised for what `up` makes of them."""

from __future__ import annotations

import numpy as np
import pytest
from commandline import Run, decibel, runner
from conftest import synthetic_photo
from PIL import Image


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(capfdbinary, monkeypatch)


@pytest.mark.parametrize(
    ("scale", "mode", "options"),
    [
        (2, "RGB", []),
        pytest.param(2, "L", ["--detail", "none"], marks=pytest.mark.slow),
        (4, "RGB", ["-f", "jpg", "-q", "80"]),
        pytest.param(2, "RGBA", ["--depth", "16", "--detail", "none"], marks=pytest.mark.slow),
    ],
)
def test_effort_restores_better(run, tmp_path, scale, mode, options):
    """Also across the borders of the parts that are optimised one by one, of which this picture has two."""
    image = Image.fromarray(synthetic_photo(40, 70 * scale)).convert(mode)
    image.save(tmp_path / "p.png")
    common = ["down", "p.png", "-s", scale, "--overwrite", *options]
    name = "p_down{}x.{}".format(scale, "jpg" if "jpg" in options else "png")
    scores = []
    for effort in (0, 5):
        assert run(*common, "--effort", effort).code == 0
        assert run("up", name, "-o", "back.png", "--overwrite", "--detail", "none").code == 0
        scores.append(decibel(*(np.asarray(Image.open(tmp_path / f).convert("RGB")) for f in ("p.png", "back.png"))))
    assert scores[1] > scores[0] + 0.05
    assert run(*common, "--effort", "-1").code == 2
