"""The integers of the Philox kernel, for the test vectors: apart because importing it needs Triton."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from irnscale.kernels.philox import _philox


@triton.jit
def _words(inputs, outputs):
    words = _philox(
        tl.load(inputs).to(tl.uint32),
        tl.load(inputs + 1).to(tl.uint32),
        tl.load(inputs + 2).to(tl.uint32),
        tl.load(inputs + 3).to(tl.uint32),
        tl.load(inputs + 4).to(tl.uint32),
        tl.load(inputs + 5).to(tl.uint32),
    )
    tl.store(outputs, words[0].to(tl.int64))
    tl.store(outputs + 1, words[1].to(tl.int64))
    tl.store(outputs + 2, words[2].to(tl.int64))
    tl.store(outputs + 3, words[3].to(tl.int64))


def words_of(counter, key, device):
    """Philox4x32-10 of one counter and key, by the kernel."""
    inputs = torch.tensor([*counter, *key], dtype=torch.int64, device=device)
    outputs = torch.zeros(4, dtype=torch.int64, device=device)
    _words[(1,)](inputs, outputs, enable_fp_fusion=False)
    return tuple(outputs.tolist())
