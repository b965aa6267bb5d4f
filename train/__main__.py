"""`torchrun --nproc-per-node 2 -m irnscale.train RECIPE ...`: the same as `irnscale train`."""

import sys

from irnscale.cli.main import run

run(["train", *sys.argv[1:]])
