#!/bin/sh
# Everything that only a device can tell, in at most 150 seconds, each line under the figure that it fills.
# Usage: kernels/measure.sh [FOLDER [PHOTOS]]; tables go to FOLDER (the current one if none is given). With PHOTOS, some
# photographs of 12 MP as JPEG, what a folder of them takes is measured, and nothing else.
# Each line has so many seconds and is then ended; a later one goes on where Triton's cache has what it compiled.
out=${1:-.}
photos=$2
mkdir -p "$out"
code=0
figure() { echo "== $1"; }
run() { limit=$1; shift; echo "$*"; timeout "$limit" "$@" || code=1; }
keep() { limit=$1; file=$out/$2; shift 2; echo "$*"; timeout "$limit" "$@" >"$file" || code=1; cat "$file"; }

if [ -n "$photos" ]; then
    figure "a folder of photographs, JPEG in, PNG out: pictures per second"
    keep 100 folder.json irnscale bench folder --data "$photos" --backend threads --device cuda --json
    figure "decoding them and encoding pictures of a quarter of their sides alone: seconds a picture"
    run 50 python - "$photos" <<'END'
import sys, time
from io import BytesIO
from pathlib import Path
from PIL import Image
pictures = sorted(p for p in Path(sys.argv[1]).iterdir() if p.suffix.lower() in (".jpg", ".jpeg"))[:20]
start = time.perf_counter()
for path in pictures:
    image = Image.open(path).convert("RGB")
    image.reduce(4).save(BytesIO(), "PNG")
print((time.perf_counter() - start) / len(pictures))
END
    exit $code
fi

figure "the kernels compile, how long that takes, and compute right; how fast the device multiplies"
run 15 irnscale doctor
figure "the dense block's tests on the device"
run 20 python -m pytest -q -m gpu -x tests/test_kernels_dense_block.py -k "own_sizes or second or packed"
figure "training step x4, 16 x 144^2: launched one by one; weight gradients on a second stream; one CUDA graph; both"
step="irnscale bench train -s 4 --device cuda --precision bfloat16 --repeats 3 --json"
keep 12 train-x4.json $step
IRNSCALE_STREAMS=2 keep 7 train-x4-streams.json $step
keep 7 train-x4-graph.json $step --cuda-graph
IRNSCALE_STREAMS=2 keep 7 train-x4-graph-streams.json $step --cuda-graph
figure "training step x2, 16 x 144^2, one CUDA graph"
keep 7 train-x2-graph.json irnscale bench train -s 2 --device cuda --precision bfloat16 --repeats 3 --cuda-graph --json
figure "round trip 3840x2160 against the paper's code in float32 without TF32 (ratio)"
NVIDIA_TF32_OVERRIDE=0 keep 12 roundtrip-4k.json irnscale bench roundtrip -s 4 --device cuda --size 3840x2160 --repeats 3 --json
figure "the same against channels-last bfloat16 under torch.compile (compiled_s over down_s + up_s)"
keep 25 roundtrip-4k-compiled.json irnscale bench roundtrip -s 4 --device cuda --size 3840x2160 --repeats 3 --compiled --json
figure "round trip 768x512 against the paper's code in float32 without TF32 (ratio)"
NVIDIA_TF32_OVERRIDE=0 keep 6 roundtrip-768.json irnscale bench roundtrip -s 4 --device cuda --size 768x512 --json
figure "each kernel beside eager torch and a copy: share of the copy's bandwidth"
run 32 irnscale bench kernels --csv "$out/benchmark.csv"
exit $code
