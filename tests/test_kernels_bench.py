"""`irnscale bench kernels`: refused on a CPU, and its gate and table checked in the interpreter."""

from __future__ import annotations

import csv
import re
import shlex
import shutil
import subprocess
from copy import deepcopy
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch
from kernel_cases import force_triton

from irnscale.bench import kernels as bench
from irnscale.bench import paper, roundtrip
from irnscale.cli.bench import command
from irnscale.errors import DeviceError, ExitCode
from irnscale.kernels import interpreted
from irnscale.networks import IRN, IRNConfig

OPERATIONS = {
    "haar_forward",
    "haar_inverse",
    "coupling_forward",
    "coupling_inverse",
    "coupling_forward_backward",
    "coupling_forward 9 sliced",
    "coupling_forward 45 sliced",
    "additive_forward",
    "quantize",
    "bias_lrelu_into",
    "philox_normal",
    "dense_block 9->3",
}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_cuda_it_says_so():
    with pytest.raises(DeviceError, match="needs a CUDA device") as caught:
        bench.measure(print)
    assert caught.value.exit_code == ExitCode.DEVICE


@pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")
def test_gate_and_table(monkeypatch, tmp_path, capsys):
    """A wrong operation is listed without times, the others with; the CSV says what the table says."""
    monkeypatch.setattr(bench, "SIZES", {"tiny": (8, 12)})
    monkeypatch.setattr(bench, "DENSE", {"tiny": 3})
    monkeypatch.setattr(bench, "BLOCKS", ((9, 3),))
    monkeypatch.setattr(bench, "SECONDS", 10**6)
    monkeypatch.setattr(bench, "_quantiles", lambda call: (call(), (1.0, 2.0, 3.0))[1])
    module = import_module("irnscale.kernels.dense_block")
    monkeypatch.setattr(module, "FEW_PIXELS", 16)
    force_triton(monkeypatch, tile=1024)
    torch.manual_seed(0)
    cases = list(bench._cases(torch.device("cpu")))
    assert {case.operation for case in cases} == OPERATIONS
    assert cases[0].operation == "dense_block 9->3", "what takes the time comes first"
    # The interpreter rounds bfloat16 towards zero; the handful of pixels here may exceed the RMS bound.
    monkeypatch.setitem(bench.TOLERANCE, torch.bfloat16, 8e-3)
    broken = [replace(c, run=lambda *v, run=c.run: run(*v) * torch.nan) for c in cases if c.operation == "haar_forward"]
    chosen = [c for c in cases if c.operation != "haar_forward"] + broken

    monkeypatch.setattr(bench, "_cases", lambda device: chosen)
    monkeypatch.setattr(bench, "_provenance", lambda: dict.fromkeys(("gpu", "driver", "torch", "triton"), "none"))
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    for name, value in {"is_available": True, "reset_peak_memory_stats": None, "max_memory_allocated": 0}.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    kept: list[int] = []
    timed = bench.measure(print, lambda rows: kept.append(len(rows)), compiling=True)
    assert kept == list(range(1, len(chosen) + 1)), "after each row"
    assert {row.operation for row in timed if not row.correct} == {"haar_forward"}
    (tmp_path / "kernels.csv").write_text(bench.as_csv(timed))
    with (tmp_path / "kernels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(chosen)
    for row in rows:
        right = row["operation"] != "haar_forward"
        assert row["correct"] == str(right), row
        assert row["p50_ms"] == ("2.0" if right else "")
    out = capsys.readouterr().out
    assert out.count("WRONG") == len(broken)
    monkeypatch.setattr(bench, "SECONDS", -1)
    assert bench.measure(print) == []
    assert "left out" in capsys.readouterr().out


def test_measure_fits_and_its_commands_are_understood():
    """The script for a device: within 150 seconds, and options that exist; it cannot be run here."""
    script = (Path(__file__).parents[1] / "kernels" / "measure.sh").read_text()
    always = script.split("\nfi\n")[1]
    limits = [int(seconds) for seconds in re.findall(r"^(?:\w+=\w+ )?(?:run|keep) (\d+) ", always, re.MULTILINE)]
    assert len(limits) >= 10
    assert sum(limits) <= 150
    (step,) = re.findall(r'^step="irnscale bench (.*)"$', script, re.MULTILINE)
    lines = re.sub(r"^step=.*$", "", script, flags=re.MULTILINE).replace("$step", f"irnscale bench {step}")
    commands = re.findall(r"irnscale bench (.*)$", lines, re.MULTILINE)
    assert len(commands) >= 9
    for line in commands:
        arguments = shlex.split(line.replace("$photos", ".").replace("$out", "."))
        # a copy, since click keeps the names of the help option that a command was first parsed with
        assert deepcopy(command).make_context("bench", arguments).params["what"] in (
            "train",
            "roundtrip",
            "kernels",
            "folder",
        )
    if shutil.which("sh"):
        assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.slow
def test_the_compiled_way_is_the_papers():
    """To the rounding of bfloat16, by a backend of torch.compile that changes nothing; and its time is told."""
    net = IRN(IRNConfig(scale=2, inv_per_ds=2, growth=4)).requires_grad_(False)
    for p in net.parameters():
        p.normal_(std=0.1)
    x = torch.rand(1, 3, 16, 12)
    compiled = paper.CompiledPaper(net, backend="eager")
    y = paper.run_paper(net, x)
    assert (compiled(x) - y).norm() < 0.02 * y.norm()
    assert (compiled(y, rev=True) - x).norm() < 0.05 * x.norm()
    found = roundtrip.measure(scale=2, width=32, height=16, repeats=1, device="cpu", compiled="eager")
    assert found.compiled_s is not None
    assert found.compiled_s > 0
