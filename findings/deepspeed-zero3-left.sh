#!/usr/bin/env bash
# transformers 5.15.0, accelerate 1.15.0, DeepSpeed 0.19.6, torch 2.13.0: after a training under ZeRO-3 transformers
# loads every other model in pieces, as long as the training's arguments are somewhere in the process.
#
# Behaviour: `TrainingArguments(deepspeed=...)` leaves its settings where `from_pretrained` looks, by a weak reference,
# and so decides whether what it loads is partitioned at once. Nothing takes that back when the training is over;
# accelerate's state, one for the whole process, keeps the settings alive when arguments, trainer and model have gone
# and garbage is collected. So a model that is loaded to be measured after a training has parameters of no size, without
# a word.
# Seen, numbers in the parameters of a loaded model of 12,384: 12,384 before the training, 0 after it, 0 after a
# collection of garbage, 12,384 after `unset_hf_deepspeed_config()`.
# Guessed before: how a model is loaded depends on what `from_pretrained` is given, and ends with the trainer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.3.5 transformers==5.15.0 accelerate==1.15.0 deepspeed==0.19.6
cat > "$folder/seen.py" <<'PYTHON'
import gc
import os

import deepspeed
import torch
from deepspeed.ops import __compatible_ops__
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

ROWS = [{"input_ids": [1, 2, 3, 4], "labels": [1, 2, 3, 4]}] * 4
DEEPSPEED = {
    "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto", "train_batch_size": "auto",
    "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False, "zero_optimization": {"stage": 3},
}


def in_memory():
    return sum(parameter.numel() for parameter in LlamaForCausalLM.from_pretrained("other").parameters())


def train():
    args = TrainingArguments(
        "out", max_steps=1, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True, deepspeed=DEEPSPEED)
    trainer = Trainer(LlamaForCausalLM.from_pretrained("other"), args, train_dataset=ROWS)
    trainer.train()


__compatible_ops__["deepspeed_shm_comm"] = False  # C++ that would be built first
deepspeed.init_distributed(dist_backend="gloo", verbose=False)
LlamaForCausalLM(LlamaConfig(
    vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
)).save_pretrained("other")
before = in_memory()
train()
after = in_memory()
gc.collect()
collected = in_memory()
unset_hf_deepspeed_config()
unset = in_memory()
print(f"numbers in the parameters of what is loaded: before a training {before}, after it {after}, when garbage has "
      f"been collected {collected}, when transformers' setting has been unset {unset}")
assert before == unset == 12384 and after == collected == 0, "the behaviour has changed"
os._exit(0)
PYTHON
cd "$folder"
DS_ACCELERATOR=cpu OMP_NUM_THREADS=1 "$folder/venv/bin/torchrun" --standalone --nproc-per-node 1 "$folder/seen.py"
