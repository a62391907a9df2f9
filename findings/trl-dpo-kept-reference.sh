#!/usr/bin/env bash
# TRL 1.16.0, datasets 5.2.0, transformers 5.15.0, torch 2.13.0: DPO takes reference log-probs that it kept of another
# run, with other lengths or another `ld_alpha`.
#
# Behaviour: with `precompute_ref_log_probs` they are written beside the data set and read by whoever comes with the
# same rows and weights. What else they depend on is not asked: `ld_alpha`, and `max_length` where `truncation_mode` is
# keep_end. With keep_start all is well by chance: there rows are filtered by their length, which makes other rows of
# the same ones with any other options.
# Seen, loss before the first update, where policy and reference are the same model and it must be ln 2 = .693: .693
# first; .251 with ld_alpha=.5, .123 and .053 with the last 6 and 4 tokens of a row, all after it. With nothing kept:
# .693 each time.
# Guessed before: what is kept is known by all that it depends on, so that the loss begins with ln 2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.15.0 trl==1.16.0 datasets==5.2.0
cat > "$folder/seen.py" <<'PYTHON'
import shutil

import torch
from datasets import Dataset, load_from_disk
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

WORDS = {f"w{i}": i for i in range(30)} | {"<pad>": 30, "<eos>": 31}
torch.manual_seed(0)
backend = Tokenizer(models.WordLevel(WORDS, unk_token="<pad>"))
backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>")
tokenizer.save_pretrained("model")
LlamaForCausalLM(LlamaConfig(
    vocab_size=32, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
    initializer_range=0.3, eos_token_id=31, pad_token_id=30)).save_pretrained("model")
Dataset.from_dict({
    "prompt": [f"w{i}" for i in range(8)],
    "chosen": [" " + " ".join(f"w{(i + 3 * k) % 30}" for k in range(9)) for i in range(8)],
    "rejected": [" " + " ".join(f"w{(i + 5 * k) % 30}" for k in range(4)) for i in range(8)],
}).save_to_disk("pairs")
shutil.copytree("pairs", "untouched")


def first_loss(rows, **options):
    args = DPOConfig(
        output_dir="out", report_to=[], use_cpu=True, bf16=False, per_device_train_batch_size=4, max_steps=1,
        save_strategy="no", logging_steps=1, disable_tqdm=True, precompute_ref_log_probs=True, **options)
    trainer = DPOTrainer("model", args=args, train_dataset=load_from_disk(rows), processing_class=tokenizer)
    trainer.train()
    return round(trainer.state.log_history[0]["loss"], 3)


OTHERS = (
    {"max_length": None, "ld_alpha": 0.5},
    {"max_length": 6, "truncation_mode": "keep_end"},
    {"max_length": 4, "truncation_mode": "keep_end"},
)
first = first_loss("pairs", max_length=None)
after = [first_loss("pairs", **options) for options in OTHERS]
alone = [first_loss(shutil.copytree("untouched", f"pairs{i}"), **options) for i, options in enumerate(OTHERS)]
print(f"first losses: {first}; after it, with other options {after}; the same with nothing kept {alone}")
assert {first, *alone} == {0.693} and all(abs(loss - 0.693) > 0.1 for loss in after), "the behaviour has changed"
PYTHON
cd "$folder" && "$folder/venv/bin/python" "$folder/seen.py"
