"""The training loop: learning, resuming, interruption and what goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from training import CPU, TINY, batch, names, records, train

from irnscale.errors import InputError, UsageError
from irnscale.images.bicubic import bicubic_down
from irnscale.train import checkpoints as store
from irnscale.train.loop import MAX_BAD_STEPS, Trainer
from irnscale.train.objective import Objective, draw


def test_the_loss_decreases(tmp_path):
    trainer = Trainer(replace(TINY, growth=8), out=tmp_path / "run", device=CPU)
    x = torch.arange(16.0)
    hr = (0.5 + 0.3 * torch.sin(2.2 * x)).expand(2, 3, 16, 16)  # fine stripes: lost on bicubic
    lr = bicubic_down(hr, 2)
    values = [trainer.train_step(hr, lr, 4e-3)["loss"] for _ in range(40)]
    assert values[-1] < 0.6 * values[0]
    assert Objective(TINY, trainer.averaged())(hr, lr, {})["loss"].mean().item() < 0.6 * values[0]


def test_a_run_leaves_checkpoint_and_log(photos, tmp_path):
    said: list[str] = []
    final = train(tmp_path / "run", photos, replace(TINY, budget="20"), val=[photos], say=said.append)
    assert names(tmp_path / "run") == ["log.jsonl", "step-00000020"]
    assert names(final) == [
        "ema-00.safetensors",
        "moments-00.safetensors",
        "state.json",
        "weights-00.safetensors",
    ]
    start, step, score = records(tmp_path / "run")
    assert start["recipe"]["name"] == "tiny"
    assert (step["step"], score["step"]) == (20, 20)
    assert step["rate"] < TINY.initial_lr
    assert 20 < score["psnr_y"] < 60 < 2 * score["lr_psnr_y"]
    assert any("psnr_y" in line for line in said)


def test_resuming_goes_on_from_the_step(photos, tmp_path):
    whole = train(tmp_path / "whole", photos, replace(TINY, budget="8", warmup=0, final_lr=1))
    for steps in ("5", "8"):
        part = train(tmp_path / "parts", photos, replace(TINY, budget=steps, warmup=0, final_lr=1), resume=steps == "8")
    assert names(tmp_path / "parts") == ["log.jsonl", "step-00000005", "step-00000008"]
    state, state_whole = store.load_state(part), store.load_state(whole)
    assert state["step"] == state["optimizer_step"] == 8
    assert state["run_id"] == store.load_state(tmp_path / "parts" / "step-00000005")["run_id"]
    assert state["run_id"] != state_whole["run_id"]
    # The moments were rounded to bfloat16 in between, so the weights agree only closely.
    one, two = store.load_sharded(part, "weights"), store.load_sharded(whole, "weights")
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=2e-4)


@pytest.mark.parametrize("spent", ["4", "0.001s"])
def test_a_used_up_budget_says_so(photos, tmp_path, spent):
    final = train(tmp_path, photos, replace(TINY, budget="4"))
    said: list[str] = []
    again = train(tmp_path, tmp_path / "no-data", replace(TINY, budget=spent), resume=True, say=said.append)
    assert again == final
    assert len(said) == 1
    assert "used up" in said[0]


def test_the_budget_may_change_when_resuming(photos, tmp_path):
    train(tmp_path, photos, replace(TINY, budget="3"))
    before = store.load_state(store.checkpoints(tmp_path)[-1])
    assert before["seconds"] > 0
    final = train(tmp_path, photos, replace(TINY, budget=f"{before['seconds'] + 0.5}s"), resume=True)
    state = store.load_state(final)
    assert state["step"] > 3
    assert before["seconds"] + 0.5 <= state["seconds"] < before["seconds"] + 5


def test_an_existing_run_is_not_overwritten(photos, tmp_path):
    train(tmp_path, photos, replace(TINY, budget="1"))
    with pytest.raises(UsageError, match="--resume"):
        train(tmp_path, photos)


def test_resume_without_a_run_starts_anew(photos, tmp_path):
    said: list[str] = []
    train(tmp_path, photos, replace(TINY, budget="1"), resume=True, say=said.append)
    assert any("starting anew" in line for line in said)


@pytest.mark.parametrize("change", [{"growth": 8}, {"scale": 4}, {"clamp_activation": "tanh"}])
def test_resume_refuses_another_architecture(photos, tmp_path, change):
    train(tmp_path, photos, replace(TINY, budget="1"))
    with pytest.raises(UsageError, match=next(iter(change))):
        train(tmp_path, photos, replace(TINY, **change), resume=True)


def test_bad_steps_are_skipped_and_counted(photos, tmp_path):
    trainer = Trainer(TINY, out=tmp_path, device=CPU)
    hr, lr = batch(photos)
    before = {k: v.clone() for k, v in trainer.net.state_dict().items()}
    record = trainer.train_step(hr * float("nan"), lr, 1e-3)
    assert record["loss"] != record["loss"]
    assert (trainer.step, trainer.bad_steps) == (1, 1)
    for name, tensor in trainer.net.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(trainer.ema[name], before[name])
    # Nothing is in the optimiser yet; such a run resumes all the same.
    trainer.save()
    again = Trainer(TINY, out=tmp_path, device=CPU, resume=True)
    assert (again.step, again.bad_steps) == (1, 1)
    again.train_step(hr, lr, 1e-3)
    assert store.load_state(again.save())["optimizer_step"] == 1


def test_too_many_bad_steps_end_the_run(photos, tmp_path, monkeypatch):
    kept = train(tmp_path, photos, replace(TINY, budget="2"))
    monkeypatch.setattr("irnscale.train.objective.charbonnier_sum", lambda a, b: (a - b).sum((1, 2, 3)) * float("inf"))
    with pytest.raises(InputError, match="step-00000002 is kept"):
        train(tmp_path, photos, replace(TINY, budget="100", checkpoint_minutes=0), resume=True)
    assert store.checkpoints(tmp_path) == [kept]
    bad = [r for r in records(tmp_path) if "loss" in r]
    assert len(bad) == MAX_BAD_STEPS
    assert bad[-1]["loss"] is None


def test_sampled_z_is_a_function_of_seed_and_step(photos):
    net = Objective(TINY).net
    sampling = replace(TINY, zerosample=False)
    hr, lr = batch(photos)
    values = [Objective(sampling, net)(hr, lr, draw(sampling, 2, step=step))["loss"] for step in (3, 3, 4)]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])
    assert (values[0] > Objective(TINY, net)(hr, lr, draw(TINY, 2, step=3))["loss"]).all()


def test_sigterm_saves_a_checkpoint(photos, tmp_path):
    code = f"""
import torch
from pathlib import Path
from irnscale.train.config import Recipe
from irnscale.train.loop import run
recipe = Recipe(**{replace(TINY, budget="10m").to_dict()!r})
run(recipe, data=[Path({str(photos)!r})], out=Path({str(tmp_path)!r}), device=torch.device("cpu"))
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
    (saved,) = store.checkpoints(tmp_path)
    assert store.load_state(saved)["step"] >= 20
