"""The tool as a user meets it: down, up, pipes and the mistakes people make."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import shipped_name
from PIL import Image

import irnscale
from irnscale.cli.main import main
from irnscale.cli.main import run as entry
from irnscale.engine.executor import run
from irnscale.images.provenance import read_provenance
from irnscale.networks import IRN, DenseBlock, IRNConfig


def save(path: Path, width: int, height: int, **options) -> Path:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 7 % 256, y * 5 % 256, (x + y) * 3 % 256], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


@pytest.mark.parametrize("scale", [2, 4, 8, 16])
def test_down_then_up_gives_the_exact_size_back(tmp_path, scale):
    sizes = [(1, 1), (3, 50), (50, 3), (33, 22), (16, 16)]
    photos = [save(tmp_path / f"{width}x{height}.png", width, height) for width, height in sizes]
    assert main(["down", *map(str, photos), "-s", str(scale)]) == 0
    small = [tmp_path / f"{photo.stem}_down{scale}x.png" for photo in photos]
    assert [size_of(path) for path in small] == [(-(-width // scale), -(-height // scale)) for width, height in sizes]
    assert main(["up", *map(str, small)]) == 0
    assert [size_of(tmp_path / f"{photo.stem}_up{scale}x.png") for photo in photos] == sizes


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_formats_and_their_records(tmp_path, suffix, capfd):
    photo = save(tmp_path / f"photo.{suffix}", 21, 13)
    small = tmp_path / f"small.{suffix}"
    assert main(["down", str(photo), "-o", str(small)]) == 0
    record = read_provenance(small)
    assert record is not None
    model = shipped_name(4, jpeg_resistant=suffix == "jpg")
    assert (record.model, record.scale, record.width, record.height) == (model, 4, 21, 13)
    assert ("lossy" in capfd.readouterr().err) == (suffix == "jpg")
    assert main(["up", str(small), "-o", str(tmp_path / "back.png")]) == 0
    assert size_of(tmp_path / "back.png") == (21, 13)


def test_help_and_info_do_not_load_torch(tmp_path):
    photo = save(tmp_path / "photo.png", 8, 8)
    code = f"""import sys
from irnscale.cli.main import main
for words in ("--help", "--version", "down --help", "info {photo}", "models", "train recipes"):
    assert main(words.split()) == 0, words
    assert "torch" not in sys.modules, words
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_one_bad_file_does_not_stop_the_others(tmp_path, capfd):
    good, bad = save(tmp_path / "good.png", 8, 8), tmp_path / "bad.png"
    bad.write_text("no")
    assert main(["down", str(bad), str(good)]) == 1
    assert (tmp_path / "good_down4x.png").is_file()
    assert "bad.png" in capfd.readouterr().err


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("tile", [16, 23, 100])
def test_tiling_changes_nothing(scale, tile):
    net = IRN(IRNConfig(scale, inv_per_ds=2, growth=8)).double().eval()
    for parameter in net.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.05)
    x = torch.rand(1, 3, 5 * 8 * scale, 3 * 8 * scale, dtype=torch.float64)
    with torch.inference_mode():
        y = net(x, jac=False)[0]
    tiled = run(net, x, rev=False, tile=tile)
    assert (tiled - y).abs().max() <= 1e-10 * y.abs().max()
    assert (run(net, y, rev=True, tile=tile) - x).abs().max() < 1e-9


def test_a_smaller_halo_is_noticed(monkeypatch):
    net = IRN(IRNConfig(2, inv_per_ds=2, growth=8)).double().eval()
    for parameter in net.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.1)
    x = torch.rand(1, 3, 96, 96, dtype=torch.float64)
    exact = run(net, x, rev=False, tile=1000)
    monkeypatch.setattr(DenseBlock, "support", 4)
    assert (run(net, x, rev=False, tile=16) - exact).abs().max() > 1e-6


@pytest.mark.slow
def test_the_shipped_model_beats_bicubic(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo"]) == 0
    words = capsys.readouterr().out.split()
    ours, alone, bicubic = (float(words[i + 1]) for i, word in enumerate(words) if word == "PSNR")
    assert ours > alone > bicubic + 4
    assert sorted(p.name for p in (tmp_path / "irnscale-demo").iterdir()) == [
        "comparison.png",
        "original.png",
        "restored.png",
        "small.png",
    ]


def test_the_library_takes_arrays_pictures_and_tensors():
    rescaler = irnscale.load("x2")
    array = np.zeros((9, 7, 3), np.uint8)
    assert rescaler.down(array).shape == (5, 4, 3)
    assert rescaler.up(rescaler.down(array), size=(7, 9)).shape == (9, 7, 3)
    assert rescaler.down(Image.fromarray(array)).size == (4, 5)
    assert rescaler.down(Image.new("L", (7, 9))).mode == "L"
    assert rescaler.down(torch.rand(2, 3, 9, 7)).shape == (2, 3, 5, 4)


@pytest.mark.parametrize(("command", "policy"), [("down", "passive"), ("up", "passive"), ("train", None)])
def test_threads_with_a_tile_each_do_not_spin(monkeypatch, command, policy):
    for given, expected in ((None, policy), ("active", "active")):
        monkeypatch.setattr(os, "environ", {} if given is None else {"OMP_WAIT_POLICY": given})
        monkeypatch.setattr("irnscale.cli.main.open_standard_streams", lambda: None)
        monkeypatch.setattr("irnscale.cli.main.main", lambda arguments: 0)
        with pytest.raises(SystemExit):
            entry([command, "a.png"])
        assert os.environ.get("OMP_WAIT_POLICY") == expected
