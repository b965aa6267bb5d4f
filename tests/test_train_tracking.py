"""What a run reports: log, pictures, alerts, challenging crops, TensorBoard, Weights & Biases, the report."""

from __future__ import annotations

import json
import math
import re
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from training import CPU, TINY, batch, records, train

from irnscale.errors import InputError, OutputError, UsageError
from irnscale.images.bicubic import bicubic_down
from irnscale.metrics import as_8bit
from irnscale.train import report
from irnscale.train.compare import curve_of
from irnscale.train.data import Photographs
from irnscale.train.objective import objective_of
from irnscale.train.pictures import samples, strip
from irnscale.train.timing import Stopwatch
from irnscale.train.tracking import Log, Trackers
from irnscale.train.trainer import Trainer


@pytest.fixture(scope="module")
def whole_run(photos, tmp_path_factory):
    """Forty steps with validation, every crop challenging, and a loss that is alarming."""
    recipe = TINY.but(budget="45", alert_loss=1.0, challenge_factor=0.01, batch_size=2)
    said: list[str] = []
    out = tmp_path_factory.mktemp("tracked") / "run"
    train(out, photos, recipe, val=[photos], report=True, say=said.append)
    return out, said


def test_what_a_run_leaves(whole_run, photos):
    out, said = whole_run
    log = records(out)
    steps = [r for r in log if "loss" in r]
    assert [r["step"] for r in steps] == [20, 40, 45]
    numbers = {"guide", "recon", "distr", "grad_norm", "rate", "epoch", "images_per_second", "bad_steps", "memory_mib"}
    for name in numbers:
        assert all(np.isfinite(r[name]) for r in steps), name
    parts = {name for name in steps[0] if name.startswith("time_")}
    assert parts == {f"time_{part}_ms" for part in ("data", "forward", "backward", "update")}
    assert steps[1]["epoch"] == pytest.approx(40 * 2 / 3, abs=1e-3)
    assert steps[0]["seconds_left"] > 0 == steps[-1]["seconds_left"]

    (scores,) = [r for r in log if "psnr_y" in r]
    assert {"ssim_y", "psnr_rgb", "ssim_rgb", "lr_psnr_y", "lr_ssim_y", "lr_psnr_rgb", "lr_ssim_rgb"} < scores.keys()

    (alert,) = [r for r in log if "alert" in r]
    assert "is above 1.0" in alert["alert"]
    assert sum("alert" in line for line in said) == 1, "once, not at every step"

    challenging = [r for r in log if "challenging" in r]
    assert {r["step"] for r in challenging} == set(range(21, 46)), "after the mean has settled"
    place = challenging[0]["challenging"]
    assert place["loss"] > 0.01 * place["mean"]
    data = Photographs([photos], scale=2, crop=16)
    plan = data.places(2, seed=TINY.run.seed, step=20)
    assert place["photograph"] == data.names[plan.photo[0]]
    assert (place["top"], place["left"], place["size"]) == (plan.top[0] * 2, plan.left[0] * 2, 16)
    with Image.open(out / "challenging" / "00000021.png") as picture:
        assert picture.size == (4 * 16 + 3 * 4, 16)
    assert [path.name for path in (out / "samples").iterdir()] == ["00000045.png"]

    with Image.open(out / "curves.png") as picture:
        assert min(picture.size) > 500
    text = (out / "report.md").read_text()
    for words in ("45 steps", "| psnr_y |", "![curves](curves.png)", "forward", "growth: 4", place["photograph"]):
        assert words in text, words


def test_the_coordinates_of_a_challenging_crop_lead_to_it(whole_run, photos):
    out, _ = whole_run
    place = next(r["challenging"] for r in records(out) if "challenging" in r)
    data = Photographs([photos], scale=2, crop=16)
    image = data.photograph(data.names.index(place["photograph"]))
    crop = image[:, place["top"] : place["top"] + 16, place["left"] : place["left"] + 16].float() / 255
    hr = data.batch(2, seed=TINY.run.seed, step=20)[0][0]
    turned = [t.flip(f) for t in (hr, hr.transpose(1, 2)) for f in ((), (1,), (2,), (1, 2))]
    assert any(torch.equal(t, crop) for t in turned)


def test_pictures_by_hand(photos):
    objective = objective_of(TINY).eval()
    hr, lr = (x[0] for x in batch(photos))
    picture = strip(objective, hr, lr)
    assert picture.dtype == torch.uint8
    parts = [picture[:, :, k * 20 : k * 20 + 16] for k in range(4)]
    mean = torch.nn.functional.avg_pool2d(hr, 2).repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(parts[0], as_8bit(lr.repeat_interleave(2, 1).repeat_interleave(2, 2)).to(torch.uint8))
    assert (parts[1].int() - as_8bit(mean).int()).abs().max() <= 1, "an untrained LR' is the mean of 2 x 2"
    assert torch.equal(parts[2], as_8bit(hr).to(torch.uint8))
    images = [torch.randint(256, (3, height, width), dtype=torch.uint8) for height, width in ((40, 300), (20, 30))]
    shown = samples(objective, images, CPU)
    assert shown.shape == (3, 40 + 4 + 20, 4 * 192 + 3 * 4)
    middle = images[0][:, :, 54:246]
    assert torch.equal(shown[:, :40, 2 * 196 : 2 * 196 + 192], middle)
    reference = bicubic_down(images[0][None].float() / 255, 2)[0, :, :, 27:123]
    assert torch.equal(shown[:, :40:2, :192:2], as_8bit(reference).to(torch.uint8))


def test_samples_without_validation_photographs(photos, tmp_path):
    train(tmp_path, photos, TINY.but(budget="1"))
    with Image.open(tmp_path / "samples" / "00000001.png") as picture:
        assert picture.size == (4 * 16 + 3 * 4, 4 * 16)


def test_tensorboard(photos, tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with warnings.catch_warnings(action="ignore"):  # tensorboard's own
        train(tmp_path, photos, TINY.but(budget="20", alert_loss=1.0), track=("tensorboard",), val=[photos])
        read = events.EventAccumulator(str(tmp_path / "tensorboard"))
        read.Reload()
    (point,) = read.Scalars("loss")
    (step,) = [r for r in records(tmp_path) if "loss" in r]
    assert (point.step, point.value) == (20, pytest.approx(step["loss"]))
    assert {"psnr_y", "grad_norm", "rate"} <= set(read.Tags()["scalars"])
    assert read.Tags()["images"] == ["samples"]
    assert "alert/text_summary" in read.Tags()["tensors"]


class FakeRun:
    def __init__(self, **options) -> None:
        self.options, self.logged, self.alerts, self.finished = options, [], [], False

    def log(self, values, step) -> None:
        self.logged.append((step, values))

    def alert(self, title, text) -> None:
        self.alerts.append(text)

    def finish(self) -> None:
        self.finished = True


def test_weights_and_biases(photos, tmp_path, monkeypatch):
    """The calls that its documentation describes; the package itself is not needed."""
    runs: list[FakeRun] = []
    fake = SimpleNamespace(init=lambda **o: runs.append(FakeRun(**o)) or runs[-1], Image=lambda pixels: pixels.shape)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    recipe = TINY.but(alert_loss=1.0)
    final = train(tmp_path, photos, recipe.but(budget="20"), track=("wandb",))
    train(tmp_path, photos, recipe.but(budget="22"), track=("wandb",), resume=True)
    first, second = runs
    run_id = final.name.split("_")[-1]
    for run in runs:
        assert run.options["id"] == run_id, "a checkpoint's name ends with the run's id there"
        assert (run.options["resume"], run.options["project"]) == ("allow", "irnscale")
        assert run.options["dir"] == str(tmp_path)
        assert run.finished
    assert first.options["config"]["growth"] == 4
    assert any(step == 20 and "loss" in values for step, values in first.logged)
    assert any("samples" in values for _, values in first.logged)
    assert "step 1: the loss" in first.alerts[0]
    assert [step for step, _ in second.logged] == sorted(step for step, _ in second.logged), "wandb wants rising steps"
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    train(tmp_path, photos, recipe.but(budget="23"), track=("wandb",), resume=True)
    assert "project" not in runs[-1].options


@pytest.mark.parametrize("package", ["wandb", "tensorboard"])
def test_a_missing_extra_is_named(photos, tmp_path, monkeypatch, package):
    module = {"wandb": "wandb", "tensorboard": "torch.utils.tensorboard"}[package]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=re.escape(f"pip install 'irnscale[{package}]'")):
        train(tmp_path, photos, track=(package,))


def test_a_log_that_cannot_be_written_is_said_once(tmp_path):
    log = Log(tmp_path)
    said: list[str] = []
    trackers = Trackers([log], said.append)
    log.path.mkdir()
    for step in range(3):
        trackers.scalars(step, {"loss": 1.0})
    assert len(said) == 1
    assert "the run goes on" in said[0]
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made a folder"):
        Log(tmp_path / "file" / "run")


def test_times_add_up():
    clock = Stopwatch()
    for _ in range(2):
        with clock("a"):
            pass
    taken = clock.take()
    assert taken.keys() == {"a"}
    assert 0 < taken["a"] < 1
    assert clock.take() == {}


def test_a_report_of_a_resumed_run(tmp_path, monkeypatch):
    """What was trained again after a crash counts once; a line cut off by the crash is left out."""
    lines = [
        {"run": "c0ffee", "from_step": 0, "recipe": TINY.to_dict()},
        {"step": 20, "loss": 5.0, "seconds": 1.0},
        {"step": 40, "loss": 4.0, "seconds": 2.0},
        {"run": "c0ffee", "from_step": 30, "recipe": TINY.to_dict()},
        {"step": 50, "loss": None, "seconds": 3.0},
    ]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 60, "lo')
    read = report.read_log(tmp_path)
    assert report.series(read, "loss") == ([20], [5.0])
    assert [r["step"] for r in read if "loss" in r] == [20, 50]
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    said: list[str] = []
    report.write_report(tmp_path, TINY, said.append)
    assert "matplotlib" in said[0]
    text = (tmp_path / "report.md").read_text()
    assert "started 2 times" in text
    assert "curves.png" not in text
    with pytest.raises(InputError, match=r"no log\.jsonl"):
        report.read_log(tmp_path / "nothing")


@pytest.mark.parametrize(
    "line",
    [
        "5",
        "null",
        "[1]",
        "[" * 200_000,
        '{"loss": 1}',
        '{"from_step": null}',
        '{"from_step": 0, "recipe": 3}',
        '{"from_step": 0, "loss": 3}',
        '{"step": "x", "loss": 1}',
        '{"step": 30, "loss": 1, "epoch": "x"}',
        '{"step": 30, "loss": 1, "seconds": "x"}',
        '{"step": 30, "psnr_y": "x"}',
        '{"step": 30, "psnr_y": 1' + "0" * 400 + "}",
        '{"step": 30, "challenging": {"loss": 1}}',
        '{"step": 30, "challenging": {"loss": "x", "mean": 1}}',
    ],
)
def test_lines_of_a_log_that_are_no_records_are_left_out(tmp_path, line):
    lines = [
        json.dumps({"run": "c0ffee", "from_step": 0, "recipe": TINY.to_dict()}),
        json.dumps({"step": 20, "loss": 5.0, "epoch": 1.0, "seconds": None, "time_step_ms": None}),
        json.dumps({"step": 20, "psnr_y": 30.0}),
        json.dumps({"step": 20, "challenging": {"loss": math.nan, "mean": 1.0, "photograph": "a"}}),
    ]
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join(lines))
    whole = report.read_log(tmp_path)
    page = report.markdown(whole, TINY, False)
    log.write_text("\n".join([line, *lines, line]))
    assert len(whole) == len(lines)
    assert report.markdown(report.read_log(tmp_path), TINY, False) == page
    assert curve_of(tmp_path, "psnr_y").values == (30.0,)


def test_validation_shows_the_averaged_weights(photos, tmp_path):
    """And puts the current ones back."""
    trainer = Trainer(TINY, out=tmp_path, device=CPU)
    trainer.train_step(batch(photos), 1e-1)
    current = trainer.parameters.values.clone()
    with trainer.averaged() as objective:
        assert not objective.training
        assert not torch.equal(trainer.parameters.values, current)
    assert torch.equal(trainer.parameters.values, current)
    assert trainer.objective.training
