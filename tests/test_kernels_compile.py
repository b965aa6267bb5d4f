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
import sys, torch, triton, warnings
warnings.filterwarnings("error", message="TRITON_DEFAULT_FP_FUSION")
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction, mangle_type

seen = {}

def describe(value, path, constants, attributes):
    "Triton's own specialisation: ones are constants, multiples of 16 are marked."
    if isinstance(value, torch.Tensor):
        if value.data_ptr() % 16 == 0:
            attributes[path] = [["tt.divisibility", 16]]
        return mangle_type(value)
    if isinstance(value, tuple):
        return tuple(describe(v, (*path, k), constants, attributes) for k, v in enumerate(value))
    assert isinstance(value, int), value
    if value == 1:
        constants[path] = 1
        return "constexpr"
    if value % 16 == 0:
        attributes[path] = [["tt.divisibility", 16]]
    return "i32" if -(2**31) <= value < 2**31 else "i64"

def run(self, *args, grid, warmup, **kwargs):
    options = {k: kwargs.pop(k) for k in ("enable_fp_fusion", "num_warps") if k in kwargs}
    bound = dict(zip(self.arg_names, args)) | kwargs
    signature, constants, attributes = {}, {}, {}
    for k, p in enumerate(self.params):
        value = bound[p.name]
        if p.is_constexpr:
            signature[p.name], constants[(k,)] = "constexpr", value
        elif p.do_not_specialize:
            signature[p.name] = "i64"
        else:
            signature[p.name] = describe(value, (k,), constants, attributes)
    source = ASTSource(fn=self, signature=signature, constexprs=constants, attrs=attributes)
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]
    seen.setdefault(f"{self.__module__.split('.')[-1]}.{self.__name__}", []).append(ptx)

JITFunction.run = run
from irnscale.kernels import additive, bias_lrelu, coupling, dense_block, haar, philox, quantization

everything = sys.argv[1] == "everything"
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
                    y, log = step(image, image, image, activation=activation, log_det=True)
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
weights = [torch.zeros(o, i, 3, 3, dtype=torch.bfloat16) for i, o in ((9, 32), (41, 32), (73, 32), (105, 32), (137, 3))]
image = torch.zeros(1, 9, 32, 32, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
for tile in dense_block.TILES if everything else dense_block.TILES[:1]:
    dense_block.dense_block(image, dense_block.pack(weights), [w.new_zeros(len(w)) for w in weights], tile=tile)
assert any("mma" in ptx for ptx in seen["dense_block._add_source"]), "no matrix unit is used"
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
        "dense_block._add_source",
        "haar._forward",
        "haar._inverse",
        "philox._normal",
        "quantization._quantize",
        "tiling._sum_rows",
    ]
