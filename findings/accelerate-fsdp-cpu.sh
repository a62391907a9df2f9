#!/usr/bin/env bash
# accelerate 1.15.0, torch 2.13.0: an FSDP plugin on ranks of CPUs is dropped without a word, and DDP runs.
#
# Behaviour: torch shards by FSDP 2 over gloo on CPUs. Accelerate takes `fsdp_plugin` there, says nothing, and wraps the model
# in DistributedDataParallel: every rank holds all weights. So a test of FSDP on CPUs by accelerate, or by a trainer
# built on it, passes without having run FSDP.
# Seen on two ranks, a layer of 64 x 64: Accelerator: DistributedDataParallel, MULTI_CPU, 4,096 weights a rank; torch's
# `fully_shard`: 2,048 a rank.
# Guessed before: sharded as torch does it, or an error that says FSDP needs an accelerator.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 accelerate==1.15.0
cat > "$folder/seen.py" <<'PYTHON'
import os

import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def held(model):
    weight = next(parameter for parameter in model.parameters() if parameter.dim() == 2)
    return (weight.to_local() if hasattr(weight, "to_local") else weight).numel()


accelerator = Accelerator(cpu=True, fsdp_plugin=FullyShardedDataParallelPlugin(fsdp_version=2))
model = nn.Linear(64, 64)
model, _ = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
plain = nn.Linear(64, 64)
fully_shard(plain, mesh=init_device_mesh("cpu", (2,)))
kind = type(model).__name__
print(f"rank {accelerator.process_index}: Accelerator: {kind}, {accelerator.distributed_type.value}, {held(model)} weights; "
      f"fully_shard: {held(plain)} weights", flush=True)
assert kind == "DistributedDataParallel" and held(model) == 4096 and held(plain) == 2048, "the behaviour has changed"
torch.distributed.barrier()
os._exit(0)
PYTHON
cd "$folder" && OMP_NUM_THREADS=1 "$folder/venv/bin/torchrun" --standalone --nproc-per-node 2 "$folder/seen.py"
