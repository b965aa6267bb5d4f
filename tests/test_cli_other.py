"""info, models, doctor, demo, bench, train, help; and what must not be imported for them."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from commandline import Run, copied_model, files, picture, pixels, runner, shipped_name
from conftest import HAS_CUDA

import irnscale
from irnscale.cli import main as cli
from irnscale.cli.main import COMMANDS
from irnscale.zoo import find, models


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line, with no imported models."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    return runner(capfdbinary, monkeypatch)


MODEL_COMMANDS = [("models", name) for name in ("list", "show", "verify", "import", "export")]


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS), *MODEL_COMMANDS])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(run, command, option):
    result = run(*command, option)
    assert (result.code, result.lines) == (0, [])
    assert result.text.startswith(f"Usage: {' '.join(('irnscale', *command))}")


def test_version_and_nothing(run):
    result = run("--version")
    assert (result.code, result.text) == (0, f"irnscale, version {irnscale.__version__}\n")
    result = run()
    assert (result.code, result.stdout) == (2, b"")
    assert result.lines[0].startswith("Usage:")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["info", "FILE"], ["models", "list"], ["down", "--help"]]
)
def test_light_commands_import_no_torch(tmp_path, arguments):
    photo = str(picture(tmp_path / "a.png"))
    arguments = [photo if a == "FILE" else a for a in arguments]
    code = (
        "import sys; from irnscale.cli.main import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'FrEIA', 'triton', 'safetensors', 'skimage', 'omegaconf', 'scipy'} & set(sys.modules);"
        "print('loaded', sorted(heavy)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded []"


def test_info(run, tmp_path):
    photo = picture(tmp_path / "a.png")
    run("down", photo)
    small = tmp_path / "a_down4x.png"
    run("up", small)
    result = run("info", photo, small, tmp_path / "a_up4x.png")
    assert (result.code, result.lines) == (0, [])
    one, two, three = result.text.split(":\n")[1:]
    assert "no record" in one
    assert "width: 21" in one
    assert f"small image made by `irnscale down` with {shipped_name(4)}" in two
    assert "original: 21x14" in two
    assert "restored by `irnscale up`" in three


def test_info_as_json(run, tmp_path):
    photo = picture(tmp_path / "a.webp", lossless=True)
    run("down", photo, "-s", 8)
    small = tmp_path / "a_down8x.png"
    result = run("info", "--json", photo, small)
    plain, facts = [json.loads(line) for line in result.text.splitlines()]
    assert (plain["file"], plain["format"], plain["provenance"]) == (str(photo), "webp", None)
    record = facts["provenance"]
    assert (facts["width"], facts["height"], facts["depth"]) == (3, 2, 8)
    assert (record["model"], record["scale"], record["original_format"]) == (shipped_name(8), 8, "webp")
    assert (record["width"], record["height"], record["padding"]) == (21, 14, [3, 2])
    (tmp_path / "b.png").write_text("text")
    result = run("info", "--json", tmp_path / "b.png", small)
    assert (result.code, len(result.lines), len(result.text.splitlines())) == (1, 1, 1), "the others are shown"


def test_models(run, tmp_path):
    for command in (("models",), ("models", "list")):
        result = run(*command)
        assert (result.code, result.lines) == (0, [])
        rows = [re.split(r" {2,}", line) for line in result.text.splitlines()]
        assert [row[0] for row in rows[1:]] == [model.card.name for model in models()]
        first = [row[:5] for row in rows[1:] if ".2" not in row[0]]
        assert first == [
            ["irn-jpeg-x2", "x2", "down, up", "yes", "shipped"],
            ["irn-jpeg-x4", "x4", "down, up", "yes", "shipped"],
            ["irn-sr-x4", "x4", "up --sr, before irn-x4", "no", "shipped"],
            ["irn-x2", "x2", "down, up", "no", "shipped"],
            ["irn-x4", "x4", "down, up", "no", "shipped"],
            ["sr-x2", "x2", "up --sr", "no", "shipped"],
            ["sr-x4", "x4", "up --sr", "no", "shipped"],
            ["srflow-x4", "x4", "up --sr", "no", "shipped"],
        ]
    shown = run("models", "show", "irn-x4")
    assert json.loads(shown.text)["sha256"] == find("irn-x4").card.sha256
    assert run("models", "verify").text == "".join(f"{model.card.name}: ok\n" for model in models())
    assert run("models", "verify", "irn-x4").text == "irn-x4: ok\n"


def test_verify_goes_on_after_a_damaged_model(run, tmp_path):
    weights = copied_model(tmp_path / "models")
    assert run("models", "verify").text.endswith("own: ok\n")
    weights.write_bytes(weights.read_bytes()[:-1])
    result = run("models", "verify", "own", "irn-x2")
    assert (result.code, result.text, len(result.lines)) == (3, "irn-x2: ok\n", 1)
    assert "damaged" in result.lines[0]


def test_doctor_names_the_models_that_bfloat16_costs_too_much(run, tmp_path, monkeypatch):
    path = copied_model(tmp_path / "models").with_suffix(".json")
    for native, expected in ((True, True), (False, False)):
        monkeypatch.setattr("irnscale.engine.precision.cpu_multiplies_bfloat16", lambda native=native: native)
        for lost in (0.03, 0.04):
            card = json.loads(path.read_text()) | {"precision_costs": {"bfloat16": {"Set5": lost}}}
            path.write_text(json.dumps(card))
            facts = json.loads(run("doctor", "--json").text)
            assert ("own" in facts["in float32 all the same"].split(", ")) == (expected and lost > 0.03)
            (row,) = (line.split() for line in run("models", "list").text.splitlines() if line.startswith("own "))
            assert row[-2:] == [f"-{lost:.3f}", "dB"]


def test_doctor(run, tmp_path):
    facts = json.loads(run("doctor", "--json").text)
    assert facts["irnscale"] == irnscale.__version__
    assert facts["packages"]["FrEIA"] != "not installed"
    assert facts["device used"] in ("cpu", "cuda")
    assert facts["precision used"] in ("float32", "bfloat16")
    assert facts["kernels used"].startswith(("torch", "triton"))
    assert facts["kernels compile"].startswith("yes, in" if facts["device used"] == "cuda" else "not used")
    assert float(facts["multiplies"].split(" TFLOP/s in ")[0]) > 0
    assert find("irn-x4").card.digest in facts["models"]
    assert facts["imported models in"] == str(tmp_path / "models")
    result = run("doctor")
    assert (result.code, result.lines) == (0, [])
    assert [line.split(":")[0] for line in result.text.splitlines()] == list(facts)


@pytest.mark.slow
def test_demo(run, tmp_path):
    result = run("demo", "-o", tmp_path / "out")
    assert (result.code, result.lines) == (0, [])
    assert files(tmp_path / "out") == ["comparison.png", "original.png", "restored.png", "small.png"]
    lines = result.text.splitlines()
    ours, alone, bicubic = [float(line.split("PSNR")[1].split()[0]) for line in lines[1:4]]
    assert ours > alone + 5 > bicubic + 9
    assert pixels(tmp_path / "out/small.png").shape == (128, 128, 3)
    assert pixels(tmp_path / "out/restored.png").shape == pixels(tmp_path / "out/original.png").shape == (512, 512, 3)
    assert pixels(tmp_path / "out/comparison.png").shape[1] > 1500
    assert run("up", tmp_path / "out/small.png", "-o", tmp_path / "again.png").code == 0, "small.png has its record"
    assert (pixels(tmp_path / "again.png") == pixels(tmp_path / "out/restored.png")).all()


def test_demo_into_a_file(run, tmp_path):
    photo = picture(tmp_path / "a.png")
    result = run("demo", "-o", photo)
    assert (result.code, len(result.lines)) == (5, 1)


def test_bench(run):
    result = run("bench", "--size", "21x14", "--repeats", "1", "--json", "--precision", "float32", "--device", "cpu")
    assert (result.code, result.lines) == (0, [])
    facts = json.loads(result.text)
    assert (facts["width"], facts["height"], facts["scale"], facts["precision"]) == (21, 14, 4, "float32")
    seconds = (facts["paper_down_s"] + facts["paper_up_s"]) / (facts["down_s"] + facts["up_s"])
    assert facts["ratio"] == pytest.approx(seconds)
    assert facts["largest_difference"] <= 1.01 / 255, "both ways give the same picture"
    result = run("bench", "--size", "20x12", "--repeats", "2", "-s", "2")
    assert "ratio " in result.text
    assert run("bench", "--size", "large").code == 2


@pytest.mark.slow
@pytest.mark.skipif(HAS_CUDA, reason="there is a GPU")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of processes as Linux has it")
def test_bench_large(run):
    result = run("bench", "large", "--size", "150x90", "-s", "2", "--max-memory", "200M", "--json", "--device", "cpu")
    found = json.loads(result.text)
    assert [p["direction"] for p in found["processes"]] == ["down", "up"]
    assert all(p["peak"] > 2**24 and p["seconds"] > 0.1 for p in found["processes"])
    assert found["psnr"] > 25


def test_bench_kernels_needs_cuda(run):
    result = run("bench", "kernels")
    assert result.code == 4
    assert "needs a CUDA device" in result.lines[0]


def test_bench_train(run):
    tiny = ["--batch", "2", "--crop", "32", "--device", "cpu", "--precision", "float32", "-s", "2"]
    result = run("bench", "train", *tiny, "--repeats", "1", "--json")
    facts = json.loads(result.text)
    assert facts["ratio"] == pytest.approx(facts["paper_ms"] / facts["ours_ms"])
    assert facts["loss_difference"] < 1e-4, "both ways have the same loss"
    assert 0 < facts["ours_kept_mib"] < 0.75 * facts["paper_kept_mib"]
    # 1,667,952 weights and biases; level 1 of x2 is all there is: a quarter of the positions, 2 FLOP, 6 passes.
    assert facts["step_gflop"] == pytest.approx(2 * 1_667_952 / 4 * 6 * 2 * 32 * 32 / 1e9, rel=0.01)
    assert 0 < facts["fraction"] == pytest.approx(facts["gflops"] / facts["matrix_gflops"])
    assert "GFLOP/s" in run("bench", "train", *tiny, "--batch", "1", "--crop", "16", "--repeats", "1").text
    assert run("bench", "train", "--crop", "17").code == 2
    result = run("bench", "train", "-m", "sr-x4")
    assert (result.code, len(result.lines)) == (3, 1)
    assert "sr-x4: is of the family sr, and the paper's way is that of an IRN" in result.lines[0]


def test_train_export_and_use(run, tmp_path, photos):
    out = tmp_path / "run"
    tiny = ["inv_per_ds=1", "growth=4", "batch_size=1", "img_size=16", "precision=float32", "compression_mode=true"]
    train = ["train", "irn-x2", *tiny, "--data", photos, "--out", out, "--device", "cpu", "--no-progress"]
    result = run(*train, "--budget", "2")
    assert result.code == 0, result.lines
    first = Path(result.text.strip())
    assert first.parent == out
    assert (first / "state.json").is_file()
    assert (out / "report.md").is_file()
    again = run(*train, "--budget", "3")
    assert again.code == 2, "an existing run needs --resume"
    assert "--resume" in again.lines[-1]
    assert run(*train, "--budget", "3", "--resume").code == 0
    assert "give a larger --budget to go on" in run(*train, "--budget", "3", "--resume").lines[0]
    elsewhere = [*train, "--budget", "1", "--resume", "--out", tmp_path / "anew"]
    result = run(*elsewhere)
    assert result.code == 0
    assert f"{tmp_path / 'anew'}: nothing to resume, starting anew" in result.lines, "as unattended loops want it"
    assert run("train", "report", out).text == f"{out / 'report.md'}\n"
    pack = tmp_path / "photos.pack"
    assert run("train", "pack", photos, "-o", pack).code == 0
    train[train.index(photos)] = pack
    result = run(*train, "--budget", "4", "--resume", first.name.split("_")[-1])
    assert (result.code, Path(result.text.strip()).parent) == (0, out), "a run by its id, on packed photographs"
    result = run(*train, "--resume", out, "--out", tmp_path / "other")
    assert (result.code, len(result.lines)) == (2, 1)
    assert f"goes on in {out}, not in --out {tmp_path / 'other'}" in result.lines[0]
    result = run("models", "export", out, "--name", "tiny")
    assert result.code == 0
    assert "-m tiny" in result.lines[0]
    card = json.loads(run("models", "show", "tiny").text)
    assert (card["scale"], card["architecture"]["growth"], card["training"]["steps"]) == (2, 4, 4)
    assert card["jpeg_resistant"]
    photo = picture(tmp_path / "a.png")
    assert run("down", photo, "-m", "tiny").code == 0
    assert run("up", tmp_path / "a_down2x.png").code == 0
    assert pixels(tmp_path / "a_up2x.png").shape == (14, 21, 3)
    result = run("models", "export", out, "--name", "tiny", "--to", tmp_path / "elsewhere")
    assert f"-m {tmp_path / 'elsewhere' / 'tiny.safetensors'}" in result.lines[0]


def test_training_that_cannot_start(run, tmp_path, photos):
    out = ["--out", tmp_path / "run", "--no-progress"]
    data = ["--data", tmp_path / "none", *out]
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for arguments, code in [
        (["irn-x2", *data, "--budget", "1"], 1),
        (["irn-x2", "--data", tmp_path / "empty", *out], 1),
        (["irn-x2", "--data", tmp_path / "none.pack", *out], 1),
        (["irn-x2", "img_size=16", "--data", photos, "--val", tmp_path / "none", *out], 1),
        (["none.yaml", *data], 1),
        (["sweep", "none.yaml"], 1),
        (["nobody", *data], 2),
        (["irn-x2", "growht=4", *data], 2),
        (["irn-x2", "img_size=145", *data], 2),
        (["irn-x2", *data, "--budget", "soon"], 2),
        (["irn-x2", "--data", photos, *out, "--resume", "0123abcd"], 1),
        (["irn-x2", "--data", photos, *out, "--resume", tmp_path / "empty"], 1),
        (["irn-x2", "--data", photos, "--out", tmp_path / "file"], 2),
        (["irn-x2", "img_size=16", "--data", photos, "--out", tmp_path / "file" / "run"], 5),
        (["irn-x2", "init=nobody", "--data", photos, *out], 3),
        (["irn-x2", "--track", "paper", "--data", photos, *out], 2),
        (["irn-x2"], 2),
        (["pack", tmp_path / "empty", "-o", tmp_path / "a.pack"], 1),
        (["recipes", "irn-x5"], 2),
        (["report", tmp_path / "empty"], 1),
    ]:
        result = run("train", *arguments)
        assert (result.code, len(result.lines)) == (code, 1), result.lines
        assert len(result.lines[0]) < 200 + len(str(tmp_path)), "a line that one reads"
        assert code != 1 or result.lines[0].endswith(")"), "a remedy"
    result = run("train", "irn-x2", "img_size=16", "--data", photos, "--val", tmp_path / "empty", *out)
    assert result.lines[-1].endswith("(give larger ones with --val)")
    assert files(tmp_path) == ["empty", "file"], "nothing is left behind"
    result = run("models", "export", tmp_path / "run", "--name", "x")
    assert (result.code, len(result.lines)) == (1, 1)


def test_the_settings_of_a_recipe(run):
    assert "irn-x4-budget" in run("train", "recipes").text
    for recipe, line in (("irn-x2", "img_size=144"), ("glow-torch", "backend=torch")):
        settings = run("train", "recipes", recipe).text.splitlines()
        assert f"name={recipe}" in settings
        assert line in settings
        assert run("train", "recipes", recipe, line.replace("=", "=x")).code == 2
    settings = run("train", "recipes", "irn-x2", "lr_milestones=[1,2]", "budget=9m").text.splitlines()
    assert {"lr_milestones=[1, 2]", "budget=9m", "init=null", "actnorm=false"} <= set(settings)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), RuntimeError("two\nlines"), OSError(errno.ENOSPC, "No space left", "log.jsonl")]
)
def test_what_nobody_foresaw(run, tmp_path, monkeypatch, error):
    def broken(*_args, **_options):
        raise error

    monkeypatch.setattr("irnscale.batch.read_source", broken)
    result = run("down", picture(tmp_path / "a.png"))
    assert files(tmp_path) == ["a.png"]
    if isinstance(error, KeyboardInterrupt):
        assert (result.code, result.lines[-1]) == (130, "irnscale: interrupted")
    elif isinstance(error, OSError):
        line = "irnscale: error: log.jsonl: could not be written: No space left (free some space)"
        assert (result.code, result.lines) == (5, [line])
    else:
        assert len(result.lines) == 1
        assert (result.code, "two lines" in result.lines[0]) == (1, True)
        assert any("Traceback" in line for line in run("down", tmp_path / "a.png", "--debug").lines)


def test_the_console_script_and_module_agree():
    assert cli.run.__module__ == "irnscale.cli.main"
    done = subprocess.run([sys.executable, "-m", "irnscale", "up"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("irnscale: error: no INPUT is given")
