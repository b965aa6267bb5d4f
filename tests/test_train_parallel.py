"""Several processes, pieces of a batch, and runs that are killed: all of them are the same run."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training import CPU, TINY, batch, records, train

from irnscale.errors import UsageError
from irnscale.train import checkpoints as store
from irnscale.train.parallel import World
from irnscale.train.trainer import Trainer

SHARED = TINY.but(
    budget="6",
    batch_size=4,
    zerosample=False,
    compression_mode=True,
    compression_subsampling="random",
    actnorm=True,
)


def arguments(recipe, photos, out):
    """What `irnscale train` is given for a recipe in a file."""
    path = out.parent / f"{out.name}.yaml"
    path.write_text(json.dumps(recipe.to_dict()))
    return [str(path), "--data", str(photos), "--out", str(out), "--device", "cpu", "--no-progress"]


LEAVE = """
import os, sys, time
import torch
from irnscale.train.parallel import join

rank = 0 if os.fork() else 1
os.environ.update(RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=sys.argv[1])
torch.set_num_threads(1)
with join(torch.device("cpu")) as world:
    weight = torch.nn.Parameter(torch.ones(3))
    weight.square().sum().backward()
    world.sum_(weight.grad)
    torch.optim.Adam([weight]).step()

def gloo():
    names = (open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task"))
    return [name for name in names if "gloo" in name]

ends = time.monotonic() + 20
while gloo() and time.monotonic() < ends:
    time.sleep(0.05)
code = 1 if gloo() else 0
if rank == 0:
    code |= os.waitstatus_to_exitcode(os.wait()[1])
sys.exit(code)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are listed by Linux")
def test_no_thread_of_the_group_outlives_it(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.run([sys.executable, "-c", LEAVE, str(port)], timeout=120, check=False)
    assert process.returncode == 0


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(photos, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", f"--master-port={port}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*torchrun, "-m", "irnscale.train", *arguments(SHARED, photos, tmp_path / "two")]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    one = train(tmp_path / "one", photos, SHARED)
    (two,) = store.checkpoints(tmp_path / "two")
    assert process.stdout.split() == [str(two)], "one of them talks"
    mean_one, mean_two = ([r for r in records(out.parent) if "loss" in r][-1] for out in (one, two))
    for name in ("loss", "guide", "recon", "distr", "grad_norm"):
        assert mean_two[name] == pytest.approx(mean_one[name], rel=1e-4), name
    weights_one, weights_two = store.load_sharded(one, "weights"), store.load_sharded(two, "weights")
    for name, value in weights_one.items():
        # Sums in another order; Adam makes a full step even of a tiny gradient.
        torch.testing.assert_close(weights_two[name], value, rtol=0, atol=2e-4)


def test_a_batch_that_cannot_be_shared():
    assert World(CPU, rank=1, size=2).rows(8) == slice(4, 8)
    with pytest.raises(UsageError, match="not divisible by 2 processes x accumulate=3"):
        World(CPU, rank=1, size=2).rows(8, accumulate=3)


def test_pieces_have_the_gradient_of_the_whole(photos, tmp_path):
    grads = []
    for changes in ({}, {"accumulate": 2}, {"accumulate": 4}, {"accumulate": 2, "save_memory": True}):
        recipe = SHARED.but(**changes)
        trainer = Trainer(recipe, out=tmp_path / str(len(grads)), device=CPU)
        hr, lr = batch(photos, 4)
        trainer.prepare((hr,))
        record = trainer.train_step((hr, lr), 0.0)
        assert record["losses"].shape == (4,)
        grads.append(trainer.parameters.grads.clone())
    for other in grads[1:]:
        torch.testing.assert_close(other, grads[0], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_killed_run_ends_as_if_it_had_not_been(photos, tmp_path):
    """SIGKILL at random moments, while steps or checkpoints are in progress; then --resume until the end."""
    recipe = TINY.but(budget="60", checkpoint_minutes=0, zerosample=False)
    whole = train(tmp_path / "whole", photos, recipe)
    out, kills = tmp_path / "killed", 0
    rng = random.Random(1)
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-m", "irnscale", "train", *arguments(recipe, photos, out), "--resume"],
            stderr=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        before = store.checkpoints(out)[-1:]
        deadline = time.monotonic() + 60
        while kills < 2 and process.poll() is None and store.checkpoints(out)[-1:] == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        if kills < 2:
            time.sleep(rng.uniform(0, 0.15))
            process.send_signal(signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        if process.returncode != -signal.SIGKILL:
            break
        kills += 1
    assert (process.returncode, kills) == (0, 2), errors.decode()
    (*_, last) = store.checkpoints(out)
    for stem in ("weights", "ema", "optimizer"):
        one, two = store.load_sharded(whole, stem), store.load_sharded(last, stem)
        assert one.keys() == two.keys()
        for name in one:
            assert torch.equal(one[name], two[name]), f"{stem}: {name}"
    assert sum("from_step" in record for record in records(out)) == 3
