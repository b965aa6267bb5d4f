"""Every kernel, as Python launches it, compiles to machine code for a GPU: no GPU is needed for that.

The interpreter accepts much that the compiler does not, so this is what stands between an interpreted test
suite and a first run on a real device. It runs in a fresh process, in which Triton is not interpreted.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

# It also asserts 128-bit accesses of the Haar kernels, contiguous and channels-last of 12 channels.
SCRIPT = """
import os, re, subprocess, sys, tempfile, torch, triton, warnings
warnings.filterwarnings("error", message="TRITON_DEFAULT_FP_FUSION")
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

seen = {}
capability = 90
everything = sys.argv[1] == "everything"
dump = os.path.join(os.path.dirname(triton.__file__), "backends", "nvidia", "bin", "cuobjdump")

def run(self, *args, grid, warmup, **kwargs):
    target = GPUTarget("cuda", capability, 32)
    kwargs["debug"] = False
    backend = make_backend(target)
    bind = create_function_from_signature(self.signature, self.params, backend)
    bound, specialization, options = bind(*args, **kwargs)
    options, *described = self._pack_args(backend, kwargs, bound, specialization, options)
    source = ASTSource(self, *described)
    name = f"{self.__module__.split('.')[-1]}.{self.__name__}"
    dense = name.startswith("dense_block")
    compiled = triton.compile(source, target=target, options=options.__dict__)
    seen.setdefault(name, []).append(compiled.asm["ptx"])
    if dense:
        check_resources(name, compiled, capability, bound)

def check_resources(name, compiled, capability, bound):
    "What a device would find out at the first launch."
    assert compiled.metadata.shared <= (227 if capability == 90 else 163) * 1024, (name, compiled.metadata.shared)
    units = ("wgmma", "mma.sync") if capability == 90 else ("mma.sync",)
    if bound["PRECISION"] != "ieee":
        assert any(unit in compiled.asm["ptx"] for unit in units), (name, capability, "no matrix unit is used")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run([dump, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    registers, stack, local = (int(re.search(rf"{key}:(\\d+)", usage)[1]) for key in ("REG", "STACK", "LOCAL"))
    if "-v" in sys.argv:
        sizes = {k: v for k, v in bound.items() if isinstance(v, int) and k.isupper()}
        print(name, capability, sizes, registers, stack, compiled.metadata.shared, file=sys.stderr)
    assert (stack, local) == (0, 0), (name, capability, "spills", usage)

JITFunction.run = run
from irnscale import kernels
from irnscale.kernels import LogScale, additive, bias_lrelu, coupling, haar, philox, quantization

dtypes = (torch.float32, torch.bfloat16, torch.float16, torch.float64) if everything else (torch.float32,)
for dtype in dtypes:
    for memory in (torch.contiguous_format, torch.channels_last):
        x = torch.zeros(2, 12, 16, 32, dtype=dtype).contiguous(memory_format=memory).requires_grad_()
        small = x.detach()[:, :3, :2, 1:9].requires_grad_()
        haar.haar_inverse(haar.haar_forward(x))
        if dtype == torch.float32:
            haar.haar_inverse(haar.haar_forward((x.detach() * 0).byte()), to_uint8=True)
            vectors = "v4.b32" in seen["haar._forward"][-2]
            assert vectors and "v4.b32" in seen["haar._inverse"][-2], memory
        for image in (x, small) if everything else (small,):
            for activation in ("sigmoid", "tanh", "proposal1") if everything else ("proposal1",):
                for step in (coupling.coupling_forward, coupling.coupling_inverse):
                    y, log = step(image, image, image, scale=LogScale(activation=activation), log_det=True)
                    (y.sum() + log.sum()).backward()
            additive.additive_inverse(image, image).sum().backward()
            quantization.quantize(image)
            for depth in (8, 16):
                quantization.quantize(image, depth=depth, to_integer=True)
        out = torch.zeros(2, 20, 16, 32, dtype=dtype).contiguous(memory_format=memory)
        bias = torch.zeros(12, dtype=dtype, requires_grad=True)
        bias_lrelu.bias_lrelu_into(x, bias, out, 3).sum().backward()
        philox.philox_normal((2, 3, 5, 9), seed=2**40, dtype=dtype, memory_format=memory)
mixed = torch.zeros(1, 3, 4, 8, requires_grad=True)
low = mixed.detach().bfloat16().requires_grad_()
coupling.coupling_inverse(mixed, low, low)[0].sum().backward()
additive.additive_forward(mixed, low).sum().backward()
y, _ = coupling.coupling_forward(mixed.detach(), low.detach(), low.detach(), inplace=True)
def dense(channels, out, dtype, groups, side):
    outs, inputs = [32] * 4 + [out], [channels + 32 * k for k in range(5)]
    block = [torch.zeros(o, i, 3, 3, requires_grad=True) for o, i in zip(outs, inputs)]
    block += [torch.zeros(o, requires_grad=True) for o in outs]
    x = torch.zeros(1, channels, side, side, requires_grad=True)
    results = kernels.dense_blocks(x, [block] * groups, dtype=dtype)
    sum(y.float().sum() for y in results).backward()
    kernels.DenseWeights.pack([block] * groups, dtype, result=torch.float32)(x.detach())

import irnscale.kernels.dense
irnscale.kernels.dense.use_triton = lambda x: True
dense(9, 3, torch.bfloat16, 1, 16)
if everything:
    dense(3, 45, torch.bfloat16, 2, 208)  # enough positions for the larger programs
    dense(3, 9, torch.float32, 2, 16)
    capability = 80
    irnscale.kernels.dense_block._is_older = lambda x: True
    dense(3, 45, torch.bfloat16, 2, 16)
print(" ".join(sorted(seen)))
"""


@pytest.mark.parametrize("variants", ["few", pytest.param("everything", marks=pytest.mark.slow)])
def test_every_kernel_compiles(variants, tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path / "cache")
    script = tmp_path / "compile_kernels.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script, variants], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == [
        "additive._add",
        "bias_lrelu._backward",
        "bias_lrelu._forward",
        "coupling._apply",
        "coupling._backward",
        "dense_block._convolve",
        "dense_block._weight_gradient",
        "haar._forward",
        "haar._inverse",
        "philox._normal",
        "quantization._quantize",
        "tiling._sum_rows",
    ]
