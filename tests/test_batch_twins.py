"""Inputs whose outputs would have one name, and places that are folders without saying so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commandline import Run, files, picture, runner

from irnscale.batch import Item, Naming, Output, plan, tell_apart


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / ".models"))
    return runner(capfdbinary, monkeypatch)


def settled(root: Path, *names: str, to: str | None = None, scale: int = 4) -> tuple[list[str | None], str | None]:
    """Names of the outputs of `names`, None for one that has a problem; and what is said."""
    items = [Item(name, root / name, Path(name).parent, found=True) for name in names]
    jobs = plan(items, Output(output=to), Naming("{stem}_down{scale}x.{ext}", "png"))
    jobs, said = tell_apart(jobs, (scale,), lambda _: scale)
    return [None if job.problem else str(job.path(scale).relative_to(root)) for job in jobs], said


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "b.jpg"], ["a_down4x.png", "b_down4x.png"]),
        (["a.jpg", "a.png", "b.png"], ["a_jpg_down4x.png", "a_png_down4x.png", "b_down4x.png"]),
        (["a.JPG", "a.jpg"], ["a_JPG_down4x.png", "a_jpg_down4x.png"]),
        (["a.jpg", "a"], ["a_jpg_down4x.png", "a_down4x.png"]),
        (["a.jpg", "x/a.png"], ["a_down4x.png", "x/a_down4x.png"]),
        (["a.jpg", "a.png", "a_jpg.tif"], ["a_jpg_down4x.png", "a_png_down4x.png", "a_jpg_tif_down4x.png"]),
        (["a.tar.gz.png", "a.tar.gz.webp"], ["a.tar.gz_png_down4x.png", "a.tar.gz_webp_down4x.png"]),
    ],
)
def test_twins_keep_their_extensions_whatever_the_order(tmp_path, names, expected):
    found, said = settled(tmp_path, *names)
    assert found == expected
    assert settled(tmp_path, *names[::-1])[0] == expected[::-1]
    assert (said is None) == (len({Path(name).with_suffix("") for name in names}) == len(names))


def test_what_nothing_tells_apart_stops_nobody_else(tmp_path):
    items = [Item(n, tmp_path / n) for n in ("x/a.jpg", "x/b.jpg", "y/c.jpg")]
    jobs, said = tell_apart(plan(items, Output(f"{tmp_path}/o/"), lambda stem, *_, **__: stem), (2,), lambda _: 2)
    assert [job.problem is None for job in jobs] == [True, True, True]
    naming = lambda stem, *_, **__: "c" if stem == "c" else "k"  # noqa: E731
    jobs, said = tell_apart(plan(items, Output(f"{tmp_path}/o/"), naming), (2,), lambda _: 2)
    assert [job.problem is None for job in jobs] == [False, False, True]
    assert said is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x/a.jpg", "y/a.jpg", "y/b.jpg"], ["x/a.png", "y/a.png", "b.png"]),
        (["x/q/a.jpg", "y/q/a.jpg"], ["x/q/a.png", "y/q/a.png"]),
        (["x/a.jpg", "x/y/a.jpg"], ["a.png", "y/a.png"]),
        (["x/a.jpg", "y/a.png"], ["a_jpg.png", "a_png.png"]),
        (["x/a.jpg", "y/a.jpg", "x/a.png"], ["x/a_jpg.png", "y/a_jpg.png", "a_png.png"]),
    ],
)
def test_one_name_in_several_folders(tmp_path, names, expected):
    for order in (1, -1):
        items = [Item(name, tmp_path / name) for name in names[::order]]
        output, naming = Output(f"{tmp_path}/o/"), Naming("{stem}.{ext}", "png")
        jobs, said = tell_apart(plan(items, output, naming), (2,), lambda _: 2)
        assert [str(job.path(2).relative_to(tmp_path / "o")) for job in jobs] == expected[::order]
        assert said is not None


def test_folders_that_hold_files_of_one_name(run, tmp_path):
    for name in ("x/q/a.png", "y/q/a.png", "x/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(tmp_path / name)
    result = run("down", "x", "y", "x/q", "-r", "-s", 2, "-o", "small")
    assert (result.code, len(result.lines)) == (0, 1), result.lines
    assert [name for name in files(tmp_path / "small") if name.endswith("png")] == [
        *("b_down2x.png", "x/q/a_down2x.png", "y/q/a_down2x.png")
    ]
    again = run("down", "x", "y", "-r", "-s", 2, "-o", "small", "--skip-existing", "--json")
    assert [json.loads(line).get("status") for line in again.text.splitlines()] == [*["skipped"] * 3, None]


@pytest.mark.parametrize("inputs", [("x",), ("x/a.png", "x/b.png")])
def test_a_file_is_no_folder(run, tmp_path, inputs):
    (tmp_path / "x").mkdir()
    for name in ("x/a.png", "x/b.png", "c.png"):
        picture(tmp_path / name)
    result = run("down", *inputs, "-s", 2, "-o", "c.png")
    assert (result.code, len(result.lines)) == (2, 1)
    assert "c.png is not a folder" in result.lines[0]
    assert "name a folder" in result.lines[0]


def test_files_are_looked_into_only_where_names_can_meet(tmp_path):
    asked = []

    def scale_of(job):
        asked.append(job.label)
        return 2 if "2x" in job.label else 4

    naming = Naming("{stem}_up{scale}x.{ext}", "png", drop="_down{scale}x")
    items = [Item(name, tmp_path / name) for name in ("a_down2x.png", "a_down4x.png", "c_down2x.png")]
    assert all(not job.apart for job in tell_apart(plan(items, Output(), naming), (2, 4), scale_of)[0])
    assert asked == [], "names that cannot meet need no look into the files"
    items.append(Item("a_down2x.webp", tmp_path / "a_down2x.webp"))
    jobs, _ = tell_apart(plan(items, Output(), naming), (2, 4), scale_of)
    assert [job.path(4 if "4x" in job.label else 2).name for job in jobs] == [
        *("a_png_up2x.png", "a_up4x.png", "c_up2x.png", "a_webp_up2x.png"),
    ]
    assert sorted(set(asked)) == ["a_down2x.png", "a_down2x.webp"]
    plain = Naming("{stem}.{ext}", "png", drop="_down{scale}x")
    jobs, _ = tell_apart(plan(items[:2], Output(), plain), (2, 4), scale_of)
    assert [job.path(4 if "4x" in job.label else 2).name for job in jobs] == ["a_down2x_png.png", "a_down4x_png.png"]


def test_a_folder_with_twins_there_and_back(run, tmp_path):
    for name in ("pair/photo.jpg", "pair/photo.png", "pair/other.png", "pair/sub/photo.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        picture(tmp_path / name)
    result = run("down", "pair", "-r", "-s", 2, "-o", "small", "--skip-existing")
    assert result.code == 0, result.lines
    small = ["other_down2x.png", "photo_jpg_down2x.png", "photo_png_down2x.png", "sub", "sub/photo_down2x.png"]
    assert files(tmp_path / "small") == small
    assert len([line for line in result.lines if "photo_jpg_down2x.png" in line]) == 1, "said once"
    again = run("down", "pair", "-r", "-s", 2, "-o", "small", "--skip-existing", "--json")
    assert [json.loads(line).get("status") for line in again.text.splitlines()] == [*["skipped"] * 4, None]
    half = run("down", "pair", "-r", "-s", 2, "-o", "half", "--shard", "2/4", "-n", "--json")
    assert json.loads(half.text.splitlines()[0])["output"] == "half/photo_jpg_down2x.png", "not by what a shard holds"
    assert run("up", "small", "-r", "-o", "back", "--name", "{stem}.{ext}").code == 0
    assert files(tmp_path / "back") == ["other.png", "photo_jpg.png", "photo_png.png", "sub", "sub/photo.png"]


def test_the_extension_is_a_field_of_names(run, tmp_path):
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "a.png")
    result = run("down", "a.jpg", "a.png", "-s", 2, "--name", "{stem}-{in_ext}-{scale}.{ext}", "-o", "out")
    assert (result.code, result.lines) == (0, [])
    assert files(tmp_path / "out") == ["a-jpg-2.png", "a-png-2.png"]


@pytest.mark.parametrize(
    ("arguments", "outputs"),
    [
        (["in", "-r", "-o", "small"], ["small/a_down2x.png", "small/sub/b_down2x.png"]),
        (["in", "-o", "small"], ["small/a_down2x.png", "small/sub/b_down2x.png"]),
        (["in", "in/sub", "-o", "small"], ["small/a_down2x.png", "small/sub/b_down2x.png"]),
        (["in", "-o", "deep/small.v2"], ["deep/small.v2/a_down2x.png", "deep/small.v2/sub/b_down2x.png"]),
        (["in/a.png", "in/sub/b.png", "-o", "small"], ["small/a_down2x.png", "small/b_down2x.png"]),
        (["--files-from", "one.txt", "-o", "small"], ["small/in/sub/b_down2x.png"]),
        (["in/a.png", "-o", "small", "--name", "{stem}.webp"], ["small/a.webp"]),
    ],
)
def test_a_new_place_for_several_is_a_folder(run, tmp_path, arguments, outputs):
    (tmp_path / "in/sub").mkdir(parents=True)
    picture(tmp_path / "in/a.png")
    picture(tmp_path / "in/sub/b.png")
    (tmp_path / "one.txt").write_text("in/sub/b.png\n")
    result = run("down", *arguments, "-s", 2)
    assert (result.code, result.lines) == (0, [])
    assert all((tmp_path / name).is_file() for name in outputs), files(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["in/a.png", "in/sub/b.png", "-o", "out.png"], 2, "-o out.png is not a folder"),
        (["in", "-r", "-o", "out.JPG"], 2, "-o out.JPG is not a folder"),
        (["in", "-r", "-o", "in/a.png"], 2, "-o in/a.png is not a folder"),
        (["in"], 1, "add -r"),
    ],
)
def test_what_is_no_new_folder(run, tmp_path, arguments, code, words):
    (tmp_path / "in/sub").mkdir(parents=True)
    picture(tmp_path / "in/a.png")
    picture(tmp_path / "in/sub/b.png")
    before = files(tmp_path)
    result = run("down", *arguments, "-s", 2)
    assert result.code == code
    assert words in result.lines[0]
    assert files(tmp_path) == before
