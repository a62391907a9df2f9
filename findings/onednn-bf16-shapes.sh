#!/usr/bin/env bash
# torch 2.13.0, x86 with bfloat16 products (AVX512-BF16 or AMX): on CPUs bfloat16 products of ever new numbers of rows
# take memory for each, and oneDNN's limit does not hold it.
#
# Behaviour: torch has oneDNN compile a product for every number of rows. Two caches keep them, one upon the other:
# oneDNN's (ONEDNN_PRIMITIVE_CACHE_CAPACITY) and that of ideep, torch's layer above it (LRU_CACHE_CAPACITY), each 1,024
# unless told otherwise. What one lets go the other holds, so that only both together hold it. float32 products are
# MKL's and take nothing. A training on batches of uneven length grows so for long.
# Seen, MiB by which a process grew over products of 400 numbers of rows with one matrix of 256 x 256, on a processor
# with AMX: float32 0, bfloat16 273; with oneDNN's limit at 32 189, with ideep's 274, with both 37.
# Guessed before: nothing to speak of in all cases, since the same memory serves one product after the other; and
# oneDNN's variable as the cure where it is not so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.3.5
cat > "$folder/seen.py" <<'PYTHON'
import resource
import sys

import torch

ROWS = range(16, 416)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def multiply(rows):
    torch.nn.functional.linear(torch.ones(rows, 256, dtype=matrix.dtype), matrix)


torch.set_num_threads(1)
matrix = torch.ones(256, 256, dtype=getattr(torch, sys.argv[1]))
with torch.no_grad():
    for _ in range(20):
        multiply(ROWS[-1])
    before = resident()
    for rows in ROWS:
        multiply(rows)
print(round(resident() - before))
PYTHON
cd "$folder"
"$folder/venv/bin/python" -c "import sys, torch; sys.exit(not torch.ops.mkldnn._is_mkldnn_bf16_supported())" ||
  { echo "this processor has no bfloat16 products: nothing to be seen on it"; exit 0; }
grew() { OMP_NUM_THREADS=1 env "${@:2}" "$folder/venv/bin/python" seen.py "$1"; }
float32=$(grew float32) bfloat16=$(grew bfloat16)
onednn=$(grew bfloat16 ONEDNN_PRIMITIVE_CACHE_CAPACITY=32)
ideep=$(grew bfloat16 LRU_CACHE_CAPACITY=32)
both=$(grew bfloat16 ONEDNN_PRIMITIVE_CACHE_CAPACITY=32 LRU_CACHE_CAPACITY=32)
echo "MiB: float32 $float32, bfloat16 $bfloat16; with oneDNN's limit at 32 $onednn, with ideep's $ideep, both $both"
[ "$float32" -lt 10 ] && [ "$bfloat16" -gt 60 ] && [ $((5 * onednn)) -gt $((2 * bfloat16)) ] &&
  [ $((5 * ideep)) -gt $((2 * bfloat16)) ] && [ $((3 * both)) -lt "$bfloat16" ] ||
  { echo "the behaviour has changed"; exit 1; }
