"""The HTML report: what it says, and that it works in a real browser."""

from __future__ import annotations

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from commandline import Run, picture, pixels, runner

from irnscale.evaluation.cache import Cache
from irnscale.evaluation.codecs import Codec
from irnscale.evaluation.crops import chosen_photographs, crops_of, worst_window
from irnscale.evaluation.loop import Summary, evaluate
from irnscale.evaluation.methods import Method, baselines
from irnscale.evaluation.pictures import load
from irnscale.evaluation.published import published, published_on
from irnscale.evaluation.report import report
from irnscale.evaluation.ruler import FIELDS, Row, Ruler
from irnscale.metrics.scores import NAMES as SCORE_NAMES


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A set whose name others have published figures for."""
    place = tmp_path_factory.mktemp("data") / "Set5"
    place.mkdir()
    for n, (width, height) in enumerate(((96, 80), (64, 72), (70, 66))):
        picture(place / f"<{n}>.png", width, height)
    return place


@pytest.fixture(scope="module")
def results(folder) -> list[Summary]:
    """Resizers, and one that passes for a model: it restores everything as black."""
    (bicubic, _) = baselines(4)
    black = Method(
        "black", 4, "black 1", bicubic.shrink, lambda x, draw: 0 * bicubic.restore(x, draw), draws=1, weights="0"
    )
    return evaluate(folder, [*baselines(2), bicubic, black], [Codec(), Codec(30)], cache=Cache(None))


@pytest.fixture(scope="module")
def html(tmp_path_factory, folder, results) -> Path:
    """The report."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_bytes(report(results, crops_of(folder, results, 2), Ruler()))
    return path


def row(psnr_y: float) -> Row:
    return dict.fromkeys(FIELDS, psnr_y)


def test_what_it_says(html, results):
    text = html.read_text()
    for summary in results:
        assert f"{summary.mean['psnr_y']:.2f} / {summary.mean['ssim_y']:.4f}" in text
        for name, scores in summary.rows.items():
            escaped = name.replace("<", "&lt;").replace(">", "&gt;")
            assert f"<td class=words>{escaped}</td><td class=words>{summary.method.name}</td>" in text
            assert f"{scores['lr_psnr_rgb']:.2f} / {scores['lr_ssim_rgb']:.4f}" in text
    assert "36.19 / 0.9451" in text, "the paper's IRN on Set5 x4, beside ours"
    assert "29.05 / 0.8088" in text, "SAIN through JPEG 50"
    assert "<td class=words>SRFlow, x8</td><td>25.24</td>" in text
    assert "<td class=words>Glow16-SRF32</td>" in text
    sources = re.findall(r'<a href="(https://[^"]+)">', text)
    assert len(sources) == len({(p.source, p.url) for p in published()})
    assert not re.findall(r'(?:src|href)="(?!https://|data:)', text)


def test_published_figures_are_sound():
    assert len(published()) > 100
    for name in ("IRN", "IRN, dissertation", "HCFlow", "SAIN", "CAR & EDSR"):
        assert any(p.method == name for p in published())
    for p in published():
        assert p.scores
        assert set(p.scores) <= {*FIELDS, *SCORE_NAMES, "fid"}
        for key, value in p.scores.items():
            assert value <= 1 if "ssim" in key or key == "lpips" else value < 100
            assert value > (5 if "psnr" in key else 0) or (key, p.method) == ("diversity", "bicubic")
        assert p.url.startswith("https://")
        assert re.fullmatch(r"png|jpg q\d\d 4:2:0|bicubic LR|generated", p.codec)
        assert ("fid" in p.scores) == (p.codec == "generated")
    keys = [(p.method, p.scale, p.set, p.codec) for p in published()]
    assert len(set(keys)) == len(keys)
    assert {p.method: p.scores for p in published_on("set5", 4, "png")}["IRN"] == {"psnr_y": 36.19, "ssim_y": 0.9451}


def test_which_photographs_and_which_part(folder):
    rows = {f"{n}.png": row(30 + n) for n in range(9)}
    summary = Summary("s", baselines(2)[0], Codec(), 9, {}, {}, {}, {}, rows)
    assert chosen_photographs(summary, 3) == ["0.png", "4.png", "8.png"]
    assert len(set(chosen_photographs(summary, 99))) == 9
    hr = load(folder / "<0>.png", 2).pixels
    damaged = hr.clone()
    damaged[:, :, 41:47, 61:67] += 0.5
    left, top = worst_window(damaged, hr, 16, 2)
    assert left <= 61 <= 67 <= left + 16
    assert top <= 41 <= 47 <= top + 16
    assert left % 2 == top % 2 == 0


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_in_a_browser(html, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        browser.open(html)
        stages = browser.evaluate("document.querySelectorAll('.compare').length")
        assert stages == 2, "one per scale"
        loaded = "[...document.images].every((i) => i.complete && i.naturalWidth > 0) && document.images.length"
        assert browser.evaluate(loaded) == 4
        last = "[...document.querySelectorAll('.compare')].at(-1)"
        browser.evaluate(f"{last}.scrollIntoView()")
        left, right = browser.evaluate(f"[...{last}.querySelectorAll('select')].slice(1).map((s) => s.value)")
        assert (left, right) == ("black", "bicubic"), "the model beside bicubic"
        x, y, width, height = browser.evaluate(
            f"(({{x, y, width, height}}) => [x, y, width, height])({last}.querySelector('.stage')"
            ".getBoundingClientRect())"
        )

        def black_until() -> float:
            """The part of the stage's middle row that shows the left picture."""
            shown = pixels(browser.screenshot(tmp_path / "now.png"))[..., :3]
            line = shown[int(y + height / 2), int(x) : int(x + width)]
            return float(np.argmax(line.max(axis=1) > 30) / width)

        assert black_until() == pytest.approx(0.5, abs=0.02)
        browser.drag((x + width / 2, y + height / 2), (x + width / 4, y + height / 2))
        assert black_until() == pytest.approx(0.25, abs=0.02)
        browser.drag((x + 5, y + 5), (x + width * 0.8, y + height / 3))
        assert black_until() == pytest.approx(0.8, abs=0.02)
        browser.evaluate(f"{last}.querySelector('input').focus()")
        for kind in ("rawKeyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Home", code="Home", windowsVirtualKeyCode=36)
        assert browser.evaluate(f"{last}.querySelector('input').value") == "0"
        assert black_until() < 0.02

        every = (
            f"(async () => {{ const found = [], [which, left] = {last}.querySelectorAll('select');"
            f"const image = {last}.querySelector('.left'), note = {last}.querySelector('.note-left');"
            "for (const part of which.options) { which.value = part.value;"
            " which.dispatchEvent(new Event('change'));"
            " for (const label of [...left.options].map((o) => o.value)) { left.value = label;"
            " left.dispatchEvent(new Event('change')); await image.decode();"
            " found.push([part.text, label, image.naturalWidth, note.textContent]); } } return found; })()"
        )
        found = browser.evaluate(every)
        assert len(found) == 2 * 6, "two parts; the original, the small one, and two methods with two codecs"
        assert all(size > 0 and note.startswith(label) for _, label, size, note in found), json.dumps(found)
        assert browser.messages == [], "nothing on the console"
        assert all(url.startswith(("file:", "data:")) for url in browser.requests)


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    return runner(capfdbinary, monkeypatch)


def test_the_command(run, folder, tmp_path):
    command = ["evaluate", "--data", folder, "-s", 2, "-m", "irn-x2", "--limit", 1, "--no-cache", "--report", "r.html"]
    result = run(*command)
    assert (result.code, result.lines) == (0, [])
    assert b"irn-x2: small" in (tmp_path / "r.html").read_bytes()
    result = run(*command)
    assert (result.code, len(result.lines)) == (5, 1), "an existing report is not replaced"
    assert run(*command, "--overwrite", "--crops", 0).code == 0
    assert b"<select>" not in (tmp_path / "r.html").read_bytes()


class Scripts(HTMLParser):
    """The contents of the scripts on a page, and its tags, as a parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.scripts += [""] * (tag == "script")

    def handle_data(self, data):
        if self.tags and self.tags[-1] == "script" and self.scripts:
            self.scripts[-1] += data


@pytest.mark.parametrize(
    "name",
    ["<!--<script>.png", "<\\script>&amp;\"'.png", "<img src=x onerror=alert(1)>.png", os.fsdecode(b"\xff<.png")],
)
def test_names_of_files_are_text_on_a_page(tmp_path, name):
    place = tmp_path / "set"
    place.mkdir()
    try:
        picture(place / "plain.png", 64, 72).rename(place / name)
    except OSError:
        pytest.skip("this file system has no such names")
    results = evaluate(place, [baselines(2)[0]], [Codec()], cache=Cache(None))
    text = report(results, crops_of(place, results, 1), Ruler()).decode()
    parsed = Scripts(text)
    assert len(parsed.scripts) == 2, "the data and the program"
    crops = json.loads(parsed.scripts[0])
    assert any(Path(name).stem in crop["title"] for crop in crops)
    assert "<" not in parsed.scripts[0]
    assert parsed.tags.count("img") == 2, "those of the slider"
