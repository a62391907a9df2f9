#!/usr/bin/env bash
# DeepSpeed 0.19.6, torch 2.13.0: on ranks of CPUs `GatheredParameters` of several parameters gives back control before
# they are there.
#
# Behaviour: of one parameter it waits for the collective that brings it. Of several it starts a collective each, waits
# for the last alone, and leaves the others to a synchronisation of the device, which on a CPU is nothing. gloo works on
# two at a time, so that a small last one comes before a large first one. Whoever reads, copies or sends the weights at
# once has memory that nobody has written yet.
# Seen on two ranks, a parameter of 16,777,216 ones and one of 8, five times, of 4,096 numbers of the large one that are
# looked at: gathered together 4,096 are missing each time, and none two seconds later; gathered one by one none is ever
# missing.
# Guessed before: inside the context all parameters are whole, of one or of many, on any device.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.3.5 deepspeed==0.19.6
cat > "$folder/seen.py" <<'PYTHON'
import os
import time

import deepspeed
import torch
from deepspeed.ops import __compatible_ops__


class Ones(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.large = torch.nn.Parameter(torch.ones(2**24))
        self.small = torch.nn.Parameter(torch.ones(8))


def missing(model):
    return int((model.large[::4096] != 1).sum())


__compatible_ops__["deepspeed_shm_comm"] = False  # C++ that would be built first, and is not used in gathering
torch.set_num_threads(1)
deepspeed.init_distributed(dist_backend="gloo", verbose=False)
config = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}
with deepspeed.zero.Init(config_dict_or_path=config):
    model = Ones()
one_by_one, together, later = [], [], []
for _ in range(5):
    with deepspeed.zero.GatheredParameters([model.large]), deepspeed.zero.GatheredParameters([model.small]):
        one_by_one.append(missing(model))
    with deepspeed.zero.GatheredParameters([model.large, model.small]):
        together.append(missing(model))
        time.sleep(2)
        later.append(missing(model))
print(f"rank {torch.distributed.get_rank()}: of 4,096 numbers there are missing: gathered one by one {one_by_one}, "
      f"together {together}, two seconds later {later}", flush=True)
assert not any(one_by_one) and any(together) and not any(later), "the behaviour has changed"
torch.distributed.barrier()
os._exit(0)
PYTHON
cd "$folder"
DS_ACCELERATOR=cpu OMP_NUM_THREADS=1 "$folder/venv/bin/torchrun" --standalone --nproc-per-node 2 "$folder/seen.py"
