"""Bad input: the documented exit code, one line on stderr with a remedy, and nothing left behind."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sys

import pytest
import torch
from commandline import Run, copied_model, files, picture, resave, runner, tiny_model

from irnscale.batch import outputs
from irnscale.images import atomic
from irnscale.zoo import find
from irnscale.zoo.store import shipped_folder


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line, in an empty folder of its own and with no imported models."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    return runner(capfdbinary, monkeypatch)


@pytest.fixture
def refused(run, tmp_path):
    """Runs what must fail; checks the code, the single line and that no file is new. Returns the line."""

    def check(code: int, *arguments, stdin: bytes | None = None) -> str:
        before = files(tmp_path)
        result = run(*arguments, stdin=stdin)
        assert len(result.lines) == 1, result.lines
        assert result.lines[0].startswith("irnscale: error: ")
        assert "internal error" not in result.lines[0]
        assert result.code == code, result.lines
        assert result.stdout == b""
        assert files(tmp_path) == before
        return result.lines[0]

    return check


def broken_inputs(tmp_path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.png").write_text("this is no picture\n" * 20)
    (tmp_path / "zero.jpg").touch()
    whole = picture(tmp_path / "whole.jpg", 64, 48).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize("command", [("down",), ("up", "-s", "4")])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.png", "no such file"),
        ("folder", "is a folder"),
        ("text.png", "not a picture"),
        ("zero.jpg", "empty"),
        ("cut.jpg", "truncated"),
        ("n" * 300 + ".png", "too long"),
    ],
)
def test_broken_inputs(refused, tmp_path, command, name, words):
    broken_inputs(tmp_path)
    line = refused(1, *command, tmp_path / name)
    assert words in line
    assert str(tmp_path / name) in line


@pytest.mark.parametrize("name", ["missing.png", "folder", "text.png", "zero.jpg"])
def test_broken_inputs_of_info(refused, tmp_path, name):
    broken_inputs(tmp_path)
    assert name in refused(1, "info", tmp_path / name)


def test_unwritable_targets(refused, run, tmp_path):
    photo = picture(tmp_path / "a.png")
    (tmp_path / "a_down4x.png").mkdir()
    assert "is a folder" in refused(5, "down", photo)
    assert "no such folder" in refused(5, "down", photo, "-o", tmp_path / "none" / "b.png")
    assert "no such folder" in refused(5, "down", photo, "-o", photo / "b.png")
    assert "cannot create" in refused(5, "down", photo, "-o", f"{photo}/deeper/")
    assert "too long" in refused(5, "down", photo, "-o", "n" * 300 + ".png")
    if sys.platform == "linux":
        assert "/proc/x.png: its folder takes no new files" in refused(5, "down", photo, "-o", "/proc/x.png")
        before_any_work = refused(5, "down", photo, "-o", tmp_path / "b.png", "--report", "/proc/r.json")
        assert "/proc/r.json: its folder takes no new files" in before_any_work


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.EACCES, "may not be written"), (errno.EROFS, "may not be written"), (errno.ENOSPC, "disk is full")],
)
def test_read_only_folders_and_full_disks(refused, tmp_path, monkeypatch, number, words):
    photo = picture(tmp_path / "a.png")

    def denied(*_args, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic.os, "fsync" if number == errno.ENOSPC else "link", denied)
    monkeypatch.setattr(atomic, "_NO_LINKS", set())
    assert words in refused(5, "down", photo)


def test_stdout_that_cannot_be_written(refused, tmp_path, monkeypatch):
    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(outputs, "open", full, raising=False)
    assert "stdout" in refused(5, "down", picture(tmp_path / "a.png"), "-o", "-")


def test_existing_output(refused, run, tmp_path):
    photo = picture(tmp_path / "a.png")
    there = tmp_path / "a_down4x.png"
    there.write_bytes(b"precious")
    assert "--overwrite" in refused(5, "down", photo)
    assert there.read_bytes() == b"precious"
    assert run("down", photo, "--overwrite").code == 0
    assert there.read_bytes() != b"precious"


def test_the_output_never_lands_on_an_input(refused, tmp_path):
    photo = picture(tmp_path / "a.png")
    content = photo.read_bytes()
    (tmp_path / "link.png").symlink_to(photo)
    for target in (photo, tmp_path / "link.png", tmp_path / "." / "a.png"):
        assert "would replace the input" in refused(5, "down", photo, "-o", target, "--overwrite")
    assert photo.read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-s", "5"], "2, 3, 4, 8, 16"),
        (["-s", "0"], "2, 3, 4, 8, 16"),
        (["-s", "four"], "'four'"),
        (["-f", "gif"], "gif"),
        (["-o", "b.gif"], ".gif"),
        (["-f", "png", "-o", "b.webp"], "contradicts"),
        (["-f", "jpg", "-q", "300"], "1 to 100"),
        (["-f", "jpg", "-q", "0"], "1 to 100"),
        (["-q", "90"], "lossless"),
        (["--subsampling", "4:2:0"], "png"),
        (["-f", "jpg", "--subsampling", "5:5:5"], "5:5:5"),
        (["--device", "abacus"], "abacus"),
        (["--device", "meta"], "meta"),
        (["--precision", "float8"], "float8"),
        (["--tile", "4"], "16"),
        (["--tile", "many"], "many"),
        (["-m", "irn-x2", "-s", "4"], "contradicts"),
        (["-m", "irn-x2", "--jpeg-resistant"], "contradicts"),
        (["-m", "irn-jpeg-x2", "--no-jpeg-resistant"], "contradicts"),
        (["--nonsense"], "--nonsense"),
        (["-o", ""], "empty"),
    ],
)
def test_wrong_options_of_down(refused, tmp_path, arguments, words):
    assert words in refused(2, "down", picture(tmp_path / "a.png"), *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-s", "5"], "2, 3, 4, 8, 16"),
        (["--size", "nonsense"], "WIDTHxHEIGHT"),
        (["--size", "0x5"], "WIDTHxHEIGHT"),
        (["--size", "-4x5"], "WIDTHxHEIGHT"),
        (["--size", "4"], "WIDTHxHEIGHT"),
        ([], "-s 4"),
        (["-m", "irn-x2", "-s", "4"], "contradicts"),
        (["--ignore-provenance", "--require-provenance"], "contradicts"),
    ],
)
def test_wrong_options_of_up(refused, tmp_path, arguments, words):
    assert words in refused(2, "up", picture(tmp_path / "a.png"), *arguments)


def test_wrong_options_of_several_inputs(refused, tmp_path):
    a, b = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    assert "single input" in refused(2, "down", a, b, "-o", "-")
    assert "not a folder" in refused(2, "down", a, b, "-o", tmp_path / "c.png")
    assert "only once" in refused(2, "down", "-", "-", "-o", tmp_path)
    assert "empty" in refused(2, "down", "")


@pytest.mark.parametrize("command", ["down", "up", "check"])
def test_no_inputs(refused, command):
    line = refused(2, command)
    assert "no INPUT" in line
    assert ("--files-from" in line) == (command != "check"), "which has no such option"


def test_the_range_of_qualities(refused, tmp_path):
    for quality in ("0", "101"):
        line = refused(2, "down", picture(tmp_path / "a.png"), "-f", "jpg", "-q", quality)
        assert f"--quality {quality}: is not from 1 to 100" in line


def test_the_end_of_a_file_is_no_interruption(refused, tmp_path, monkeypatch):
    """Which click takes it for, wherever it is from."""

    def ended(*_args, **_options):
        raise EOFError("no more bytes")

    monkeypatch.setattr("irnscale.train.pack.write_pack", ended)
    assert "a file ends before it should: no more bytes" in refused(1, "train", "pack", tmp_path, "-o", "a.pack")


@pytest.mark.parametrize("arguments", [["nonsense"], ["models", "nonsense"], ["models", "import"], ["down", "-s"]])
def test_wrong_commands(refused, arguments):
    assert "--help" in refused(2, *arguments)


def test_files_with_the_name_of_an_option(refused, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "-dash.png")
    assert "write ./-dash.png" in refused(2, "down", "-dash.png")
    assert run("down", "./-dash.png", "-n").code == 0


def test_empty_stdin(refused):
    assert "empty" in refused(1, "down", "-", "-o", "-", stdin=b"")
    assert "not a picture" in refused(1, "up", "-", "-o", "-", stdin=b"some text")


def test_models_that_are_not_there(refused, tmp_path):
    photo = picture(tmp_path / "a.png")
    assert "'nobody'" in refused(3, "down", photo, "-m", "nobody")
    assert "'nobody'" in refused(3, "up", photo, "-m", "nobody")
    assert "nobody.safetensors" in refused(3, "down", photo, "-m", "nobody.safetensors")
    assert "`irnscale train recipes`" in refused(3, "down", photo, "-s", "3")
    assert "JPEG-resistant" in refused(3, "down", photo, "-s", "3", "--jpeg-resistant")
    assert "models import" in refused(3, "down", photo, "-m", "weights.pth")
    assert "no model" in refused(3, "down", photo, "-m", "n" * 300)
    assert "'nobody'" in refused(3, "models", "show", "nobody")


def test_devices_that_are_not_there(refused, tmp_path):
    photo = picture(tmp_path / "a.png")
    beyond = f"cuda:{torch.cuda.device_count()}"
    assert "--device cpu" in refused(4, "down", photo, "--device", beyond)
    assert "float32" in refused(4, "down", photo, "--device", "cpu", "--precision", "float16")
    if not torch.cuda.is_available():
        assert "--device cpu" in refused(4, "down", photo, "--device", "cuda")


def test_too_many_pixels(refused, tmp_path):
    assert "--max-pixels" in refused(1, "down", picture(tmp_path / "a.png"), "--max-pixels", "100")


def test_the_least_memory_is_enough(refused, run, tmp_path):
    photo = picture(tmp_path / "a.png", 150, 90)
    line = refused(4, "down", photo, "-s", "2", "--max-memory", "1")
    assert "does not fit into --max-memory 1 byte" in line
    least = int(re.search(r"at least (\d+) MiB", line)[1])
    assert f"--max-memory {least - 1} MiB" in refused(4, "down", photo, "-s", "2", "--max-memory", f"{least - 1}M")
    assert run("down", photo, "-s", "2", "--max-memory", f"{least}M").code == 0


def test_impossible_size(refused, tmp_path):
    for option in ("--dry-run", "--quiet"):
        line = refused(1, "up", picture(tmp_path / "a.png"), "-s", "4", "--size", "500x500", option)
        assert "at most 84 x 56" in line


@pytest.mark.parametrize("damage", ["garbage", "truncated", "one bit", "missing", "folder"])
def test_damaged_weights(refused, run, tmp_path, damage):
    weights = copied_model(tmp_path / "models")
    photo = picture(tmp_path / "a.png")
    assert run("down", photo, "-m", "own", "-o", tmp_path / "small.png").code == 0
    data = bytearray(weights.read_bytes())
    data[len(data) // 2] ^= 1
    weights.unlink()
    if damage == "folder":
        weights.mkdir()
    elif damage != "missing":
        weights.write_bytes({"garbage": b"garbage" * 99, "truncated": data[:1000], "one bit": data}[damage])
    for command in (("down", photo, "-m", "own"), ("up", tmp_path / "small.png"), ("models", "verify", "own")):
        line = refused(3, *command)
        assert "own.safetensors" in line
        assert "import the model again" in line
    if damage in ("garbage", "truncated", "one bit"):
        assert "damaged" in refused(3, "down", photo, "-m", weights)


def test_a_card_of_the_garbage_itself(refused, tmp_path):
    """The card may vouch for bytes that are no safetensors, or not those of its architecture."""
    weights = copied_model(tmp_path / "models")
    photo = picture(tmp_path / "a.png")
    card = json.loads(weights.with_suffix(".json").read_text())

    def certify(**changes) -> None:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        weights.with_suffix(".json").write_text(json.dumps(card | {"sha256": digest} | changes))

    certify(architecture=card["architecture"] | {"growth": 16})
    assert "first at module_list.1.p.conv1" in refused(3, "down", photo, "-m", "own")
    certify(architecture={"scale": 2, "colour": "blue"})
    assert "unknown architecture" in refused(3, "down", photo, "-m", "own")
    certify(scale=4)
    assert "its card says x4" in refused(3, "down", photo, "-m", "own")
    weights.write_bytes(b"garbage" * 99)
    certify()
    assert "not a safetensors file" in refused(3, "down", photo, "-m", "own")


def test_records_of_other_models(refused, run, tmp_path):
    weights = tmp_path / "models" / f"{tiny_model(tmp_path / 'models', 'own')}.safetensors"
    small = tmp_path / "small.png"
    assert run("down", picture(tmp_path / "a.png"), "-m", "own", "-o", small).code == 0
    card = weights.with_suffix(".json")
    weights.rename(tmp_path / "moved.safetensors")
    card.rename(tmp_path / "moved.json")
    line = refused(3, "up", small)
    assert "with the model 'own' (" in line
    assert "not installed" in line
    assert "pip install ./archive" in line
    assert run("up", small, "-m", tmp_path / "moved.safetensors", "-o", tmp_path / "back.png").code == 0
    line = refused(3, "up", small, "-m", shipped_folder() / "irn-x4.safetensors")
    assert find("irn-x4").card.digest in line
    forged = resave(small, tmp_path / "forged.png", lambda image: forge(image, '"own"', '"irn-x2"', "0" * 12))
    line = refused(3, "up", forged)
    assert "other weights of irn-x2" in line
    assert "--ignore-provenance" in line


def forge(image, name: str, other: str, digest: str):
    record = image.info["irnscale"].replace(name, other)
    values = json.loads(record) | {"digest": digest}
    image.info["irnscale"] = json.dumps(values)
    return image


def test_names_are_no_escape_sequences(run, tmp_path):
    """Not even those of files in an archive that somebody else made."""
    import io
    import tarfile

    forged = "x\r\x1b[2K\nirnscale: error: forged\x07.png"
    picture(tmp_path / "good.png")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "good.png", "good.png")
        info = tarfile.TarInfo(forged)
        info.size = 4
        archive.addfile(info, io.BytesIO(b"none"))
    (tmp_path / forged).write_bytes(b"none")
    small = picture(tmp_path / "\x1b[31m.png")
    for arguments in (
        ("train", "pack", tmp_path / "a.tar", "-o", tmp_path / "\x1b[31m.pack"),
        ("train", "pack", tmp_path / forged, "-o", tmp_path / "b.pack"),
        ("down", tmp_path / forged),
        ("info", tmp_path / forged),
        ("check", tmp_path / forged),
        ("strip", tmp_path / forged),
        ("strip", small),
    ):
        lines = run(*arguments).lines
        assert lines, arguments
        assert all(line.isprintable() for line in lines), lines
        assert not any(line.startswith("irnscale: error: forged") for line in lines)


def test_options_that_a_command_lacks_are_not_advised(run, refused, tmp_path):
    missing = tmp_path / "none" / "x"
    picture(tmp_path / "a.png")
    for arguments in (("check", tmp_path / "a.png", "--picture", f"{missing}.png"),):
        result = run(*arguments)
        assert result.code == 5
        assert not any(" -o" in line for line in result.lines), result.lines


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["train", "irn-x2", "--data", ""], "--data: "),
        (["train", "irn-x2", "--data", "x", "--val", ""], "--val: "),
        (["train", "irn-x2", "--data", "x", "--out", ""], "--out: "),
        (["train", "pack", ""], ""),
        (["train", "pack", "x", "-o", ""], "-o: "),
        (["train", "compare", ""], ""),
        (["evaluate", "--data", ""], "--data: "),
        (["evaluate", "--data", "x", "--cache", ""], "--cache: "),
        (["models", "export", "", "--name", "x"], ""),
        (["models", "export", "x", "--to", ""], "--to: "),
        (["models", "import", ""], ""),
        (["transfer", "--restore", "x", "-o", ""], "-o: "),
        (["transfer", "--restore", ""], ""),
        (["check", "x", "--report", ""], "--report: "),
    ],
)
def test_an_empty_path_is_an_unset_variable(refused, arguments, option):
    expected = f"irnscale: error: {option}an empty file name (is a shell variable unset?)"
    assert refused(2, *arguments) == expected
