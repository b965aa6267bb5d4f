"""Kernels compiled before they are launched: the variants that a run needs, under the keys that its launches have."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch
from kernel_cases import force_triton
from test_kernels_variants import run
from torch import nn

from irnscale.engine import executor, prepared, warming
from irnscale.engine.fused import FusedSubnets
from irnscale.engine.prepared import Prepared
from irnscale.kernels import interpreted, launches
from irnscale.kernels.compiling import Launch, Operand, compile_all, launch, recorded
from irnscale.networks import IRN, IRNConfig
from irnscale.train.config import Recipe
from irnscale.train.trainer import Trainer
from irnscale.train.warming import launches_of_step

pytest.importorskip("triton")
needs_interpreter = pytest.mark.skipif(not interpreted(), reason="needs TRITON_INTERPRET=1")


def narrow_network():
    net = IRN(IRNConfig(scale=4, inv_per_ds=1, growth=16))
    for p in net.parameters():
        nn.init.normal_(p, std=0.05)
    return net.requires_grad_(False)


def watched(monkeypatch):
    """Variants of the kernels that are launched from here on, none of which is run."""
    seen = []

    def launched(self, grid):
        def call(*arguments, **options):
            operands = tuple(Operand(v) if isinstance(v, torch.Tensor) else v for v in arguments)
            seen.append(Launch(self, operands, options).variant)

        return call

    monkeypatch.setattr(import_module("triton.runtime.interpreter").InterpretedFunction, "__getitem__", launched)
    return seen


@needs_interpreter
def test_a_run_launches_nothing_that_was_not_recorded(monkeypatch):
    """On the kernels' own subnets in bfloat16, both ways, pictures of several sizes."""
    monkeypatch.setenv("IRNSCALE_KERNELS", "triton")
    monkeypatch.setattr(prepared, "packs", lambda *_: False)
    monkeypatch.setattr(prepared, "fuses", lambda *_: True)
    module = import_module("irnscale.kernels.dense_block")
    monkeypatch.setattr(module, "MANY", 100)  # so that one picture has more positions, and the others fewer
    ready = Prepared(narrow_network(), torch.bfloat16)
    assert all(isinstance(subnets, FusedSubnets) for subnets in ready.subnets.values())
    launches(reset=True)
    found = warming.launches_of(ready)
    variants = {one.variant for one in found}
    counted = launches(reset=True)
    assert set(counted) == {"dense_block", "haar_forward", "haar_inverse", "coupling_forward", "coupling_inverse"} | {
        "additive_forward",
        "additive_inverse",
    }
    couplings = {v for v in variants if v[0] is import_module("irnscale.kernels.coupling")._apply}
    assert len(couplings) == 4, "of 9 and of 45 channels, forward and inverse"
    seen = watched(monkeypatch)
    monkeypatch.setattr(executor, "are_finite", lambda _: True)  # nothing is computed
    for height, width in ((16, 32), (28, 36), (8, 4)):
        x = torch.rand(1, 3, height, width)
        y = executor.run(ready, x, rev=False, tile=7)
        executor.run(ready, y, rev=True, tile=64)
    assert len(seen) > 50
    missing = set(seen) - variants
    assert not missing, missing
    assert len(variants) < len(found), "of both levels and directions, many are the same"


@needs_interpreter
@pytest.mark.parametrize("batch", [1, 4])
def test_a_training_step_launches_nothing_that_was_not_recorded(batch, monkeypatch, tmp_path):
    """Both passes and their backward passes, losses and the optimiser, on the dense block's kernels."""
    monkeypatch.setenv("IRNSCALE_KERNELS", "triton")
    monkeypatch.setattr(import_module("irnscale.kernels.dense_block"), "MANY", 300)
    recipe = Recipe.of(scale=4, inv_per_ds=1, growth=16, batch_size=batch, img_size=20, precision="float32")
    trainer = Trainer(recipe, out=tmp_path, device=torch.device("cpu"))
    assert trainer.compiled is None, "there is no GPU to compile for"
    variants = {one.variant for one in launches_of_step(trainer.net, batch, 20, torch.device("cpu"))}
    seen = watched(monkeypatch)
    trainer.train_step((torch.rand(batch, 3, 20, 20), torch.rand(batch, 3, 5, 5)), 1e-3)
    assert len(seen) > 50
    missing = set(seen) - variants
    assert not missing, missing


@needs_interpreter
def test_what_doctor_says_of_the_kernels(monkeypatch):
    """Right, wrong, and not to be compiled."""
    monkeypatch.setenv("IRNSCALE_KERNELS", "triton")
    monkeypatch.setattr(import_module("irnscale.kernels.dense_block"), "FEW_PIXELS", 16)
    assert warming.check_coupling(torch.device("cpu"), side=2).startswith("yes, in ")
    monkeypatch.setattr(import_module("irnscale.kernels.additive"), "_launch", lambda x, p, y, *_: y.zero_())
    assert "compute wrongly: error" in warming.check_coupling(torch.device("cpu"), side=2)

    def fails(*_):
        raise RuntimeError("ptxas\nis missing")

    monkeypatch.setattr(import_module("irnscale.kernels.additive"), "_launch", fails)
    assert warming.check_coupling(torch.device("cpu"), side=2) == "no: RuntimeError: is missing"


@needs_interpreter
def test_recording_runs_nothing(monkeypatch):
    force_triton(monkeypatch)
    kernel = import_module("irnscale.kernels.additive")._add
    with recorded() as found:
        launch(kernel, (1,), torch.zeros(3), 5, option=True)
    ((operand, five),) = (one.arguments for one in found)
    assert (operand.dtype, five) == (torch.float32, 5)
    assert operand.data_ptr() % 16 == 0


def test_each_variant_is_compiled_once():
    compiled = []

    class Kernel:
        @staticmethod
        def fn(x: tl.tensor, size: tl.tensor, channels: tl.constexpr): ...  # noqa: F821  (as Triton has them)

        def warmup(self, *arguments, grid, **options):
            compiled.append((arguments[2], options["C"]))

    kernel = Kernel()
    made = [
        Launch(kernel, (Operand(torch.zeros(size)), size, channels), {"C": c})
        for size in (4, 8)
        for channels in (3, 9)
        for c in (1, 2)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "device", lambda _: torch.no_grad())
        done = compile_all(made, torch.device("cuda"), workers=2)
    assert (sorted(compiled), done.variants) == ([(3, 1), (3, 2), (9, 1), (9, 2)], 4)
    assert done.describe().startswith("kernels: 4 variants ready after ")


def test_nothing_is_compiled_on_a_cpu():
    assert warming.compile_kernels([Prepared(narrow_network())], torch.device("cpu")) is None


KEYS = """
import contextlib
from unittest import mock
JITFunction.run = honest
driver = mock.Mock()
driver.get_current_device.return_value, driver.get_current_stream.return_value = 0, 0
driver.get_current_target.return_value = target
triton.runtime.driver.set_active(driver)
torch.cuda.device = lambda _: contextlib.nullcontext()
import irnscale.kernels.dense
irnscale.kernels.dense.use_triton = lambda x: True
from irnscale.kernels.compiling import compile_all, recorded

def block_of(growth):
    outs, inputs = [growth] * 4 + [3], [9 + growth * k for k in range(5)]
    return [torch.zeros(o, i, 3, 3) for o, i in zip(outs, inputs)] + [torch.zeros(o) for o in outs]

def work(height, width):
    x = image(9, height, width, torch.float32, torch.channels_last)
    (y,) = kernels.DenseWeights.pack([block_of(16)], torch.bfloat16)(x)
    additive.additive_forward(x[:, :3], y, inplace=True)

made = []
plain = JITFunction._do_compile
JITFunction._do_compile = lambda self, *a: (made.append(self.__name__), plain(self, *a))[1]
with recorded() as found:
    work(8, 16)
done = compile_all(found, torch.device("cuda"))
assert len(made) == done.variants >= 6, (made, done)

class Launched(Exception):
    pass

import triton.compiler.compiler as compiler
def launched(self):
    raise Launched
compiler.CompiledKernel.run = property(launched)
compiler.CompiledKernel._init_handles = launched
for size in ((8, 16), (33, 47), (208, 208)):
    with recorded() as again:
        work(*size)
    for one in again:
        try:
            one.kernel[(1,)](*one.arguments, **one.options)
            raise AssertionError("not launched")
        except Launched:
            pass
assert len(made) == done.variants, made[done.variants:]
print("no second compilation")
"""


@pytest.mark.slow
def test_launches_find_what_was_compiled(tmp_path):
    """With Triton's own look-up, for a device that is not there: pictures of other sizes compile nothing."""
    assert run(KEYS, tmp_path) == ["no second compilation"]
