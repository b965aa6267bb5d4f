#!/bin/sh
# Everything that only a device can tell, in 150 seconds: tests on it, kernels, a training step, round trips.
# Usage: kernels/measure.sh [FOLDER]; tables go to FOLDER (the current one if none is given).
out=${1:-.}
mkdir -p "$out"
code=0
run() { echo "== $*"; timeout "$limit" "$@" || code=1; }
keep() { echo "== $2"; timeout "$limit" $2 >"$1" || code=1; cat "$1"; }

limit=50; run python -m pytest -q -m gpu -p no:benchmark -x tests/test_kernels_dense_block.py tests/test_engine_fused.py
limit=40; run irnscale bench kernels --csv "$out/benchmark.csv"
for scale in 4 2; do
    limit=15; keep "$out/train-x$scale.json" "irnscale bench train -s $scale --device cuda --precision bfloat16 --json"
done
for size in 3840x2160 768x512; do
    limit=15; keep "$out/roundtrip-$size.json" "irnscale bench roundtrip -s 4 --device cuda --size $size --json"
done
exit $code
