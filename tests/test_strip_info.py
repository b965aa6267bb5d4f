"""`strip` and `info`: standard input, what they may replace, and what has become of the detail."""

from __future__ import annotations

import json

import pytest
from commandline import Run, picture, resave, runner
from PIL import Image, PngImagePlugin

from irnscale.images import segments


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    return runner(capfdbinary, monkeypatch)


def test_strip_and_info_read_stdin(run, tmp_path):
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2, "-o", "s.png").code == 0
    assert run("strip", "s.png", "-o", "t.png").code == 0
    small, clean = (tmp_path / "s.png").read_bytes(), (tmp_path / "t.png").read_bytes()
    assert run("strip", "-", stdin=small).stdout == clean
    assert run("strip", "-", "-o", "u.png", stdin=small).code == 0
    assert run("strip", "-", "s.png", "-o", "both", stdin=small).code == 0, "a new place of several is a folder"
    assert all((tmp_path / name).read_bytes() == clean for name in ("u.png", "both/stdin.png", "both/s.png"))
    assert "with irn-x2" in run("info", "-", stdin=small).text
    assert json.loads(run("info", "-", "--json", stdin=small).text)["file"] == "stdin"
    for command in ("strip", "info"):
        for stdin in (b"", b"none", small[:200]):
            result = run(command, "-", stdin=stdin)
            assert (result.code, len(result.lines), result.stdout) == (1, 1, b"")
        assert run(command, "-", "-", stdin=small).code == 2


def test_strip_replaces_no_input_and_no_output_of_its_own(run, tmp_path):
    source = picture(tmp_path / "p.png", 61, 47)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        assert run("down", source, "-s", 2, "-o", f"{folder}/s.png").code == 0
    before = (tmp_path / "a/s.png").read_bytes()
    assert run("strip", "a/s.png", "-o", "a/s.png", "--overwrite").code == 5
    assert (tmp_path / "a/s.png").read_bytes() == before
    result = run("strip", "a/s.png", "b/s.png", "-o", "c/", "--overwrite")
    assert (result.code, len(result.lines)) == (5, 1)


def test_info_says_what_became_of_the_detail(run, tmp_path):
    source = picture(tmp_path / "p.png", 61, 47)
    assert run("down", source, "-s", 2, "-o", "s.png", "--detail", "exact").code == 0
    whole = run("info", "s.png").text
    assert "as written, restored with it exactly the original" in whole
    assert "note:" not in whole
    with Image.open(tmp_path / "s.png") as image:
        info = PngImagePlugin.PngInfo()
        info.add_itxt("irnscale", image.info["irnscale"])
        image.save(tmp_path / "dropped.png", pnginfo=info)
        image.putpixel((3, 3), (0, 0, 0))
        image.save(tmp_path / "changed.png", pnginfo=info)
    block = segments.attachment((tmp_path / "s.png").read_bytes())
    changed = segments.attached((tmp_path / "changed.png").read_bytes(), block, "png")
    (tmp_path / "changed.png").write_bytes(changed)
    for name in ("dropped.png", "changed.png"):
        assert "note: its lossless layer is gone or damaged" in run("info", name).text
    assert run("down", source, "-s", 2, "-o", "t.png").code == 0
    resave(tmp_path / "t.png", tmp_path / "edited.png", lambda image: image.point(lambda value: value & 0xF0))
    assert "note: its detail is gone" in run("info", "edited.png").text
