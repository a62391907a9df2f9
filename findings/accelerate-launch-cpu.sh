#!/usr/bin/env bash
# accelerate 1.15.0, torch 2.13.0: without GPUs `accelerate launch --num_processes 2` starts one process, or two that do not meet.
#
# Behaviour: with `--cpu`, and without it where there are fewer than two GPUs, accelerate sets MASTER_ADDR and MASTER_PORT for two
# processes, starts the script once and leaves the second to mpirun (`--mpirun_hostfile`). It says nothing: the script trains
# alone. With `--multi_gpu` it starts two by torchrun, GPUs or not. There `PartialState()`, which an `Accelerator()` makes, is
# process 0 of 1 in both, in spite of WORLD_SIZE=2: both train alone and write the same files. `PartialState(cpu=True)` meets.
# Seen: --cpu: 0 of 1. Neither: 0 of 1. --multi_gpu: 0 of 1 twice. --multi_gpu and cpu=True: 0 of 2 and 1 of 2, MULTI_CPU.
# Guessed before: two processes over gloo with --cpu; --multi_gpu refused where there is no GPU.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 accelerate==1.15.0
cat > "$folder/seen.py" <<'PYTHON'
import sys

from accelerate import PartialState

how = sys.argv[1]
state = PartialState(cpu=True) if "cpu=True" in how else PartialState()
print(f"{how}: {state.process_index} of {state.num_processes}, {state.distributed_type.value}", flush=True)
state.destroy_process_group()
PYTHON
cd "$folder"
export CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1
seen() {
    how=$1
    shift
    venv/bin/accelerate launch "$@" --num_processes 2 --main_process_port 0 seen.py "$how" 2>> errors | tee -a seen
}
seen "--cpu" --cpu
seen "neither"
seen "--multi_gpu" --multi_gpu
seen "--multi_gpu and cpu=True" --multi_gpu
sort seen | diff - <(sort <<'EXPECTED'
--cpu: 0 of 1, NO
neither: 0 of 1, NO
--multi_gpu: 0 of 1, NO
--multi_gpu: 0 of 1, NO
--multi_gpu and cpu=True: 0 of 2, MULTI_CPU
--multi_gpu and cpu=True: 1 of 2, MULTI_CPU
EXPECTED
) || { echo "the behaviour has changed" >&2; exit 1; }
