"""`up --samples`: pictures with a number each, one pass of the encoder, what is skipped, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commandline import Run, runner
from conftest import synthetic_photo
from PIL import Image, PngImagePlugin
from test_flow_layers import randomised

from irnscale.engine.rescaler import Rescaler
from irnscale.images.provenance import read_provenance
from irnscale.networks.families.srflow import SRFlowConfig
from irnscale.networks.srflow import SRFlow
from irnscale.zoo import find
from irnscale.zoo.save import save_model

SMALL = SRFlowConfig(
    rrdb_blocks=1, rrdb_growth=4, taps=(0,), flow_steps=1, flow_hidden=8, adapter=6, flow_scale="squish", head=False
)


@pytest.fixture
def run(capfdbinary, monkeypatch, tmp_path) -> Run:
    """The command line in a folder of its own, with a narrow SRFlow called "narrow"."""
    monkeypatch.setenv("IRNSCALE_MODELS", str(tmp_path / "models"))
    torch.manual_seed(1)
    net = SRFlow(SMALL)
    randomised(net.flow, gain=0.1)
    save_model(tmp_path / "models", "narrow", net.config, net.float().state_dict())
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Image.fromarray(synthetic_photo(8, 11)).save("old.jpg", quality=90)
    return runner(capfdbinary, monkeypatch)


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """How many seeds each call of the network had."""
    seen: list[int] = []
    plain = SRFlow.enlarge

    def counted(self, lr, *, seeds, **options):
        seen.append(len(seeds))
        return plain(self, lr, seeds=seeds, **options)

    monkeypatch.setattr(SRFlow, "enlarge", counted)
    return seen


def pixels(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


UP = ("up", "--sr", "-m", "narrow", "old.jpg", "--temperature", "0.8")


def test_five_samples(run, passes):
    result = run(*UP, "-s", "4", "--samples", "5", "--seed", "3", "--json")
    assert result.code == 0, result.lines
    names = [f"old_up4x_{k}.png" for k in range(1, 6)]
    assert sorted(p.name for p in Path().iterdir()) == ["old.jpg", *names]
    assert passes == [5], "one call, one pass of the encoder"
    made = [pixels(name) for name in names]
    assert all(picture.shape == (32, 44, 3) for picture in made)
    for k in range(4):
        assert np.abs(made[k] - made[k + 1]).max() > 10
    events = [json.loads(line) for line in result.text.splitlines()]
    assert [(e["output"], e["sample"], e["seed"]) for e in events[:-1]] == [
        (name, k, k + 2) for k, name in enumerate(names, start=1)
    ]
    facts = (0.8, find("narrow").card.digest, "narrow")
    assert all((e["temperature"], e["digest"], e["model"]) == facts for e in events[:-1])
    assert events[-1]["done"] == 5

    assert run(*UP, "--seed", "5", "-o", "third.png").code == 0
    assert np.abs(pixels("third.png") - made[2]).max() <= 1, "a sample is that of its seed"
    assert read_provenance(Path("third.png")).settings_digest == read_provenance(Path(names[2])).settings_digest
    direct = Rescaler([find("narrow")]).samples(pixels("old.jpg").astype(np.uint8), temperature=0.8, seeds=[5])[0]
    assert np.abs(pixels("third.png") - direct).max() <= 1


def test_what_is_there_is_skipped(run, passes):
    assert run(*UP, "--samples", "3").code == 0
    kept = [pixels(f"old_up4x_{k}.png") for k in (1, 2, 3)]
    assert run(*UP, "--samples", "3").code == 5, "they exist"
    Path("old_up4x_2.png").unlink()
    passes.clear()
    result = run(*UP, "--samples", "3", "--skip-existing", "--json")
    assert result.code == 0
    statuses = [json.loads(line).get("status") for line in result.text.splitlines()]
    assert statuses == ["skipped", "done", "skipped", None]
    for k in (1, 2, 3):
        assert np.abs(pixels(f"old_up4x_{k}.png") - kept[k - 1]).max() <= 1
    assert len(passes) == 1


def test_folders_names_and_alpha(run, passes):
    Path("in").mkdir()
    for k in range(2):
        alpha = np.full((6, 7), 255, np.uint8)
        alpha[:3] = 0
        Image.fromarray(np.dstack([synthetic_photo(6, 7, seed=k), alpha])).save(f"in/{k}.png")
    command = ("up", "--sr", "-m", "narrow", "-r", "in", "-o", "out/", "--temperature", "0.5", "--samples", "2")
    assert run(*command, "--name", "{stem}-{sample}.{ext}").code == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["0-1.png", "0-2.png", "1-1.png", "1-2.png"]
    first, second = pixels("out/0-1.png"), pixels("out/0-2.png")
    assert first.shape == (24, 28, 4)
    assert np.array_equal(first[..., 3], second[..., 3]), "transparency is without noise"
    assert not np.array_equal(first[12:, :, :3], second[12:, :, :3])


def test_gray_stays_gray(run):
    Image.fromarray(synthetic_photo(6, 7)[..., 0]).save("gray.png")
    assert run("up", "--sr", "-m", "narrow", "gray.png", "--temperature", "0.5", "--samples", "2").code == 0
    with Image.open("gray_up4x_2.png") as image:
        assert image.mode == "L"


def test_a_restored_picture_has_samples_too(run):
    """Any model with noise: here IRN's z."""
    Image.fromarray(synthetic_photo(32, 48)).save("photo.png")
    assert run("down", "photo.png", "-s", "2").code == 0
    assert run("up", "photo_down2x.png", "--temperature", "1", "--samples", "2", "--seed", "7").code == 0
    assert run("up", "photo_down2x.png", "--temperature", "1", "--seed", "8", "-o", "one.png").code == 0
    assert np.array_equal(pixels("photo_up2x_2.png"), pixels("one.png"))
    assert not np.array_equal(pixels("photo_up2x_1.png"), pixels("one.png"))


def test_what_is_left_out_is_told_once(run):
    """Of all inputs and samples, for it is a matter of the options; where there is no detail, nothing is left out."""
    for name in ("a", "b"):
        Image.fromarray(synthetic_photo(40, 44)).save(f"{name}.png")
    assert run("down", "a.png", "b.png", "-s", "2").code == 0
    up = ("up", "a_down2x.png", "b_down2x.png", "--temperature", "1")
    assert [line.partition("png: ")[2] for line in run(*up, "--samples", "2").lines] == [
        "its detail is left out: it belongs to what is restored without --temperature"
    ]
    assert run("down", "a.png", "-s", "2", "--detail", "none", "--overwrite").code == 0
    assert run("up", "a_down2x.png", "--temperature", "1", "--overwrite").lines == []
    assert run("up", "b_down2x.png", "--temperature", "1", "--detail", "none", "--overwrite").lines == []


def test_what_is_said_of_an_input_is_said_once_for_all_samples(run):
    Image.fromarray(synthetic_photo(40, 44)).save("a.png")
    assert run("down", "a.png", "-s", "2", "--detail", "none").code == 0
    with Image.open("a_down2x.png") as image:
        text = PngImagePlugin.PngInfo()
        text.add_itxt("irnscale", image.text["irnscale"])
        edited = image.point(lambda level: level // 2)
        for name in ("b.png", "c.png"):
            edited.save(name, pnginfo=text)
    result = run("up", "b.png", "c.png", "--temperature", "1", "--samples", "3")
    assert result.code == 0
    assert [("b.png: was edited" in line, "c.png: was edited" in line) for line in result.lines] == [
        (True, False),
        (False, True),
    ]


def test_a_dry_run(run, passes):
    result = run(*UP, "--samples", "2", "-n")
    assert result.code == 0
    assert [p.name for p in Path().iterdir()] == ["old.jpg"]
    assert not passes
    assert any("old_up4x_2.png" in line for line in [*result.lines, *result.text.splitlines()])


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--samples", "2", "--temperature", "0"), 2, "are all the same"),
        (("--samples", "2", "-o", "one.png"), 2, "is one place for 2 samples"),
        (("--samples", "2", "-o", "-"), 2, "is one place for 2 samples"),
        (("--samples", "2", "--name", "{stem}.png"), 2, "put {sample} into it"),
        (("--samples", "2", "--seed", str(2**64 - 1)), 2, "leaves none"),
        (("--samples", "0"), 2, "samples"),
        (("--temperature", "nan"), 2, "--temperature nan: is no number from 0 to 100"),
        (("--temperature", "101"), 2, "is not in the range 0<=x<=100"),
        (("-s", "2"), 2, "contradicts -m narrow"),
        (("-m", "sr-x4", "--temperature", "0.8"), 2, "sr-x4 does without"),
    ],
)
def test_what_is_refused(run, options, code, words):
    result = run("up", "--sr", "-m", "narrow", "--temperature", "0.8", *options, "old.jpg")
    assert result.code == code, result.lines
    assert words in " ".join(result.lines)
    assert [p.name for p in Path().iterdir()] == ["old.jpg"]


def test_stdin_is_read_once(run):
    data = Path("old.jpg").read_bytes()
    result = run("up", "--sr", "-m", "narrow", "--temperature", "1", "--samples", "2", "-", "-o", "./", stdin=data)
    assert result.code == 2
    assert "stdin can be read once" in " ".join(result.lines)


def test_workers_share_the_samples(run):
    assert run(*UP, "--samples", "2").code == 0
    alone = [pixels(f"old_up4x_{k}.png") for k in (1, 2)]
    assert run(*UP, "--samples", "2", "-o", "./", "--overwrite", "--backend", "devices", "--workers", "2").code == 0
    for k in (1, 2):
        assert np.abs(pixels(f"old_up4x_{k}.png") - alone[k - 1]).max() <= 1
