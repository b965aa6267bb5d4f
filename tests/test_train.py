"""The training loop: learning, resuming, interruption and what goes wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from training import CPU, TINY, batch, names, records, train

from irnscale.errors import DeviceError, InputError, UsageError
from irnscale.images.bicubic import bicubic_down
from irnscale.train import checkpoints as store
from irnscale.train.loop import MAX_BAD_STEPS
from irnscale.train.objective import objective_of
from irnscale.train.signals import PATIENCE, stop_signals
from irnscale.train.trainer import Trainer

INFINITE = "irnscale.train.objectives.rescaling.image_loss"
"""What tests replace by an infinite loss."""


def test_the_loss_decreases(tmp_path):
    trainer = Trainer(TINY.but(growth=8), out=tmp_path / "run", device=CPU)
    x = torch.arange(16.0)
    hr = (0.5 + 0.3 * torch.sin(2.2 * x)).expand(2, 3, 16, 16)  # fine stripes: lost on bicubic
    lr = bicubic_down(hr, 2)
    values = [trainer.train_step((hr, lr), 4e-3)["loss"] for _ in range(40)]
    assert values[-1] < 0.6 * values[0]
    with trainer.averaged() as objective:
        assert objective(hr, lr, {})["loss"].mean().item() < 0.6 * values[0]


def test_a_run_leaves_checkpoint_and_log(photos, tmp_path):
    said: list[str] = []
    final = train(tmp_path / "run", photos, TINY.but(budget="20"), val=[photos], say=said.append)
    assert names(tmp_path / "run") == [".lock", final.name, "log.jsonl", "samples"]
    assert re.fullmatch(r"\d{8}T\d{6}Z_0013_[\d.]+_[0-9a-f]{8}", final.name), (
        "<timestamp>_<epoch>_<recent loss>_<run id>"
    )
    assert names(final) == [
        "ema-00.safetensors",
        "optimizer-00.safetensors",
        "state.json",
        "weights-00.safetensors",
    ]
    start, step, score = records(tmp_path / "run")
    assert start["recipe"]["name"] == "tiny"
    assert (step["step"], score["step"]) == (20, 20)
    assert step["rate"] < TINY.optim.initial_lr
    assert 20 < score["psnr_y"] < 60 < 2 * score["lr_psnr_y"]
    assert any("psnr_y" in line for line in said)


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_resuming_changes_nothing(photos, tmp_path, optimizer):
    recipe = TINY.but(budget="8", optimizer=optimizer, weight_decay=1e-3, zerosample=False, lr_cells=[1, 4])
    whole = train(tmp_path / "whole", photos, recipe)
    # Stopped after every third step, with the schedule of the whole run.
    monkeyed = recipe.but(checkpoint_minutes=0)
    for stop_at in (3, 6, 9):
        part = train_until(tmp_path / "parts", photos, monkeyed, stop_at, resume=stop_at > 3)
    state = store.load_state(part)
    assert state["step"] == 8
    first = store.load_state(store.checkpoints(tmp_path / "parts")[0])
    assert state["run_id"] == first["run_id"] != store.load_state(whole)["run_id"]
    for stem in ("weights", "ema", "optimizer"):
        one, two = store.load_sharded(part, stem), store.load_sharded(whole, stem)
        assert one.keys() == two.keys()
        for name in one:
            assert torch.equal(one[name], two[name]), f"{stem}: {name}"


def train_until(out, photos, recipe, stop_at, **options):
    """A run that is interrupted after the step `stop_at`, as by Ctrl-C."""
    original = Trainer.train_step

    def step(self, *args, **kwargs):
        record = original(self, *args, **kwargs)
        if self.step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return record

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", step)
        try:
            return train(out, photos, recipe, **options)
        except KeyboardInterrupt:
            return store.checkpoints(out)[-1]


@pytest.mark.parametrize("spent", ["4", "0.001s"])
def test_a_used_up_budget_says_so(photos, tmp_path, spent):
    final = train(tmp_path, photos, TINY.but(budget="4"))
    said: list[str] = []
    again = train(tmp_path, tmp_path / "no-data", TINY.but(budget=spent), resume=True, say=said.append)
    assert again == final
    assert len(said) == 1
    assert "used up" in said[0]


def test_the_budget_may_change_when_resuming(photos, tmp_path):
    train(tmp_path, photos, TINY.but(budget="3"))
    before = store.load_state(store.checkpoints(tmp_path)[-1])
    assert before["seconds"] > 0
    final = train(tmp_path, photos, TINY.but(budget=f"{before['seconds'] + 0.5}s"), resume=True)
    state = store.load_state(final)
    assert state["step"] > 3
    assert before["seconds"] + 0.5 <= state["seconds"] < before["seconds"] + 5


def test_an_existing_run_is_not_overwritten(photos, tmp_path):
    train(tmp_path, photos, TINY.but(budget="1"))
    with pytest.raises(UsageError, match="add `resume`"):
        train(tmp_path, photos)


def test_two_trainings_in_one_folder(photos, tmp_path):
    held = "import sys; from pathlib import Path; from irnscale.train.locking import locked\n"
    held += "with locked(Path(sys.argv[1])): print(flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", held, tmp_path / "run"], stdin=-1, stdout=-1)
    process.stdout.readline()
    for resume in (True, False):
        with pytest.raises(UsageError, match="another training is writing there"):
            train(tmp_path / "run", photos, resume=resume)
    process.kill()
    process.communicate()
    assert train(tmp_path / "run", photos, TINY.but(budget="1"), resume=True).is_dir(), "killed, it holds nothing"


def test_nothing_is_left_of_a_training_that_could_not_begin(tmp_path):
    with pytest.raises(InputError):
        train(tmp_path / "run", tmp_path / "no-data")
    assert not (tmp_path / "run").exists()


def test_resume_without_a_run_starts_anew(photos, tmp_path):
    said: list[str] = []
    train(tmp_path, photos, TINY.but(budget="1"), resume=True, say=said.append)
    assert any("starting anew" in line for line in said)


@pytest.mark.parametrize("change", [{"growth": 8}, {"scale": 4}, {"clamp_activation": "tanh"}])
def test_resume_refuses_another_architecture(photos, tmp_path, change):
    train(tmp_path, photos, TINY.but(budget="1"))
    with pytest.raises(UsageError, match=next(iter(change))):
        train(tmp_path, photos, TINY.but(**change), resume=True)


def test_bad_steps_are_skipped_and_counted(photos, tmp_path):
    trainer = Trainer(TINY, out=tmp_path, device=CPU)
    hr, lr = batch(photos)
    before = {k: v.clone() for k, v in trainer.weights().items()}
    record = trainer.train_step((hr * float("nan"), lr), 1e-3)
    assert record["loss"].isnan()
    assert trainer.count_bad() == 1
    assert (trainer.step, trainer.bad_steps) == (1, 1)
    assert all(not vector.any() for vector in trainer.optimizer.state.values())
    with trainer.averaged():
        averaged = {k: v.clone() for k, v in trainer.weights().items()}
    for name, tensor in trainer.weights().items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(averaged[name], before[name])
    # Nothing is in the optimiser yet; such a run resumes all the same.
    trainer.save()
    again = Trainer(TINY, out=tmp_path, device=CPU, resume=True)
    assert (again.step, again.bad_steps) == (1, 1)
    again.train_step((hr, lr), 1e-3)
    assert again.optimizer.state["step"].item() == 1
    assert again.count_bad() == 0
    assert again.bad_steps == 1


def test_too_many_bad_steps_end_the_run(photos, tmp_path, monkeypatch):
    last = train(tmp_path, photos, TINY.but(budget="2"))
    monkeypatch.setattr(INFINITE, lambda _, a, b, y: (a - b).sum((1, 2, 3)) * float("inf"))
    with pytest.raises(InputError, match=f"{last.name} is kept"):
        train(tmp_path, photos, TINY.but(budget="100", checkpoint_minutes=0), resume=True)
    assert store.checkpoints(tmp_path) == [last]
    (*_, bad, alert) = records(tmp_path)
    assert "non-finite" in alert["alert"]
    assert (bad["loss"], bad["bad_steps"]) == (None, MAX_BAD_STEPS)


def test_a_short_run_of_bad_steps_alone_is_no_training(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(INFINITE, lambda _, a, b, y: (a - b).sum((1, 2, 3)) * float("inf"))
    with pytest.raises(InputError, match="2 steps in a row had a non-finite loss or gradient"):
        train(tmp_path, photos, TINY.but(budget="2"))
    assert not store.checkpoints(tmp_path)


def test_what_takes_too_much_memory_is_one_line(photos, tmp_path, monkeypatch):
    def full(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Trainer, "train_step", full)
    with pytest.raises(DeviceError, match=r"out of memory on cpu \(smaller batch_size"):
        train(tmp_path, photos)


def test_sampled_z_is_a_function_of_seed_and_step(photos):
    net = objective_of(TINY).net
    sampling = TINY.but(zerosample=False)
    hr, lr = batch(photos)
    objective = objective_of(sampling, net)
    values = [objective(hr, lr, objective.draw(2, step=step))["loss"] for step in (3, 3, 4)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    assert not torch.equal(objective.draw(2, step=3)["z"], objective_of(sampling.but(seed=11)).draw(2, step=3)["z"])
    assert (values[0] > objective_of(TINY, net)(hr, lr, objective_of(TINY).draw(2, step=3))["loss"]).all()


def test_sigterm_saves_a_checkpoint(photos, tmp_path):
    code = f"""
import sys
import torch
from pathlib import Path
from irnscale.train.config import Recipe
from irnscale.train.loop import run
recipe = Recipe.of(**{TINY.but(budget="10m").to_dict()!r})
run(recipe, data=[Path({str(photos)!r})], out=Path({str(tmp_path)!r}), device=torch.device("cpu"),
    say=lambda line: print(line, file=sys.stderr))
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    deadline = time.monotonic() + 120
    while not ((log := tmp_path / "log.jsonl").exists() and len(log.read_text().splitlines()) > 1):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in errors, "the caller is told"
    assert b"`resume` goes on" in errors
    (saved,) = store.checkpoints(tmp_path)
    assert store.load_state(saved)["step"] >= 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_may_come_twice_at_once(monkeypatch, number):
    now = 10.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with stop_signals() as received:
        os.kill(os.getpid(), number)
        now += PATIENCE / 2
        os.kill(os.getpid(), number)
        assert received == [number] * 2, "as a terminal and torchrun send it"
        now += PATIENCE
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_under_nohup_a_training_goes_on():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not received
    finally:
        signal.signal(signal.SIGHUP, before)
