#!/usr/bin/env bash
# Tests, speed and accuracy on a machine with one GPU, without a network, in at most 9 minutes:
#
#     bash benchmarks/gpu.sh            # gpu.json and what each step printed, in $OUT or else ./gpu-results
#     bash benchmarks/gpu.sh --small    # the same steps in miniature, also on a CPU
#
# It needs the project's packages, pytest and data/cifar10 ($DATA_DIR/cifar10); lightly and kornia take part where they
# are installed. Every step has a time-out of its own, and what it had measured by then is kept.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${OUT:-gpu-results}")
data=${DATA_DIR:-data}
python=python3
[ -x .venv/bin/python ] && python=.venv/bin/python
parts=$(mktemp -d)
trap 'rm -rf "$parts"' EXIT
mkdir -p "$out"
export WANDB_MODE=offline

step() {  # step NAME SECONDS COMMAND...: prints, also to NAME.txt; $parts/NAME.json, if it wrote one, goes to gpu.json
    local name=$1 limit=$2 began=$SECONDS status
    shift 2
    echo "== $name, at most $limit s"
    timeout --kill-after=3 "$limit" "$@" 2>&1 | tee "$out/$name.txt"
    status=${PIPESTATUS[0]}
    echo "== $name ended with status $status after $((SECONDS - began)) s"
    echo "$name $status $((SECONDS - began))" >> "$parts/steps"
    merge
}

merge() {  # everything so far, in one file
    "$python" - "$parts" "$out/gpu.json" << 'END'
import json
import subprocess
import sys
from pathlib import Path

parts, merged = map(Path, sys.argv[1:])
query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
try:
    card = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
except (OSError, subprocess.CalledProcessError):
    card = "none"
steps = {}
for line in (parts / "steps").read_text().splitlines():
    name, status, seconds = line.split()
    steps[name] = {"status": int(status), "seconds": int(seconds)}
    if (parts / f"{name}.json").is_file():
        steps[name] |= {"measured": json.loads((parts / f"{name}.json").read_text())}
merged.write_text(json.dumps({"card": card, "steps": steps}, indent=1))
END
}

epoch=("$python" benchmarks/epoch.py --json "$parts/epoch.json")
views=("$python" benchmarks/augmentation.py)
simclr=("$python" benchmarks/time_budget.py --data_dir "$data" --json "$parts/simclr.json")
if [ "${1:-}" = --small ]; then
    export OMP_NUM_THREADS=1
    step tests 400 "$python" -m pytest -m gpu -n 2 --device cpu
    step epoch 200 "${epoch[@]}" --encoders pooled --sides cli.py bare "lightly bf16" --batch 16 --images 256 --turn 4 \
        --rounds 1
    step views_32 60 "${views[@]}" --images 256 --seconds 0 --eager --json "$parts/views_32.json"
    step views_224 90 "${views[@]}" --size 224 --images 32 --seconds 0 --eager --json "$parts/views_224.json"
    step simclr 300 "${simclr[@]}" --seconds 60 --options --data.fraction=0.04 --data.batch_size=64 \
        --data.resident=false --data.compile=false --model.compile=false --model.encoder.preset=wide3
else
    step tests 60 "$python" -m pytest -m gpu -n 6 --dist load -v
    step epoch 75 "${epoch[@]}" --encoders resnet18 --sides cli.py resident compiled bare "lightly bf16" --batch 512 \
        --images 51200 --turn 3 --rounds 2 --at_once --patience 50
    step views_32 20 "${views[@]}" --images 4096 --seconds 6 --json "$parts/views_32.json"
    step views_224 25 "${views[@]}" --size 224 --images 512 --seconds 6 --json "$parts/views_224.json"
    step simclr 315 "${simclr[@]}" --seconds 290
fi
