"""Memory that tiles free is kept for the next, in programs that ask for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

WORK = """
import resource, sys
import numpy as np

kept = sys.argv[1] == "kept"
if kept:
    from irnscale.engine.memory import keep_freed_memory
    kept = keep_freed_memory()

def faults():
    for _ in range(10):
        held = [np.ones(size << 20, np.uint8) for size in (1, 5, 9, 12, 2)]
        del held
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

print(int(kept), -faults() + faults())
"""


def run(how: str) -> tuple[int, int]:
    found = subprocess.run([sys.executable, "-c", WORK, how], capture_output=True, text=True, check=True)
    kept, faults = found.stdout.split()
    return int(kept), int(faults)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts page faults as Linux does")
def test_freed_memory_is_kept():
    kept, faults = run("kept")
    if not kept:
        pytest.skip("this C library's malloc cannot be told")
    _, before = run("plain")
    assert before > 10_000, "what is to be avoided"
    assert faults < before / 20
