"""Which inputs a run has and where their outputs go, without any picture being rescaled."""

from __future__ import annotations

import codecs
import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from irnscale.batch import Item, Naming, Output, Selection, collect, parse_shard, plan, read_source
from irnscale.errors import InputError, UsageError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG if path.suffix != ".txt" else b"text")
    return root


def labels(found) -> list[str]:
    return [item.label for item in found.items]


def test_a_tree_is_searched_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "in/b.PNG", "in/a.jpg", "in/z/c.tif", "in/b/d.webp", "in/.h/e.png", "in/.f.png"))
    tree(tmp_path, "in/notes.txt", "in/readme", "in/bare.d/x.txt", "out/o.png")
    (tmp_path / "in" / "plain").write_bytes(b"no picture")
    found = collect(Selection(("in",), recursive=True))
    assert labels(found) == ["in/a.jpg", "in/b.PNG", "in/readme", "in/b/d.webp", "in/z/c.tif"]
    assert [str(item.below) for item in found.items] == [".", ".", ".", "b", "z"]
    assert all(item.found for item in found.items)
    assert (found.passed_over, found.empty) == (3, [])
    assert labels(collect(Selection(("in/bare.d",), recursive=True))) == []
    assert collect(Selection(("in/bare.d",), recursive=True)).empty == ["in/bare.d"]


def test_links_in_a_tree(tmp_path):
    tree(tmp_path, "in/a.png", "other/b.png")
    (tmp_path / "in/loop").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in/elsewhere").symlink_to(tmp_path / "other", target_is_directory=True)
    (tmp_path / "in/link.png").symlink_to(tmp_path / "other/b.png")
    (tmp_path / "in/self.png").symlink_to(tmp_path / "in/self.png")
    (tmp_path / "in/broken.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "in/pipe.png")
    found = collect(Selection((str(tmp_path / "in"),), recursive=True))
    names = [Path(label).name for label in labels(found)]
    assert names == ["a.png", "broken.png", "link.png", "self.png"], "pipes and links to folders are left alone"
    for item in found.items[1::2]:
        with pytest.raises(InputError, match=r"broken|self"):
            read_source(item)


def test_the_output_folder_is_not_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "in/a.png", "in/small/b.png", "in/sub/c.png"))
    selection = Selection(("in",), recursive=True)
    assert labels(collect(selection, avoid=Path("in/small/"))) == ["in/a.png", "in/sub/c.png"]
    assert labels(collect(selection, avoid=tmp_path / "in/sub/../small")) == ["in/a.png", "in/sub/c.png"]


def test_an_unreadable_folder_is_a_failure(tmp_path, monkeypatch):
    tree(tmp_path, "in/a.png", "in/locked/b.png")
    scandir = os.scandir

    def denied(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    found = collect(Selection((str(tmp_path / "in"),), recursive=True))
    assert len(found.items) == 2
    with pytest.raises(InputError, match=r"locked: the folder cannot be read"):
        read_source(found.items[1])


def test_every_input_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "in/a.png", "b.png"))
    found = collect(Selection(("b.png", "./b.png", "in", "in/", "b.png"), recursive=True))
    assert labels(found) == ["b.png", "in/a.png"]


@pytest.mark.parametrize(
    ("data", "null", "expected"),
    [
        (b"a.png\nb c.png\r\n\nd.png", False, ["a.png", "b c.png", "d.png"]),
        (b"a\nb.png\0c.png\0", True, ["a\nb.png", "c.png"]),
        (b"-\n-x.png\n\xff.png", False, ["./-", "-x.png", os.fsdecode(b"\xff.png")]),
        (b"", False, []),
        (codecs.BOM_UTF8 + b"a.png\r\nb.png", False, ["a.png", "b.png"]),
        (codecs.BOM_UTF8 + b"\xe9.png\n", False, [os.fsdecode(b"\xe9.png")]),
        (codecs.BOM_UTF8 + b"a.png\0b.png\0", True, ["a.png", "b.png"]),
        (codecs.BOM_UTF8, False, []),
        ("\ufeffa.png\r\né \U0001f600.png\r\n".encode("utf-16-le"), False, ["a.png", "é \U0001f600.png"]),
        ("\ufeffa.png\né.png".encode("utf-16-be"), False, ["a.png", "é.png"]),
        ("\ufeffa.png\n\u0a0d.png".encode("utf-16-le"), False, ["a.png", "\u0a0d.png"]),
        ("\ufeffa.png\n".encode("utf-32-le"), False, ["a.png"]),
        ("\ufeffa.png\n".encode("utf-32-be"), False, ["a.png"]),
        ("a.png\r\né.png\r\n".encode("utf-16-le"), False, ["a.png", "é.png"]),
        ("a.png\nb.png\n".encode("utf-16-be"), False, ["a.png", "b.png"]),
        ("a.png\n\U0001f600.png\n\u0a0d.png\n".encode("utf-16-le"), False, ["a.png", "\U0001f600.png", "\u0a0d.png"]),
        ("a.png\n\U0001f600.png".encode("utf-16-be"), False, ["a.png", "\U0001f600.png"]),
        ("a.png".encode("utf-16-le"), False, ["a.png"]),
        ("a.png\r\n\u4e2d.png".encode("utf-32-be"), False, ["a.png", "\u4e2d.png"]),
        ("a.png\n".encode("utf-32-le"), False, ["a.png"]),
        (b"a.png\rb.png\r", False, ["a.png", "b.png"]),
        (b"a.png\n \t \n\xef\xbb\xbfb.png\n", False, ["a.png", "b.png"]),
        (b"\xff\xfea.png\0", True, [os.fsdecode(b"\xff\xfea.png")]),
    ],
)
def test_lists_of_names(tmp_path, monkeypatch, data, null, expected):
    path = tmp_path / "list"
    path.write_bytes(data)
    assert labels(collect(Selection(files_from=str(path), null=null))) == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert labels(collect(Selection(("z.png",), files_from="-", null=null))) == ["z.png", *expected]


def test_blanks_and_quotes_around_a_name(tmp_path, monkeypatch):
    """As tables and shells write them; where a file is called so, it is meant."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b c.png", "d.png", "d.png ", '"e.png"'):
        (tmp_path / name).touch()
    lines = ["a.png   ", "\ta.png", '"b c.png"', " 'a.png' ", "d.png ", '"e.png"', "missing.png ", "\udcfc.png"]
    (tmp_path / "list").write_bytes(os.fsencode("\n".join(lines)))
    items = collect(Selection(files_from="list")).items
    assert [item.label for item in items] == ["a.png", "b c.png", "d.png ", '"e.png"', "missing.png ", "\udcfc.png"]
    assert [item.problem is None for item in items] == [True] * 5 + [False]
    assert "UTF-8" in str(items[-1].problem)


def test_lists_repeat_the_folders_of_their_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tree(tmp_path, "a.png", "in/a.png", "in/sub/b.png", "beside/c.png"))
    named = {
        "a.png": "",
        "./in//a.png": "in",
        "in/x/../sub/b.png": "in/sub",
        "../../beside/c.png": "beside",
        "/photos/2024/d.png": "photos/2024",
        "a/../../e.png": "",
    }
    Path("list").write_text("\n".join([*named, "in/a.png", "z.png"]))
    found = collect(Selection(("z.png",), files_from="list"))
    assert {item.label: str(item.below) for item in found.items} == {"z.png": "."} | {
        name: below or "." for name, below in named.items()
    }
    Path("list").write_text("in\nbeside/c.png\n")
    found = collect(Selection(files_from="list", recursive=True))
    assert [(item.label, str(item.below)) for item in found.items] == [
        ("in/a.png", "in"),
        ("in/sub/b.png", "in/sub"),
        ("beside/c.png", "beside"),
    ]


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (Selection(), "no INPUT"),
        (Selection(("a", "")), "empty file name"),
        (Selection(("-", "-")), "only once"),
        (Selection(("-",), files_from="-"), "only once"),
        (Selection(("a",), null=True), "`files_from`"),
        (Selection(files_from="/nonexistent/list"), "cannot be read"),
    ],
)
def test_selections_that_are_refused(selection, words):
    with pytest.raises(UsageError, match=words):
        collect(selection)


def test_null_bytes_without_the_option(tmp_path):
    (tmp_path / "list").write_bytes(b"a.png\0b.png\0")
    with pytest.raises(UsageError, match="add `null`"):
        collect(Selection(files_from=str(tmp_path / "list")))


@pytest.mark.parametrize("data", ["\ufeffa.png\n".encode("utf-16-le")[:-1], b"\xff\xfe\0\0a\0\0"])
def test_a_list_that_is_cut_off(tmp_path, data):
    (tmp_path / "list").write_bytes(data)
    with pytest.raises(UsageError, match="cut off"):
        collect(Selection(files_from=str(tmp_path / "list")))


def test_what_is_no_file(tmp_path):
    with pytest.raises(InputError, match="add `recursive`"):
        read_source(Item(str(tmp_path), tmp_path))
    with pytest.raises(InputError, match="device"):
        read_source(Item("/dev/zero", Path("/dev/zero")))


@given(st.integers(1, 60), st.integers(1, 12))
def test_shards_share_all_inputs(count, parts):
    shares = [list(range(count))[i - 1 :: n] for i, n in (parse_shard(f"{k}/{parts}") for k in range(1, parts + 1))]
    assert sorted(n for share in shares for n in share) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "1/2/3", "-1/2", " 1/2", "", "1/9999999999"])
def test_shards_that_are_none(text):
    with pytest.raises(UsageError, match="1/8"):
        parse_shard(text)


@given(st.text("ab._-{}", min_size=1, max_size=12).filter(lambda s: s not in (".", "..")), st.sampled_from([2, 4, 16]))
def test_names_hold_the_stem_as_it_is(stem, scale):
    assert Naming("{stem}_down{scale}x.{ext}", "png")(stem, scale) == f"{stem}_down{scale}x.png"
    up = Naming("{stem}_up{scale}x.{ext}", "webp", drop="_down{scale}x")
    assert up(f"{stem}_down{scale}x", scale) == f"{stem}_up{scale}x.webp"
    assert up(f"{stem}_down3x", scale) == f"{stem}_down3x_up{scale}x.webp"


@pytest.mark.parametrize("template", ["{stem}", "{name}.png", "a/{stem}.png", "{stem}.{ext", "x}.png", "{}.png"])
def test_templates_that_are_none(template):
    with pytest.raises(UsageError, match="name="):
        Naming(template, "png")


def jobs_of(root: Path, to: str | None, *names: str, **options) -> list:
    items = [Item(name, root / name, Path(name).parent, found=True) for name in names]
    return plan(items, Output(output=to, **options), Naming("{stem}_down{scale}x.{ext}", "png"))


def test_trees_are_repeated(tmp_path):
    paths = [job.path(2) for job in jobs_of(tmp_path, f"{tmp_path}/out/", "a.jpg", "x/a.jpg")]
    assert paths == [tmp_path / "out/a_down2x.png", tmp_path / "out/x/a_down2x.png"]
    beside = [job.path(2) for job in jobs_of(tmp_path, None, "a.jpg", "x/a.jpg")]
    assert beside == [tmp_path / "a_down2x.png", tmp_path / "x/a_down2x.png"]
    with pytest.raises(UsageError, match="`name` contradicts"):
        plan([Item("a", tmp_path / "a")], Output("b.png", name="{stem}.png"), Naming("{stem}.png", "png"))
