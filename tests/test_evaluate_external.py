"""`irnscale evaluate --method`: other programs in the same table."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from commandline import Run, picture, runner
from PIL import Image

from irnscale.evaluation.external import parse

RESIZE = """
import sys
from PIL import Image
given, made, width, height = sys.argv[1:5]
image = Image.open(given)
image.resize((int(width), int(height)), Image.Resampling.{filter}).save(made)
"""
HIDES = """
import sys
from PIL import Image, PngImagePlugin
given, made, width, height = sys.argv[1:5]
image = Image.open(given)
notes = PngImagePlugin.PngInfo()
notes.add_text("whole", image.tobytes().hex())
image.resize((int(width), int(height))).save(made, pnginfo=notes)
"""
FINDS = """
import sys
from PIL import Image
given, made, width, height = sys.argv[1:5]
data = bytes.fromhex(Image.open(given).text["whole"])
Image.frombytes("RGB", (int(width), int(height)), data).save(made)
"""


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    return runner(capfdbinary, monkeypatch)


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "set of two"
    folder.mkdir()
    picture(folder / "a b.png", 63, 58)
    picture(folder / "c.png", 60, 64, "L")
    return folder


def command(path: Path, program: str, fields: str = "{in} {out} {width} {height}") -> str:
    path.write_text(program)
    return f"'{sys.executable}' '{path}' {fields}"


def measured(run: Run, photos: Path, *options: object) -> dict[str, dict]:
    result = run("evaluate", "--data", photos, "-s", 2, "-m", "irn-x2", "--json", *options)
    assert result.code == 0, result.lines
    return {row["method"]: row for row in map(json.loads, result.text.splitlines())}


def test_a_program_that_enlarges(run, photos, tmp_path):
    line = command(tmp_path / "my resize.py", RESIZE.format(filter="BICUBIC"))
    rows = measured(run, photos, "--method", f"mine={line}")
    found = rows["mine of bicubic"]
    assert found["task"] == "super-resolution"
    assert found["psnr_y"] == pytest.approx(rows["bicubic"]["psnr_y"], abs=0.2), "Pillow's is nearly ours"
    assert found["lr_psnr_y"] == 100, "the same small picture"
    jpeg = measured(run, photos, "--method", f"mine={line}", "--jpeg", 50)["mine of bicubic"]
    assert jpeg["codec"] == "jpg q50 4:2:0"
    assert jpeg["psnr_y"] < found["psnr_y"]
    assert found["seconds"] > rows["bicubic"]["seconds"], "its start counts"


def test_two_programs_share_a_file(run, photos, tmp_path):
    """What the first hides beside its pixels is found by the second."""
    down, up = command(tmp_path / "down.py", HIDES), command(tmp_path / "up.py", FINDS)
    rows = measured(run, photos, "--method", f"thief={up}", "--method-down", f"thief={down}", "--no-baselines")
    assert rows["thief"]["psnr_y"] == 100
    assert rows["thief"]["codec"] == "its own png"
    assert rows["thief"]["bytes"] > 2 * 58 * 62 * 3, "its own file is counted, not its pixels"
    assert rows["thief"]["detail_psnr_y"] is None


def test_results_are_kept_until_the_program_changes(run, photos, tmp_path):
    log = tmp_path / "log"
    program = RESIZE.format(filter="BOX") + f"\nopen({str(log)!r}, 'a').write('x')\n"
    line = command(tmp_path / "resize.py", program)
    for addition, runs in (("", 2), ("", 2), ("# other", 4)):
        if addition:
            (tmp_path / "resize.py").write_text(program + addition)
        measured(run, photos, "--method", f"mine={line}")
        assert len(log.read_text()) == runs


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import sys; print('progress'); sys.exit('no such\\nmodel')", "exit code 1: model"),
        ("pass", "{out}"),
        (RESIZE.format(filter="BOX").replace("int(width)", "7"), "7x58 where 62x58 was wanted"),
        ("import sys; open(sys.argv[2], 'w').write('text')", "{out}"),
    ],
)
def test_a_program_that_fails(run, photos, tmp_path, program, message):
    line = command(tmp_path / "bad.py", program)
    result = run("evaluate", "--data", photos, "-s", 2, "-m", "irn-x2", "--method", f"bad={line}")
    assert result.code == 2
    assert len(result.lines) == 1
    assert "bad: " in result.lines[0]
    assert message in result.lines[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "convert {in} {out}"], "not NAME=COMMAND"),
        (["--method", "a=convert {in} b.png"], "{out}"),
        (["--method", "a=convert {out} b.png"], "{in}"),
        (["--method", "a='convert {in} {out}"], "quotation"),
        (["--method", "a=x {in} {out}", "--method", "a=y {in} {out}"], "twice"),
        (["--method-down", "a=x {in} {out}"], "--method a="),
        (["--method", "a=/none/such {in} {out}"], "/none/such"),
    ],
)
def test_a_command_that_is_none(run, photos, options, message):
    result = run("evaluate", "--data", photos, "-s", 2, "-m", "irn-x2", *options)
    assert result.code == 2
    assert len(result.lines) == 1
    assert message in result.lines[0]


def test_no_shell_reads_the_command(tmp_path):
    (tmp_path / "in.png").write_bytes(b"")
    program = "import sys; from PIL import Image; Image.new('RGB', (4, 2)).save(sys.argv[2]); print(sys.argv)"
    line = command(tmp_path / "p.py", program, "{in} {out} '$HOME; rm *' x{scale}x")
    (mine,) = parse((f"mine={line}",), "--method").values()
    made = mine.run(tmp_path / "in.png", tmp_path / "out.png", 2, 2, 4)
    assert (made.width, made.height) == (4, 2)
    assert mine.words[-2:] == ("$HOME; rm *", "x{scale}x")
    assert (tmp_path / "in.png").exists()
    Image.open(tmp_path / "out.png").verify()


@pytest.mark.slow
def test_ourselves_from_outside(run, photos):
    """Two commands of ours measure what the same model with detail does."""
    program = f"'{sys.executable}' -m irnscale"
    up, down = f"{program} up {{in}} -o {{out}} --no-progress", f"{program} down {{in}} -s {{scale}} -o {{out}}"
    rows = measured(run, photos, "--method", f"self={up}", "--method-down", f"self={down}", "--detail", 1, "--limit", 1)
    inside, outside = rows["irn-x2 + detail"], rows["self"]
    assert outside["psnr_y"] == pytest.approx(inside["detail_psnr_y"], abs=0.01)
    assert outside["bytes"] == pytest.approx(inside["bytes"], rel=0.05)
