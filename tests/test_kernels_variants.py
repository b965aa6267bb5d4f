"""What makes a variant of a kernel, and how wide its accesses are, as Triton keys and compiles it; no GPU is needed.

Each script runs in a fresh process, in which Triton is not interpreted and launches are recorded instead of made.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")

RECORDER = """
import re, torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import JITFunction, create_function_from_signature

launches, honest = [], JITFunction.run
JITFunction.run = lambda self, *args, grid, warmup, **kwargs: launches.append((self, args, kwargs | {"debug": False}))
target = GPUTarget("cuda", 90, 32)
backend = make_backend(target)

def bind(kernel, args, kwargs):
    return create_function_from_signature(kernel.signature, kernel.params, backend)(*args, **kwargs)

def keys(run):
    "What Triton looks its compiled kernels up by, of everything that `run` launches."
    launches.clear()
    run()
    return frozenset((k.__name__, str(bind(k, a, kw)[1]), str(bind(k, a, kw)[2])) for k, a, kw in launches)

def compile_all(run):
    "The PTX of everything that `run` launches."
    launches.clear()
    run()
    found = []
    for kernel, args, kwargs in launches:
        bound, specialization, options = bind(kernel, args, kwargs)
        options, *described = kernel._pack_args(backend, kwargs, bound, specialization, options)
        compiled = triton.compile(ASTSource(kernel, *described), target=target, options=options.__dict__)
        found.append(compiled.asm["ptx"])
    return found

from irnscale import kernels
from irnscale.kernels import additive, bias_lrelu, coupling, dense_block, haar, quantization

def image(channels, height, width, dtype, memory, n=1):
    return torch.zeros(n, channels, height, width, dtype=dtype).contiguous(memory_format=memory)

LAYOUTS = (torch.contiguous_format, torch.channels_last)
OPERATIONS = {
    "additive": lambda make: additive.additive_forward(make(9), make(9)),
    "quantize": lambda make: quantization.quantize(make(3)),
    "coupling": lambda make: coupling.coupling_forward(make(9), make(9), make(9)),
    "coupling of slices": lambda make: coupling.coupling_inverse(*[make(16)[:, :9]] * 3),
    "log-determinant": lambda make: coupling.coupling_forward(make(9), make(9), make(9), log_det=True),
    "haar_forward": lambda make: haar.haar_forward(make(12)),
    "haar_inverse": lambda make: haar.haar_inverse(make(48)),
    "bias_lrelu": lambda make: bias_lrelu.bias_lrelu_into(make(32), torch.zeros(32), make(144), 16),
}
"""

SIZES = """
for name, operation in OPERATIONS.items():
    for dtype in (torch.float32, torch.bfloat16):
        for memory in LAYOUTS:
            seen = {}
            for n, height, width in ((1, 2, 2), (1, 8, 16), (2, 64, 48), (1, 38, 54), (1, 512, 130), (16, 36, 36)):
                made = keys(lambda: operation(lambda c: image(c, height, width, dtype, memory, n)))
                seen.setdefault(made, []).append((n, height, width))
            assert len(seen) <= 2, (name, dtype, memory, [(sizes, sorted(k)) for k, sizes in seen.items()])
    print(name)

import irnscale.kernels.dense
irnscale.kernels.dense.use_triton = lambda x: True
outs, inputs = [32] * 4 + [3], [9 + 32 * k for k in range(5)]
block = [torch.zeros(o, i, 3, 3, requires_grad=True) for o, i in zip(outs, inputs)]
block += [torch.zeros(o, requires_grad=True) for o in outs]

def train(height, width):
    x = torch.zeros(1, 9, height, width, requires_grad=True)
    kernels.dense_blocks(x, [block], dtype=torch.bfloat16)[0].float().sum().backward()

assert len({keys(lambda: train(*size)) for size in ((1, 1), (16, 16), (33, 47), (72, 144))}) == 1, "dense block"
assert len(launches) == 15, len(launches)
print("dense block")
"""

VECTORS = """
for name, operation in OPERATIONS.items():
    if name in ("coupling of slices", "log-determinant"):
        continue
    for dtype in (torch.float32, torch.bfloat16):
        (ptx,) = compile_all(lambda: operation(lambda c: image(c, 64, 48, dtype, torch.channels_last)))
        # Haar's rows are groups of 12 channels, of which four are neighbours of one power of two: 8 bytes in bfloat16.
        wide = "v2.b32" if name.startswith("haar") and dtype == torch.bfloat16 else "v4.b32"
        for access in ("ld.global", "st.global"):
            assert re.search(rf"{access}[.\\w:]*\\.{wide}", ptx), (name, dtype, re.findall(rf"{access}[.\\w]*", ptx))
    print(name)
"""


def run(script, tmp_path):
    """The lines that a script prints."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path / "cache")
    file = tmp_path / "variants.py"
    file.write_text(RECORDER + script)
    done = subprocess.run([sys.executable, file], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


def test_no_size_of_a_picture_makes_a_variant(tmp_path):
    """Two variants at most of each operation and layout: rows that begin at multiples of 16 bytes, and others."""
    assert len(run(SIZES, tmp_path)) == 9


def test_channels_last_accesses_are_vectors(tmp_path):
    assert len(run(VECTORS, tmp_path)) == 6
