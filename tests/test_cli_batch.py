"""Whole folders through the command line: trees, lists, skipping, reports."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from commandline import Run, files, picture, pixels, runner
from PIL import Image

from irnscale.images.provenance import read_provenance

TOOL = [sys.executable, "-c", "from irnscale.cli.main import run; run()"]


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / ".models"))
    return runner(capfdbinary, monkeypatch)


@pytest.fixture
def photos(tmp_path) -> Path:
    """Three photographs in two folders, and a text."""
    (tmp_path / "in/sub").mkdir(parents=True)
    picture(tmp_path / "in/a.png")
    picture(tmp_path / "in/b.jpg", 16, 9)
    picture(tmp_path / "in/sub/a.webp", 9, 16)
    (tmp_path / "in/notes.txt").write_text("notes")
    return tmp_path / "in"


SMALL = ["a_down2x.png", "b_down2x.png", "sub", "sub/a_down2x.png"]


def events(result) -> list[dict]:
    return [json.loads(line) for line in result.text.splitlines()]


def test_a_tree_there_and_back(run, photos, tmp_path):
    before = {path: path.read_bytes() for path in photos.rglob("*.*")}
    assert run("down", "in", "-r", "-s", 2, "-o", "small/").code == 0
    assert files(tmp_path / "small") == SMALL
    assert run("up", "small", "-r", "-o", "back/", "--name", "{stem}.{ext}").code == 0
    assert files(tmp_path / "back") == ["a.png", "b.png", "sub", "sub/a.png"]
    assert pixels(tmp_path / "back/sub/a.png").shape == (16, 9, 3)
    assert {path: path.read_bytes() for path in photos.rglob("*.*")} == before


def test_outputs_beside_the_inputs_are_not_inputs_the_next_time(run, photos):
    assert run("down", "in", "-r", "-s", 2).code == 0
    assert len(files(photos)) == 5 + 3
    refused = run("down", "in", "-r", "-s", 2)
    assert (refused.code, len(refused.lines)) == (5, 3 + 1), refused.lines
    assert all("already exists" in line and "--skip-existing" in line for line in refused.lines[:3])
    again = run("down", "in", "-r", "-s", 2, "--skip-existing", "-v")
    assert again.code == 0
    assert len(files(photos)) == 5 + 3
    assert sum("made by `irnscale down`" in line for line in again.lines) == 3
    assert again.lines[-1] == "0 of 6 done, 6 skipped"
    picture(photos / "b.jpg", 17, 9)
    changed = run("down", "in", "-r", "-s", 2, "--skip-existing")
    assert (changed.code, "--overwrite" in changed.lines[0]) == (5, True)
    assert run("down", "in", "-r", "-s", 2, "--skip-existing", "--overwrite").code == 0
    assert read_provenance(photos / "b_down2x.png").width == 17
    (photos / "b_down2x.png").unlink()
    picture(photos / "b_down2x.png")
    other = run("down", "in", "-r", "-s", 2, "--overwrite")
    assert other.code == 5, "a picture that only has the name of an output is an input"
    assert any("would replace the input in/b_down2x.png" in line for line in other.lines)


def test_skipping_is_by_content_and_settings(run, photos, tmp_path):
    command = ["down", "in", "-r", "-s", 2, "-o", "small/", "--skip-existing", "-v"]
    assert run(*command).code == 0
    stamps = {name: (tmp_path / "small" / name).stat().st_mtime_ns for name in SMALL}
    assert run(*command).lines[-1] == "0 of 3 done, 3 skipped"
    picture(photos / "b.jpg", 17, 9)
    (tmp_path / "small/sub/a_down2x.png").unlink()
    result = run(*command)
    assert result.code == 5
    assert any("b_down2x.png: exists, and was made from another input" in line for line in result.lines)
    assert result.lines[-1].endswith("1 of 3 done, 1 skipped, 1 failed")
    assert run(*command, "--overwrite").lines[-1] == "1 of 3 done, 2 skipped"
    assert read_provenance(tmp_path / "small/b_down2x.png").width == 17
    assert (tmp_path / "small/a_down2x.png").stat().st_mtime_ns == stamps["a_down2x.png"]
    (tmp_path / "small/a_down2x.png").write_bytes(b"something else")
    assert run(*command).code == 5
    same_name = run("down", "in/a.png", "-s", 4, "-o", "small/", "--name", "b_down2x.png", "--skip-existing")
    assert (same_name.code, len(same_name.lines)) == (5, 1)


def test_up_skips_too_and_sees_other_options(run, tmp_path):
    picture(tmp_path / "a.png")
    run("down", "a.png", "-s", 2)
    assert run("up", "a_down2x.png", "--skip-existing").code == 0
    skipped = run("up", "a_down2x.png", "--skip-existing", "-v")
    assert (skipped.code, skipped.lines) == (0, ["a_down2x.png: skipped, it is up to date"])
    assert run("up", "a_down2x.png", "--skip-existing", "--strip").code == 5


def test_skipping_needs_no_torch(tmp_path):
    picture(tmp_path / "a.png")
    program = "import sys; from irnscale.cli.main import main; code = main(sys.argv[1:]); print('torch' in sys.modules)"
    arguments = [sys.executable, "-c", program, "down", "a.png", "-s", "2"]
    for extra, torch in ((["--dry-run", "--quiet"], "False"), ([], "True"), (["--skip-existing"], "False")):
        done = subprocess.run([*arguments, *extra], cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.stdout.splitlines()[-1] == torch, extra


def test_a_dry_run_writes_nothing_and_finds_what_would_fail(run, photos, tmp_path):
    (photos / "bad.png").write_text("x")
    before = files(tmp_path)
    result = run("down", "in", "-r", "-o", "small/", "-n", "--report", "r.json")
    assert result.code == 1
    assert files(tmp_path) == sorted([*before, "r.json"])
    lines = result.text.splitlines()
    assert lines[0] == "in/a.png would become small/a_down4x.png  21x14 -> 6x4".replace("  ", " ")
    assert len(lines) == 3
    assert [e["status"] for e in map(json.loads, (tmp_path / "r.json").read_text().splitlines()[:-1])] == [
        *("planned", "planned", "failed", "planned")
    ]
    planned = events(run("down", "in/a.png", "--dry-run", "--json"))
    assert planned[0]["status"] == "planned"


def test_lists_of_names_with_every_odd_name(run, tmp_path):
    names = ["-s.png", "new\nline.png", "ü 名前.png", " lead.png", 'it\'s "q".png', "\x1b[31mred.png", "%s{stem}.png"]
    odd = os.fsdecode(b"\xff\xfe.png")
    for name in (*names, odd):
        picture(tmp_path / "a.png").rename(tmp_path / name)
    listed = b"\0".join(os.fsencode(name) for name in (*names, odd))
    result = run("down", "--files-from", "-", "-0", "-s", 2, "-o", "out/", "--json", "-v", stdin=listed)
    assert result.code == 0, result.lines
    expected = sorted(name.removesuffix(".png") + "_down2x.png" for name in (*names, odd))
    assert sorted(os.listdir(tmp_path / "out")) == expected  # noqa: PTH208 - names that are not UTF-8
    assert [e["input"] for e in events(result)[:-1]] == [*names, odd]
    assert not any("\x1b" in line for line in result.lines)
    plans = [line for line in result.lines if line.startswith("plan: ")]
    assert (len(plans), len(result.lines)) == (8, 8 + 8 + 1)  # of each picture its plan and what was done
    again = run("up", "-r", "out", "-o", "back/")
    assert again.code == 0
    missing = run("down", "--", "-gone\n.png")
    assert (missing.code, len(missing.lines)) == (1, 1)


def test_shards_do_the_whole(run, photos, tmp_path):
    for part in (1, 2):
        assert run("down", "in", "-r", "-s", 2, "-o", "small/", "--shard", f"{part}/2").code == 0
    assert files(tmp_path / "small") == SMALL
    nothing = run("down", "in/a.png", "--shard", "2/2")
    assert (nothing.code, nothing.lines) == (0, ["irnscale: warning: there is nothing to do"])


def test_fail_fast(run, photos):
    (photos / "0.png").write_text("x")
    result = run("down", "in", "-r", "--fail-fast", "--jobs", 1)
    assert result.code == 1
    assert result.lines[-1].endswith("0 of 4 done, 1 failed, 3 not started")


def test_json_and_the_report_say_the_same(run, photos, tmp_path):
    (photos / "bad.png").write_text("x")
    result = run("down", "in", "-r", "-s", 2, "-f", "jpg", "-o", "small/", "--json", "--report", "r.ndjson", "--quiet")
    assert result.code == 1
    found = events(result)
    assert found == [json.loads(line) for line in (tmp_path / "r.ndjson").read_text().splitlines()]
    assert [event.get("status") for event in found] == ["done", "done", "failed", "done", None]
    assert found[0]["output"] == "small/a_down2x.jpg"
    assert (found[2]["code"], found[2]["remedy"][:4]) == (1, "give")
    assert (found[-1]["done"], found[-1]["failed"], found[-1]["code"]) == (3, 1, 1)
    assert run("down", "in/a.png", "--report", "r.ndjson").code == 0, "a report replaces a report"
    for other in ("in/notes.txt", "in/a.png", "gone/r.json", "in"):
        assert run("down", "in/a.png", "--overwrite", "--report", other).code == 5
    assert (photos / "notes.txt").read_text() == "notes"
    assert run("down", "in/a.png", "-o", "-", "--json").code == 2


def test_one_bad_device_or_model_is_one_line(run, photos):
    result = run("down", "in", "-r", "--device", "cuda:99", "-o", "o/")
    assert result.code in (2, 4)
    assert sum(line.startswith("irnscale: error:") for line in result.lines) == 1


def test_names_from_a_template(run, tmp_path):
    picture(tmp_path / "a.png")
    assert run("down", "a.png", "-s", 2, "--name", "{stem}-{scale}.webp").code == 0
    assert run("up", "a-2.webp", "--name", "restored_{stem}.{ext}", "-o", "x/").code == 0
    assert files(tmp_path) == ["a-2.webp", "a.png", "x", "x/restored_a-2.png"]
    assert run("down", "a.png", "--name", "{stem}.webp", "-f", "png").code == 2
    assert run("down", "a.png", "--name", "{stem}.xyz").code == 2
    assert run("down", "a.png", "--name", "{stem}.png", "--overwrite").code == 5, "never onto the input"


def test_stripping(run, tmp_path):
    from PIL import Image, ImageCms

    exif = Image.Exif()
    exif[0x010F] = "Camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture(tmp_path / "a.jpg", exif=exif, icc_profile=profile)
    for number, (option, kept) in enumerate((([], 2), (["--strip"], 1), (["--strip=all"], 0))):
        target = tmp_path / f"{number}.png"
        assert run("down", *option, "a.jpg", "-o", target).code == 0
        with Image.open(target) as image:
            assert ("exif" in image.info) + ("icc_profile" in image.info) == kept
        assert read_provenance(target) is not None
    assert run("down", "--strip=some", "a.jpg").code == 2


def test_a_bar_on_a_terminal_only(run, tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        picture(tmp_path / name)
    primary, secondary = pty.openpty()
    fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("4H", 25, 100, 0, 0))
    command = [*TOOL, "down", "a.png", "b.png", "c.png", "-s", "2"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=secondary, stdout=subprocess.PIPE) as process:
        os.close(secondary)
        shown = b""
        while True:
            try:
                chunk = os.read(primary, 4096)
            except OSError:
                break
            shown += chunk
            if not chunk:
                break
        assert process.stdout is not None
        assert process.stdout.read() == b""
    os.close(primary)
    assert process.returncode == 0
    assert b"MP/s" in shown
    assert b"3/3" in shown
    assert b"3 of 3 done" in shown
    silent = run("down", *(tmp_path / name for name in ("a.png", "b.png", "c.png")), "-s", "2", "--overwrite")
    assert (silent.code, silent.stdout, silent.lines) == (0, b"", [])


def test_depth_16(run, tmp_path):
    pytest.importorskip("imagecodecs")
    ramp = np.add.outer(np.linspace(30, 120, 48), np.linspace(0, 100, 64))  # of which the network loses next to nothing
    Image.fromarray(np.stack([ramp, ramp + 7, 250 - ramp], 2).round().astype(np.uint8)).save(tmp_path / "a.png")
    score = {}
    for depth in (8, 16):
        assert run("down", "a.png", "-s", 2, "--detail", "none", "--depth", depth, "-o", f"s{depth}.png").code == 0
        result = run("up", f"s{depth}.png", "-o", f"b{depth}.png")
        assert (result.code, result.lines) == (0, [])
        error = pixels(tmp_path / f"b{depth}.png").astype(float) - pixels(tmp_path / "a.png")
        score[depth] = (error**2).mean()
    assert score[16] < 0.95 * score[8]
    assert run("up", "s16.png", "-o", "b.tif", "--depth", 16).code == 0
    assert run("up", "s16.png", "-o", "b.webp", "--depth", 16).code == 2


def test_pictures_of_one_size_share_a_batch(run, tmp_path, monkeypatch):
    from irnscale.engine import pictures, rescaler

    for number in range(6):
        picture(tmp_path / f"{number}.png", 20, 14 if number != 3 else 16, "L" if number == 4 else "RGB")
    assert run("down", *(f"{n}.png" for n in range(6)), "-s", 2, "-o", "one/").code == 0
    monkeypatch.setattr(rescaler.Rescaler, "batches", property(lambda self: True))
    sizes = []
    shrink_all = pictures.shrink_all

    def counting(rescaler, several, **options):
        sizes.append(len(several))
        return shrink_all(rescaler, several, **options)

    monkeypatch.setattr(pictures, "shrink_all", counting)
    assert run("down", *(f"{n}.png" for n in range(6)), "-s", 2, "-o", "many/", "-j", 4).code == 0
    assert sum(sizes) == 6
    assert max(sizes) > 1
    for number in range(6):
        name = f"{number}_down2x.png"
        one, many = pixels(tmp_path / "one" / name), pixels(tmp_path / "many" / name)
        assert one.shape == many.shape
        assert np.abs(one.astype(int) - many).max() <= 1
        assert read_provenance(tmp_path / "many" / name).source_digest
