#!/usr/bin/env bash
# torch 2.13.0, glibc 2.36: sharding a model over ranks on CPUs saves next to no memory, until glibc is told when to give
# blocks back.
#
# Behaviour: FSDP 2 gathers a layer's weights, uses them and frees them, and so with its whole gradients. On a CPU these blocks
# come from glibc. It maps large ones by themselves at first and unmaps them when they are freed; but with every such
# block that is freed it raises the size above which it does so, up to 32 MiB. From then on the blocks of a layer are cut
# from its heap, between others that live longer, and the heap does not shrink. With MALLOC_MMAP_THRESHOLD_ set, the
# size stays as it was told.
# Seen on two ranks, 24 layers of 9 MiB and AdamW, the most that a rank took above its beginning, two runs: DDP 1,071 and 994
# MiB, FSDP 2 1,036 and 1,367; with MALLOC_MMAP_THRESHOLD_=1048576 DDP 1,025 and 938, FSDP 2 383 and 299.
# Guessed before: what a rank holds, half of DDP's and a layer or two, whatever the settings of an allocator.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.3.5
cat > "$folder/seen.py" <<'PYTHON'
import os
import resource
import sys

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


torch.set_num_threads(1)
mesh = init_device_mesh("cpu", (2,))
torch.manual_seed(0)
model = nn.Sequential(*(nn.Linear(1536, 1536) for _ in range(24)))
before = most()
if sys.argv[1] == "fsdp2":
    for layer in model:
        fully_shard(layer, mesh=mesh)
    model = fully_shard(model, mesh=mesh)
else:
    model = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for _ in range(6):
    model(torch.randn(64, 1536)).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
if torch.distributed.get_rank() == 0:
    print(f"{most() - before:.0f}", flush=True)
torch.distributed.barrier()
os._exit(0)
PYTHON
cd "$folder"
took() { OMP_NUM_THREADS=1 env "${@:2}" "$folder/venv/bin/torchrun" --standalone --nproc-per-node 2 seen.py "$1" 2> /dev/null; }
ddp=$(took ddp) fsdp2=$(took fsdp2)
ddp_told=$(took ddp MALLOC_MMAP_THRESHOLD_=1048576) fsdp2_told=$(took fsdp2 MALLOC_MMAP_THRESHOLD_=1048576)
echo "MiB of a rank: DDP $ddp, FSDP 2 $fsdp2; with MALLOC_MMAP_THRESHOLD_: DDP $ddp_told, FSDP 2 $fsdp2_told"
[ $((10 * fsdp2)) -gt $((8 * ddp)) ] && [ $((2 * fsdp2_told)) -lt "$ddp_told" ] || { echo "the behaviour has changed"; exit 1; }
