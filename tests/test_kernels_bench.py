"""`irnscale bench kernels`: refused on a CPU, and its gate and table checked in the interpreter."""

from __future__ import annotations

import csv
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from kernel_cases import force_triton

from irnscale.bench import kernels as bench
from irnscale.errors import DeviceError, ExitCode
from irnscale.kernels import interpreted

OPERATIONS = {
    "haar_forward",
    "haar_inverse",
    "coupling_forward",
    "coupling_inverse",
    "coupling_forward_backward",
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
    timed = bench.measure(print)
    assert {row.operation for row in timed if not row.correct} == {"haar_forward"}
    bench.write_csv(timed, tmp_path / "kernels.csv")
    with (tmp_path / "kernels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(chosen)
    for row in rows:
        right = row["operation"] != "haar_forward"
        assert row["correct"] == str(right), row
        assert row["p50_ms"] == ("2.0" if right else "")
    out = capsys.readouterr().out
    assert out.count("WRONG") == len(broken)
